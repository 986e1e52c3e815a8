/* The place under a pointer, among the other cards or columns. */

/** A place in a column, counted without the dragged card. */
export type Place = { column: number; index: number };

/** Return the number of elements in front of the first that `isBehind` the pointer. */
function indexAmong(elements: HTMLElement[], isBehind: (box: DOMRect) => boolean) {
  const behind = elements.findIndex((element) => isBehind(element.getBoundingClientRect()));
  return behind < 0 ? elements.length : behind;
}

export function placeOfCard(x: number, y: number, card: { id: number }): Place | null {
  const column = document.elementFromPoint(x, y)?.closest<HTMLElement>("[data-column]");
  if (!column) return null;
  const others = [...column.querySelectorAll<HTMLElement>("[data-card]")].filter(({ dataset }) => dataset.card !== String(card.id));
  return { column: Number(column.dataset.column), index: indexAmong(others, ({ top, height }) => y < top + height / 2) };
}

export function placeOfColumn(x: number, _y: number, column: { id: number }) {
  const others = [...document.querySelectorAll<HTMLElement>("[data-column]")].filter(({ dataset }) => dataset.column !== String(column.id));
  return { index: indexAmong(others, ({ left, width }) => x < left + width / 2) };
}
