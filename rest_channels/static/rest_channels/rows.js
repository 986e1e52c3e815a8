/* Rows in the server's order, by key. */

/** @import { Key, Row } from "./types.js" */

/** @typedef {ReturnType<typeof createRows>} Rows */

/** @param {(row: Row) => Key} keyOf */
export function createRows(keyOf) {
  /** @type {Map<Key, Row>} */
  let byKey = new Map();
  /** @type {Key[]} */
  let keys = [];
  /** @type {Row[] | null} */
  let list = [];

  return {
    get byKey() {
      return byKey;
    },

    get keys() {
      return keys;
    },

    /** The rows in order: the same array until something changes. */
    get list() {
      return (list ??= keys.map((key) => /** @type {Row} */ (byKey.get(key))));
    },

    /** @param {Row[]} rows */
    replace(rows) {
      byKey = new Map(rows.map((row) => [keyOf(row), row]));
      keys = [...byKey.keys()];
      list = null;
    },

    /**
     * Insert or change a row. It goes behind the row `after`, to the front for null; without `after`
     * it stays where it is, or goes to the end.
     *
     * @param {Key} key @param {Row} row @param {Key | null} [after]
     */
    put(key, row, after) {
      const isNew = !byKey.has(key);
      byKey.set(key, row);
      list = null;
      if (!isNew && after === undefined) return;
      if (!isNew) keys.splice(keys.indexOf(key), 1);
      // Most new rows go to an end: look there first. For null, -1 is "not found".
      const at = after === undefined ? keys.length : keys.lastIndexOf(/** @type {Key} */ (after)) + 1;
      keys.splice(at, 0, key);
    },

    /** @param {Key} key */
    delete(key) {
      if (!byKey.delete(key)) return;
      keys.splice(keys.lastIndexOf(key), 1);
      list = null;
    },
  };
}
