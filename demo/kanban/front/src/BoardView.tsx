/* A board: columns of cards, and who looks at it. */
import { type FormEvent, type KeyboardEvent, useEffect, useMemo, useRef, useState } from "react";
import { useLive, useRoom } from "rest-channels/react";
import { type Board, type Card, type Column, api, between } from "./api";
import { CardView } from "./CardView";
import { type Place, placeOfCard, placeOfColumn } from "./places";
import { useDrag } from "./useDrag";

const byPosition = (a: Card | Column, b: Card | Column) => a.position - b.position || (a.id > b.id ? 1 : -1);

export function BoardView({ board, counts }: { board: Board; counts: Record<string, number> }) {
  const query = { board: board.id };
  const columns = useLive(api.columns, { query });
  const cards = useLive(api.cards, { query });
  const { users } = useRoom(api.at_board, board.id);
  const [said, say] = useState("");
  const [trouble, setTrouble] = useState("");

  /** Every change shows at once; this shows why one was taken back. */
  const attempt = (change: Promise<unknown>) =>
    change.then(
      () => setTrouble(""),
      (error) => setTrouble(error.fields?.title?.[0] ?? error.errors?.[0] ?? "That could not be saved, and was taken back."),
    );
  const inOrder = useMemo(() => columns.rows.toSorted(byPosition), [columns.rows]);
  const cardsOf = useMemo(() => {
    const sorted = Map.groupBy(cards.rows.toSorted(byPosition), ({ column }) => column);
    return (column: number) => sorted.get(column) ?? [];
  }, [cards.rows]);

  /** Put a card between others: `index` counts those of the column without it. */
  function move(card: Card, { column, index }: Place) {
    const others = cardsOf(column).filter(({ id }) => id !== card.id);
    const position = between(others[index - 1], others[index]);
    say(`${card.title}: ${ordered.find(({ id }) => id === column)?.title}, ${index + 1} of ${others.length + 1}`);
    attempt(api.cards.patch(card.id, { column, position }));
  }

  /** Put a column between others: `index` counts them without it. */
  function moveColumn(column: Column, { index }: { index: number }) {
    const others = inOrder.filter(({ id }) => id !== column.id);
    say(`${column.title}: ${index + 1} of ${inOrder.length}`);
    if (inOrder[index]?.id !== column.id) attempt(api.columns.patch(column.id, { position: between(others[index - 1], others[index]) }));
  }

  // What keys have moved is drawn elsewhere, and keeps the focus until it goes to something else.
  const kept = useRef<string | null>(null);
  useEffect(() => {
    if (document.activeElement === document.body && kept.current) document.getElementById(kept.current)?.focus();
  });

  /** Shift and an arrow move a card; an arrow alone moves the focus. */
  function press(card: Card, key: string, isMove: boolean) {
    const at = ordered.findIndex(({ id }) => id === card.column);
    const index = cardsOf(card.column).findIndex(({ id }) => id === card.id);
    const [x, y] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key] ?? [0, 0];
    const column = ordered[at + x!];
    if (!column) return;
    const there = cardsOf(column.id);
    const place = Math.min(Math.max(index + y!, 0), x && isMove ? there.length : there.length - 1);
    if (isMove) {
      kept.current = `card-${cards.keyOf(card)}`;
      move(card, { column: column.id, index: place });
    } else if (there[place]) document.getElementById(`card-${cards.keyOf(there[place])}`)?.focus();
  }

  /** Shift and an arrow move a column. */
  function pressColumn(column: Column, { key, shiftKey, currentTarget }: KeyboardEvent) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[key];
    const index = inOrder.indexOf(column) + (step ?? 0);
    if (!step || !shiftKey || !inOrder[index]) return;
    kept.current = currentTarget.id;
    moveColumn(column, { index });
  }

  /** The color of a column, which it keeps wherever it goes. */
  const hueOf = (column: Column) => 250 + 65 * inOrder.filter(({ id }) => id !== column.id && !(id > column.id)).length;

  const { drag, grab } = useDrag(placeOfCard, move);
  const { drag: columnDrag, grab: grabColumn } = useDrag(placeOfColumn, moveColumn);
  // A dragged column is drawn where it would go.
  const ordered = columnDrag?.place ? inOrder.filter(({ id }) => id !== columnDrag.item.id).toSpliced(columnDrag.place.index, 0, columnDrag.item) : inOrder;
  /** The cards of a column, and null where the dragged one would go. */
  function withGap(column: number): (Card | null)[] {
    const there = cardsOf(column);
    if (drag?.place?.column !== column) return there;
    const after = there.filter(({ id }) => id !== drag.item.id)[drag.place.index];
    return there.toSpliced(after ? there.indexOf(after) : there.length, 0, ...([null] as never[]));
  }

  // The server knows the board of a column; the list, which asks for the cards of a board, shows the card at once.
  const add = (column: Column, title: string) =>
    attempt(api.cards.create({ column: column.id, title, position: between(cardsOf(column.id).at(-1)) }, { optimistic: { board: board.id } }));

  return (
    <main onPointerDownCapture={() => (kept.current = null)}>
      <div className="heading">
        <h1>{board.title}</h1>
        <ul className="people" aria-label="Here now">
          {users.map(({ id, username }) => (
            <li key={id}>
              <Face name={username} />
            </li>
          ))}
        </ul>
        <p className="hint">
          Drag cards and columns, or press <kbd>Shift</kbd> and an arrow
        </p>
      </div>
      {trouble && (
        <p className="trouble" role="alert">
          {trouble} <button onClick={() => setTrouble("")}>Close</button>
        </p>
      )}
      <div className="columns">
        {ordered.map((column) => (
          <section
            key={columns.keyOf(column)}
            className={columnDrag?.item.id === column.id ? "column lifted" : "column"}
            data-column={column.id}
            aria-labelledby={`column-${column.id}`}
            style={{ "--hue": hueOf(column) } as object}
          >
            <h2 id={`column-${column.id}`} onPointerDown={(event) => grabColumn(event, column)}>
              {column.title} <span className="count">{counts[column.id] ?? 0}</span>
              <button id={`grip-${columns.keyOf(column)}`} className="grip" aria-label={`Move ${column.title}`} aria-keyshortcuts="Shift+ArrowLeft Shift+ArrowRight" onKeyDown={(event) => pressColumn(column, event)} />
            </h2>
            <ol>
              {withGap(column.id).map((card) =>
                card ? (
                  <CardView key={cards.keyOf(card)} id={`card-${cards.keyOf(card)}`} card={card} isPending={cards.isPending(card)} isDragged={drag?.item.id === card.id} onGrab={grab} onPress={press} onAttempt={attempt} />
                ) : (
                  <li key="gap" className="gap" aria-hidden="true" />
                ),
              )}
            </ol>
            <AddForm label="Add a card" onAdd={(title) => add(column, title)} />
          </section>
        ))}
        {columns.status === "live" && (
          <div className="column new">
            <AddForm label="Add a column" onAdd={(title) => attempt(api.columns.create({ board: board.id, title, position: between(ordered.at(-1)) }))} />
          </div>
        )}
      </div>
      {drag?.place && (
        <div className="card ghost" style={{ left: drag.x, top: drag.y, width: drag.width }} aria-hidden="true">
          <span>{drag.item.title}</span>
          <span className="foot">
            <Face name={drag.item.author} />
          </span>
        </div>
      )}
      <p className="hidden" aria-live="polite">
        {said}
      </p>
    </main>
  );
}

export function Face({ name }: { name: string }) {
  const hue = [...name].reduce((sum, letter) => sum + letter.charCodeAt(0) * 47, 0) % 360;
  return (
    <span className="face" style={{ "--hue": hue } as object} title={name} role="img" aria-label={name}>
      {name[0]?.toUpperCase()}
    </span>
  );
}

function AddForm({ label, onAdd }: { label: string; onAdd: (title: string) => void }) {
  const [title, setTitle] = useState("");
  function submit(event: FormEvent) {
    event.preventDefault();
    if (title.trim()) onAdd(title.trim());
    setTitle("");
  }
  return (
    <form className="add" onSubmit={submit}>
      <input value={title} onChange={({ target }) => setTitle(target.value)} placeholder={`+ ${label}`} aria-label={label} maxLength={200} />
    </form>
  );
}
