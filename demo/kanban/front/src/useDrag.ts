/* Dragging by mouse, pen or finger: the pointer says where a card would go. */
import { type PointerEvent as ReactPointerEvent, useEffect, useRef, useState } from "react";
import type { Card } from "./api";

export type Place = { column: number; index: number };
export type Drag = { card: Card; x: number; y: number; width: number; place: Place | null };

const THRESHOLD = 5; // pixels; less is a click
const EDGE = 48; // pixels from the side of the columns in which they scroll

/** Return the place under a pointer, among the cards other than the dragged one. */
function placeAt(x: number, y: number, card: Card): Place | null {
  const column = document.elementFromPoint(x, y)?.closest<HTMLElement>("[data-column]");
  if (!column) return null;
  const others = [...column.querySelectorAll<HTMLElement>("[data-card]")].filter(({ dataset }) => dataset.card !== String(card.id));
  const below = others.findIndex((other) => {
    const { top, height } = other.getBoundingClientRect();
    return y < top + height / 2;
  });
  return { column: Number(column.dataset.column), index: below < 0 ? others.length : below };
}

export function useDrag(drop: (card: Card, place: Place) => void) {
  const [drag, setDrag] = useState<Drag | null>(null);
  const latest = useRef(drop);
  latest.current = drop;
  const end = useRef(() => {});
  useEffect(() => () => end.current(), []);

  function grab(event: ReactPointerEvent, card: Card) {
    const target = event.target as Element;
    // A finger scrolls the page, except on the grip.
    if (event.button || target.closest("button") || (event.pointerType === "touch" && !target.closest(".grip"))) return;
    const box = event.currentTarget.getBoundingClientRect();
    const [dx, dy] = [event.clientX - box.left, event.clientY - box.top];
    let now: Drag | null = null;

    const move = ({ clientX: x, clientY: y }: PointerEvent) => {
      if (!now && Math.hypot(x - event.clientX, y - event.clientY) < THRESHOLD) return;
      now = { card, x: x - dx, y: y - dy, width: box.width, place: placeAt(x, y, card) ?? now?.place ?? null };
      setDrag(now);
      const columns = document.querySelector(".columns")!;
      columns.scrollLeft += x < EDGE ? -12 : x > innerWidth - EDGE ? 12 : 0;
    };
    const stop = (isDropped: boolean) => {
      listening.abort();
      setDrag(null);
      if (isDropped && now?.place) latest.current(card, now.place);
    };
    const listening = new AbortController();
    const { signal } = listening;
    addEventListener("pointermove", move, { signal });
    addEventListener("pointerup", () => stop(true), { signal });
    addEventListener("pointercancel", () => stop(false), { signal });
    addEventListener("keydown", ({ key }) => key === "Escape" && stop(false), { signal });
    end.current = () => listening.abort();
  }

  return { drag, grab };
}
