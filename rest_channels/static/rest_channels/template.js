/* One element for each row, made from a template, and kept while its row is there. */

// Attributes that cannot run code, whatever a row says. In an address, a value is one encoded part.
const PLAIN = /^(alt|class|datetime|id|title|value|aria-label|data-(id|state))$/;
const ADDRESS = /^(href|src)$/;

/** @typedef {(row: any) => void} Fill */

/** @param {any} row @param {string} path */
const valueOf = (row, path) => String(path.split(".").reduce((value, name) => value?.[name], row) ?? "");

/** @param {(row: any) => string} read @param {(value: string) => void} write @returns {Fill} */
function onChange(read, write) {
  /** @type {string | undefined} */
  let last;
  return (row) => {
    const value = read(row);
    if (value !== last) write((last = value));
  };
}

/** Return the functions that write a row's values into a node. @param {Element} node @returns {Fill[]} */
export function fillsOf(node) {
  const text = node.getAttribute("data-text");
  const fills = [...node.attributes].flatMap(({ name, value }) => {
    const encode = ADDRESS.test(name) ? encodeURIComponent : PLAIN.test(name) && String;
    if (!encode || !value.includes("{")) return [];
    const read = (/** @type {any} */ row) => value.replace(/\{([\w.]+)\}/g, (_, path) => encode(valueOf(row, path)));
    return [onChange(read, (now) => node.setAttribute(name, now))];
  });
  if (text) fills.push(onChange((row) => valueOf(row, text), (now) => void (node.textContent = now)));
  return fills;
}

export class Items {
  /** @type {Map<string, { element: HTMLElement, fills: Fill[], row: any }>} */
  #items = new Map();

  /** Show `rows` in front of `template`. @param {HTMLTemplateElement} template @param {readonly any[]} rows @param {(row: any) => unknown} keyOf */
  draw(template, rows, keyOf) {
    const parent = /** @type {ParentNode & Node} */ (template.parentNode);
    // What the server has drawn is replaced, in the same frame.
    if (!this.#items.size) for (const drawn of parent.querySelectorAll(":scope > [data-key]")) drawn.remove();
    const byKey = new Map(rows.map((row) => [String(keyOf(row)), row]));
    for (const [key, { element }] of this.#items) {
      if (byKey.has(key)) continue;
      element.remove();
      this.#items.delete(key);
    }
    let next = /** @type {Node} */ (template);
    for (const [key, row] of [...byKey].reverse()) {
      const element = this.#show(template, key, row);
      // One element between the two has moved away: it is moved rather than all others.
      if (element.nextSibling?.nextSibling === next) element.nextSibling.remove();
      if (element.nextSibling !== next) parent.insertBefore(element, next);
      next = element;
    }
  }

  /** @param {HTMLTemplateElement} template @param {string} key @param {any} row */
  #show({ content, ownerDocument }, key, row) {
    let item = this.#items.get(key);
    if (!item) {
      const element = (ownerDocument.importNode(/** @type {any} */ (content.firstElementChild), true));
      element.dataset.key = key;
      item = { element, fills: [element, ...element.querySelectorAll("*")].flatMap(fillsOf), row: null };
      this.#items.set(key, item);
    }
    if (item.row !== row) for (const fill of item.fills) fill(row);
    item.row = row;
    return item.element;
  }
}
