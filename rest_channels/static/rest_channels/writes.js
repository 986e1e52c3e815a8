/*
 * Optimistic writes: shown in live lists from the moment they are made until the server's own rows
 * show them, or until they fail.
 */

/** @import { LiveCore } from "./live.js" */
/** @import { Key, Reply, Row } from "./types.js" */

/**
 * @typedef {object} Write
 * @property {string} stream
 * @property {"create" | "update" | "patch" | "destroy"} action
 * @property {Key} key for a create a temporary one
 * @property {Row} data
 * @property {Key} [real] the key of a created row, once it is known
 * @property {boolean} [isConfirmed] done; its event may still be under way
 * @property {Promise<Key>} [created] resolves to the real key
 * @property {WeakMap<Row, Row>} merged what it makes of rows, so that each stays the same object
 */

// A write whose reply came without a fence is shown until its event comes, at most this long.
const EVENT_PATIENCE = 10_000;
// Temporary keys that are remembered.
const MOST_KEYS = 1000;

let lastKey = 0;

export class Writes {
  /** @type {Write[]} */
  #writes = [];
  /** Stable keys of created rows, by stream and key. @type {Map<string, Key>} */
  #stable = new Map();
  /** @type {Map<Key, Promise<Key>>} */
  #created = new Map();
  /** @type {WeakSet<Row>} */
  #pending = new WeakSet();
  #changed;
  #find;
  #keyOf;

  /**
   * @param {(stream: string) => void} changed
   * @param {(stream: string, key: Key) => Row | undefined} find
   * @param {(stream: string, row: Row) => Key} keyOf
   */
  constructor(changed, find, keyOf) {
    this.#changed = changed;
    this.#find = find;
    this.#keyOf = keyOf;
  }

  temporaryKey() {
    return `new-${++lastKey}`;
  }

  /** @param {Omit<Write, "merged">} write @returns {Write} */
  add(write) {
    const added = { ...write, merged: new WeakMap() };
    if (added.action === "create") this.#pending.add(added.data);
    this.#writes.push(added);
    this.#changed(added.stream);
    return added;
  }

  /**
   * Remember who will know the real key of a created row.
   *
   * @param {Key} key
   * @param {Promise<Key>} created
   */
  promise(key, created) {
    remember(this.#created, key, created);
    created.catch(() => {});
  }

  /**
   * Return the key that the server knows: a promise, if it has not said it yet.
   *
   * @param {Key} key
   */
  realKey(key) {
    return this.#created.get(key);
  }

  /** @param {Write} write @param {Reply} reply */
  confirm(write, { data, fenced }) {
    const isRow = typeof data === "object" && data !== null;
    if (write.action === "create" && isRow) this.#setReal(write, this.#keyOf(write.stream, data));
    if (fenced) return this.drop(write);
    write.isConfirmed = true;
    if (isRow) {
      write.data = data;
      write.merged = new WeakMap();
    }
    setTimeout(() => this.drop(write), EVENT_PATIENCE);
    this.#changed(write.stream);
  }

  /** @param {Write} write */
  drop(write) {
    if (!this.#writes.includes(write)) return;
    this.#writes = this.#writes.filter((other) => other !== write);
    this.#changed(write.stream);
  }

  /** @param {Write} write @param {Key} real */
  #setReal(write, real) {
    if (write.real !== undefined) this.#stable.delete(`${write.stream} ${write.real}`);
    for (const other of this.#writes) {
      if (other !== write && other.stream === write.stream && other.key === write.key)
        other.key = real;
    }
    write.real = real;
    remember(this.#stable, `${write.stream} ${real}`, write.key);
  }

  /**
   * An event has come for this row; `row` is what it created.
   *
   * @param {string} stream
   * @param {Key} key
   * @param {Row} [row]
   */
  seen(stream, key, row) {
    const ours = this.#writes.filter((write) => write.stream === stream);
    for (const write of ours)
      if (write.isConfirmed && (write.real ?? write.key) === key) this.drop(write);
    // The event of a created row may come in front of the reply that names its key.
    if (!row || ours.some(({ real }) => real === key)) return;
    const write = ours.find(
      (write) => write.action === "create" && write.real === undefined && alike(write, row),
    );
    if (write) this.#setReal(write, key);
  }

  /**
   * Return a key that stays the same when a temporary key turns into a real one.
   *
   * @param {string} stream
   * @param {Key} key
   */
  stableKey(stream, key) {
    return this.#stable.get(`${stream} ${key}`) ?? key;
  }

  /** Return whether a row shows what the server has not confirmed. @param {Row} row */
  isPending(row) {
    return this.#pending.has(row);
  }

  /**
   * Return what a list shows: its rows with the writes applied.
   *
   * @param {LiveCore} list
   * @returns {Row[]}
   */
  draw(list) {
    const writes = this.#writes.filter(({ stream }) => stream === list.stream);
    if (!writes.length) return list.base.list;
    const drawing = { keys: [...list.base.keys], byKey: new Map(list.base.byKey) };
    for (const write of writes) this.#apply(write, list, drawing);
    return drawing.keys.map((key) => /** @type {Row} */ (drawing.byKey.get(key)));
  }

  /**
   * @param {Write} write
   * @param {LiveCore} list
   * @param {{ keys: Key[], byKey: Map<Key, Row> }} drawing
   */
  #apply(write, list, { keys, byKey }) {
    const { action, key, real, data } = write;
    const remove = () => byKey.delete(key) && keys.splice(keys.indexOf(key), 1);
    if (action === "destroy") return remove();
    if (action === "create") {
      const shown = real ?? key;
      if (!byKey.has(shown) && list.includes(data)) insert(list, keys, byKey, shown, data);
      return;
    }
    const before = byKey.get(key) ?? this.#find(write.stream, key);
    if (!before) return;
    const after = this.#merge(write, before);
    if (!byKey.has(key)) return list.includes(after) && insert(list, keys, byKey, key, after);
    byKey.set(key, after);
    if (list.wasMovedOut(before, after)) remove();
  }

  /** @param {Write} write @param {Row} before */
  #merge({ merged, data, isConfirmed }, before) {
    const after = merged.get(before) ?? { ...before, ...data };
    merged.set(before, after);
    if (!isConfirmed) this.#pending.add(after);
    return after;
  }
}

/**
 * @param {LiveCore} list
 * @param {Key[]} keys
 * @param {Map<Key, Row>} byKey
 * @param {Key} key
 * @param {Row} row
 */
function insert(list, keys, byKey, key, row) {
  const at = list.placeOf(row, keys, byKey);
  // Whether it belongs behind the end of a full window only the server knows.
  if (at === keys.length && keys.length >= list.window) return;
  keys.splice(at, 0, key);
  byKey.set(key, row);
}

/**
 * Return whether a row may be what a write has created: it has the same values.
 *
 * @param {Write} write
 * @param {Row} row
 */
function alike({ data, key }, row) {
  const text = (/** @type {unknown} */ value) => String(value).trim();
  const shown = Object.keys(data).filter(
    (name) => name in row && typeof row[name] !== "object" && data[name] !== key,
  );
  return shown.length > 0 && shown.every((name) => text(data[name]) === text(row[name]));
}

/** @template K, V @param {Map<K, V>} map @param {K} key @param {V} value */
function remember(map, key, value) {
  map.set(key, value);
  if (map.size > MOST_KEYS) map.delete(/** @type {K} */ (map.keys().next().value));
}
