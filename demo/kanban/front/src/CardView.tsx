/* A card: read, edited, dragged, or moved by keys. */
import { type KeyboardEvent, type PointerEvent, useState } from "react";
import { type Card, api } from "./api";
import { Face } from "./BoardView";

type Props = {
  id: string;
  card: Card;
  isPending: boolean;
  isDragged: boolean;
  onGrab: (event: PointerEvent, card: Card) => void;
  onPress: (card: Card, key: string, isMove: boolean) => void;
  onAttempt: (change: Promise<unknown>) => void;
};

export function CardView({ id, card, isPending, isDragged, onGrab, onPress, onAttempt }: Props) {
  const [isEdited, setEdited] = useState(false);
  const back = () => document.getElementById(id)?.focus();

  function onKeyDown(event: KeyboardEvent) {
    const { key, shiftKey, target, currentTarget } = event;
    if (target !== currentTarget) return;
    if (key.startsWith("Arrow")) onPress(card, key, shiftKey);
    else if (key === "Enter") setEdited(true);
    else if (key === "Delete") onAttempt(api.cards.destroy(card.id));
    else return;
    event.preventDefault();
  }

  function save(title: string) {
    setEdited(false);
    if (title.trim() && title.trim() !== card.title) onAttempt(api.cards.patch(card.id, { title: title.trim() }));
  }

  const classes = ["card", isPending && "pending", isDragged && "dragged"].filter(Boolean).join(" ");
  return (
    <li id={id} className={classes} data-card={card.id} tabIndex={0} onKeyDown={onKeyDown} onPointerDown={(event) => isEdited || onGrab(event, card)} onDoubleClick={() => setEdited(true)} aria-keyshortcuts="Shift+ArrowLeft Shift+ArrowRight Shift+ArrowUp Shift+ArrowDown Enter Delete">
      {isEdited ? (
        <textarea
          autoFocus
          defaultValue={card.title}
          aria-label="Title"
          maxLength={200}
          onFocus={({ target }) => target.select()}
          onBlur={({ target }) => save(target.value)}
          onKeyDown={(event) => {
            if (event.key === "Enter") save(event.currentTarget.value);
            if (event.key === "Escape") setEdited(false);
            if (event.key === "Enter" || event.key === "Escape") {
              event.preventDefault();
              setTimeout(back);
            }
          }}
        />
      ) : (
        <>
          <span className="title">{card.title}</span>
          <span className="foot">
            {card.author && <Face name={card.author} />}
            <button className="delete" aria-label={`Delete ${card.title}`} onClick={() => onAttempt(api.cards.destroy(card.id))}>
              ×
            </button>
            <span className="grip" aria-hidden="true" />
          </span>
        </>
      )}
    </li>
  );
}
