/* Rows in the server's order, by key. */

/** @import { Key, Row } from "./types.js" */

export class Rows {
  /** @type {Map<Key, Row>} */
  byKey = new Map();
  /** @type {Key[]} */
  keys = [];
  /** @type {Row[] | null} */
  #list = [];
  #keyOf;

  /** @param {(row: Row) => Key} keyOf */
  constructor(keyOf) {
    this.#keyOf = keyOf;
  }

  /** The rows in order: the same array until something changes. */
  get list() {
    return (this.#list ??= this.keys.map((key) => /** @type {Row} */ (this.byKey.get(key))));
  }

  /** @param {Row[]} rows */
  replace(rows) {
    this.byKey = new Map(rows.map((row) => [this.#keyOf(row), row]));
    this.keys = [...this.byKey.keys()];
    this.#list = null;
  }

  /**
   * Insert or change a row. It goes behind the row `after`, to the front for null; without `after`
   * it stays where it is, or goes to the end.
   *
   * @param {Row} row @param {Key | null | undefined} after
   */
  put(row, after) {
    const key = this.#keyOf(row);
    const isNew = !this.byKey.has(key);
    this.byKey.set(key, row);
    this.#list = null;
    if (!isNew && after === undefined) return;
    if (!isNew) this.keys.splice(this.keys.indexOf(key), 1);
    // Most new rows go to an end: look there first.
    const at =
      after === undefined
        ? this.keys.length
        : after === null
          ? 0
          : this.keys.lastIndexOf(after) + 1;
    this.keys.splice(at, 0, key);
  }

  /** @param {Key} key */
  delete(key) {
    if (!this.byKey.delete(key)) return;
    this.keys.splice(this.keys.lastIndexOf(key), 1);
    this.#list = null;
  }
}
