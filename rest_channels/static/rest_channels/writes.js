/*
 * Optimistic writes: shown in live lists from the moment they are made until the server's own rows
 * show them, or until they fail. Loaded with the first live list.
 */

/** @import { Client } from "./client.js" */
/** @import { LoadedCore } from "./live.js" */
/** @import { Key, Reply, RolledBack, Row } from "./types.js" */

/**
 * @typedef {object} Write
 * @property {string} stream
 * @property {RolledBack["action"]} action
 * @property {Key} key for a create a temporary one
 * @property {Row} data
 * @property {Key} [real] the key of a created row, once it is known
 * @property {boolean} [isConfirmed] done; its event may still be under way
 * @property {WeakMap<Row, Row>} merged what it makes of rows, so that each stays the same object
 */

// A write whose reply came without a fence is shown until its event comes, at most this long.
const EVENT_PATIENCE = 10_000;
// Temporary keys that are remembered.
const MOST_KEYS = 1000;

/** @typedef {ReturnType<typeof createOverlay>} Overlay */

/** @param {Client} client */
export function createOverlay({ lists, keyField }) {
  /** @type {Write[]} */
  let writes = [];
  /** Stable keys of created rows, by stream and key. @type {Map<string, Key>} */
  const stable = new Map();
  /** Promises of real keys, by temporary key. @type {Map<unknown, Promise<Key>>} */
  const created = new Map();
  /** @type {WeakSet<Row>} */
  const pending = new WeakSet();

  const listsOf = (/** @type {string} */ stream) => lists().filter((list) => list.stream === stream);
  const changed = (/** @type {Write} */ { stream }) => listsOf(stream).forEach((list) => list.publish());

  /** @param {string} stream @param {Row} row @returns {Key} */
  function keyOf(stream, row) {
    const name = keyField(stream);
    const key = row[name];
    if (key !== undefined) return key;
    throw new TypeError(
      `A row of '${stream}' must have '${name}', or connect(url, { keys: { ${stream}: ... } }) must name its key.`,
    );
  }

  /** @param {Write} write @param {Reply} reply */
  function confirm(write, { data, fenced }) {
    const isRow = typeof data === "object" && data !== null;
    if (write.action === "create" && isRow) setReal(write, keyOf(write.stream, data));
    if (fenced) return drop(write);
    write.isConfirmed = true;
    if (isRow) {
      write.data = data;
      write.merged = new WeakMap();
    }
    setTimeout(drop, EVENT_PATIENCE, write);
    changed(write);
  }

  /** @param {Write} write */
  function drop(write) {
    if (!writes.includes(write)) return;
    writes = writes.filter((other) => other !== write);
    changed(write);
  }

  /** @param {Write} write @param {Key} real */
  function setReal(write, real) {
    const { stream, key } = write;
    stable.delete(`${stream} ${write.real}`); // it was a guess
    for (const other of writes) {
      if (other !== write && other.stream === stream && other.key === key) other.key = real;
    }
    write.real = real;
    remember(stable, `${stream} ${real}`, key);
  }

  /** @param {Write} write @param {LoadedCore} list @param {Key[]} keys @param {Map<Key, Row>} byKey */
  function apply({ stream, action, key, real = key, data, merged, isConfirmed }, list, keys, byKey) {
    const conditions = filtersOf(list);
    const remove = () => byKey.delete(key) && keys.splice(keys.indexOf(key), 1);
    const insert = (/** @type {Key} */ key, /** @type {Row} */ row) => {
      const at = placeOf(list, row, keys, byKey);
      // Whether it belongs behind the end of a full window only the server knows.
      const mayBeBehind = at === keys.length && at >= list.window;
      if (byKey.has(key) || mayBeBehind || !conditions.every((isMet) => isMet(row))) return;
      keys.splice(at, 0, key);
      byKey.set(key, row);
    };
    if (action === "destroy") return remove();
    if (action === "create") return insert(real, data);
    const other = listsOf(stream).find(({ base }) => base.byKey.has(key));
    const before = byKey.get(key) ?? other?.base.byKey.get(key);
    if (!before) return;
    const after = merged.get(before) ?? { ...before, ...data };
    merged.set(before, after);
    if (!isConfirmed) pending.add(after);
    if (!byKey.has(key)) return insert(key, after);
    byKey.set(key, after);
    if (conditions.some((isMet) => isMet(before) && !isMet(after))) remove();
  }

  return {
    keyOf,

    /**
     * Show a write until `reply` has come, and its rows; return the reply.
     *
     * @param {RolledBack} what
     * @param {Promise<Reply>} reply
     * @param {any} more fields that the rows show beside the data
     */
    async show(what, reply, more) {
      const { stream, key } = what;
      const data = { ...what.data, ...more };
      /** @type {Write} */
      const write = { ...what, data, merged: new WeakMap() };
      if (write.action === "create") {
        const field = keyField(stream);
        pending.add((write.data = { [field]: key, ...data }));
        const known = reply.then(({ data }) => data[field]);
        known.catch(() => {}); // who waits for the key receives it
        remember(created, key, known);
      }
      writes.push(write);
      changed(write);
      try {
        const answer = await reply;
        confirm(write, answer);
        return answer;
      } catch (error) {
        drop(write);
        throw error;
      }
    },

    /** Return a promise of the key of a row that is being created. @param {unknown} key a temporary one */
    realKey: (key) => created.get(key),

    /**
     * An event has come for this row; `row` is what it created.
     *
     * @param {string} stream @param {Key} key @param {Row | false} row
     */
    seen(stream, key, row) {
      const ours = writes.filter((write) => write.stream === stream);
      for (const write of ours)
        if (write.isConfirmed && (write.real ?? write.key) === key) drop(write);
      // The event of a created row may come in front of the reply that names its key.
      if (!row || ours.some(({ real }) => real === key)) return;
      const write = ours.find(
        (write) => write.action === "create" && write.real === undefined && alike(write, row),
      );
      if (write) setReal(write, key);
    },

    /** Return a key that stays the same when a temporary key turns into a real one. @param {string} stream @param {Key} key */
    stableKey: (stream, key) => stable.get(`${stream} ${key}`) ?? key,

    /** Return whether a row shows what the server has not confirmed. @param {Row} row */
    isPending: (row) => pending.has(row),

    /** Return what a list shows: its rows with the writes applied. @param {LoadedCore} list */
    draw(list) {
      const { base } = list;
      const ours = writes.filter(({ stream }) => stream === list.stream);
      if (!ours.length) return base.list;
      const keys = [...base.keys];
      const byKey = new Map(base.byKey);
      for (const write of ours) apply(write, list, keys, byKey);
      return keys.map((key) => /** @type {Row} */ (byKey.get(key)));
    },
  };
}

/** Return the conditions that the options of a list name for its rows. @param {LoadedCore} list @returns {((row: Row) => unknown)[]} */
function filtersOf({ options: { pk, query, matches }, keyOf }) {
  if (pk !== undefined) return [(row) => keyOf(row) === pk];
  if (matches) return [matches];
  return Object.entries(query ?? {}).map(([name, wanted]) => (row) => meets(row, name, wanted));
}

/** Return whether a row meets one condition of a query. @param {Row} row @param {string} name @param {any} wanted */
function meets(row, name, wanted) {
  if (name === "ordering" || (wanted ?? "") === "") return true;
  return name in row && [wanted].flat().some((value) => `${value}` === `${row[name]}`);
}

/** Guess where the server will put a row. @param {LoadedCore} list @param {Row} row @param {Key[]} keys @param {Map<Key, Row>} byKey */
function placeOf({ base, options: { compare } }, row, keys, byKey) {
  const [first = 0, last = 0] = [base.keys[0], base.keys.at(-1)];
  if (!compare) return first > last ? 0 : keys.length;
  const at = keys.findIndex((key) => compare(row, byKey.get(key)) < 0);
  return at < 0 ? keys.length : at;
}

/**
 * Return whether a row may be what a write has created: it has the same values.
 *
 * @param {Write} write @param {Row} row
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
