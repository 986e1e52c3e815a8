/* Dragging by mouse, pen or finger: the pointer says where a card or a column would go. */
import { type PointerEvent as ReactPointerEvent, useEffect, useRef, useState } from "react";

/** What is dragged, where it is drawn, and where it would go. */
export type Drag<T, P> = { item: T; x: number; y: number; width: number; place: P | null };

const THRESHOLD = 5; // pixels; less is a click
const EDGE = 48; // pixels from the side of the columns in which they scroll

/** `placeAt` returns the place under a pointer; `drop` puts the item there. */
export function useDrag<T, P>(placeAt: (x: number, y: number, item: T) => P | null, drop: (item: T, place: P) => void) {
  const [drag, setDrag] = useState<Drag<T, P> | null>(null);
  const latest = useRef(drop);
  latest.current = drop;
  const end = useRef(() => {});
  useEffect(() => () => end.current(), []);

  function grab(event: ReactPointerEvent, item: T) {
    const target = event.target as Element;
    const isOnGrip = target.closest(".grip");
    // A finger scrolls the page, except on the grip.
    if (event.button || (!isOnGrip && (event.pointerType === "touch" || target.closest("button")))) return;
    const box = event.currentTarget.getBoundingClientRect();
    const [dx, dy] = [event.clientX - box.left, event.clientY - box.top];
    let now: Drag<T, P> | null = null;

    const move = ({ clientX: x, clientY: y }: PointerEvent) => {
      if (!now && Math.hypot(x - event.clientX, y - event.clientY) < THRESHOLD) return;
      now = { item, x: x - dx, y: y - dy, width: box.width, place: placeAt(x, y, item) ?? now?.place ?? null };
      setDrag(now);
      const columns = document.querySelector(".columns")!;
      columns.scrollLeft += x < EDGE ? -12 : x > innerWidth - EDGE ? 12 : 0;
    };
    const stop = (isDropped: boolean) => {
      listening.abort();
      setDrag(null);
      if (isDropped && now?.place) latest.current(item, now.place);
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
