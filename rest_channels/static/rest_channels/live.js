/* A list, or one row, kept up to date with what `list` and `retrieve` show. */

import { ApiError } from "./errors.js";
import { createRows } from "./rows.js";
import { createCore, createHandle } from "./subscription.js";

/** @import { Client } from "./client.js" */
/** @import { Rows } from "./rows.js" */
/** @import { Core } from "./subscription.js" */
/** @import { Change, Key, LiveOptions, Reply, Row } from "./types.js" */

// Events that the server may send before the page has applied the first of them.
const CREDIT = 256;


/**
 * @typedef {object} Listing
 * @property {Rows} base the rows as the server has sent them
 * @property {Row[]} rows what is shown: the rows of `base` with optimistic writes
 * @property {number} window how many rows to ask for; Infinity is all
 * @property {Set<Reader>} readers
 * @property {() => void} resize ask for as many rows as the largest window of all handles
 * @property {(row: Row) => boolean} includes whether a row belongs to the list
 * @property {(before: Row, after: Row) => boolean} wasMovedOut whether a change has moved a row out
 * @property {(row: Row, keys: Key[], byKey: Map<Key, Row>) => number} placeOf guess where the server will put a row
 */

/** @typedef {Core & Listing} LiveCore */
/** A function that receives single changes. @typedef {(type: Change<any>["type"], key?: any, row?: any, after?: Key | null) => void} Reader */

/**
 * @param {Client} client
 * @param {string} stream
 * @param {LiveOptions<any>} options
 * @param {() => void} forget
 */
export function createLiveCore({ wire, writes, keyField, keyOf }, stream, options, forget) {
  const { pk, query, headers, lookups, matches, compare } = options;
  let { credit = CREDIT } = options;
  let unacknowledged = 0;
  let asked = 0; // the window that was last asked for,
  let granted = 0; // and the one that the server last agreed to
  const isRow = pk !== undefined;
  const keyOfRow = (/** @type {Row} */ row) => keyOf(stream, row);
  const base = createRows(keyOfRow);

  /** The conditions that the options name for a row of the list. @type {((row: Row) => unknown)[]} */
  const conditions = matches
    ? [matches]
    : Object.entries(query ?? {}).map(([name, wanted]) => (row) => meets(row, name, wanted));
  if (isRow) conditions.splice(0, Infinity, (row) => keyOfRow(row) === pk);

  /** @type {LiveCore} */
  const core = Object.assign(createCore(wire, stream, forget), {
    ...{ base, rows: [], window: 0, readers: new Set() },

    resize() {
      const windows = [...core.handles].map((handle) => /** @type {LiveList} */ (handle).window);
      const window = Math.max(0, ...windows);
      if (window === core.window || !windows.length) return;
      core.window = window;
      core.refusal = null;
      core.ask();
    },

    includes: (/** @type {Row} */ row) => conditions.every((isMet) => isMet(row)),

    wasMovedOut: (/** @type {Row} */ before, /** @type {Row} */ after) =>
      conditions.some((isMet) => isMet(before) && !isMet(after)),

    placeOf(/** @type {Row} */ row, /** @type {Key[]} */ keys, /** @type {Map<Key, Row>} */ byKey) {
      const [first = 0, last = 0] = [base.keys[0], base.keys.at(-1)];
      if (!compare) return first > last ? 0 : keys.length;
      const at = keys.findIndex((key) => compare(row, byKey.get(key)) < 0);
      return at < 0 ? keys.length : at;
    },
  });
  const { publish, leave, refuse } = core;

  core.publish = () => {
    const rows = writes.draw(core);
    const isSame = rows.length === core.rows.length && rows.every((row, i) => row === core.rows[i]);
    if (!isSame) core.rows = rows;
    publish();
    // The page has applied them: the server may send more.
    if (!credit || unacknowledged < credit / 2) return;
    unacknowledged = 0;
    const data = { position: core.position };
    wire.post(stream, { action: "ack", request_id: core.id, data });
  };

  core.leave = (handle) => {
    leave(handle);
    core.resize();
  };

  core.refuse = (reply) => {
    if (credit && reply.response_status === 400 && reply.codes?.[0] === "invalid") {
      credit = 0; // the stream may have an action `ack` of its own
      core.ask();
    } else if (granted && asked > granted && reply.response_status === 400) {
      // It may not grow. The former subscription goes on, but its events since were ignored: ask again.
      for (const list of core.handles)
        /** @type {LiveList} */ (list).window = Math.min(/** @type {LiveList} */ (list).window, granted);
      core.window = granted;
      core.error = core.refusal = new ApiError(stream, reply);
      core.schedule();
      core.ask();
    } else refuse(reply);
  };

  /** @type {Reader} */
  const tell = (...change) => core.readers.forEach((read) => read(...change));

  /** @param {Row[]} rows */
  function replace(rows) {
    base.replace(rows);
    tell("reset");
  }

  core.become({
    frame() {
      unacknowledged = 0;
      asked = core.window;
      const window = asked === Infinity ? undefined : asked;
      return {
        ...lookups,
        ...{ action: isRow ? "subscribe_instance" : "subscribe", pk, query, headers },
        ...{ snapshot: true, credit: credit || undefined },
        ...(isRow ? {} : { ordered: true, window }),
        ...(core.position === null ? {} : { since: core.position, held: base.keys }),
      };
    },

    farewell: () => ({ action: isRow ? "unsubscribe_instance" : "unsubscribe", request_id: core.id }),

    begin({ data, resumed }) {
      granted = asked;
      if (data === null) return !!resumed; // else a reset follows
      replace([data].flat());
      return true;
    },

    follow({ action, data, after }) {
      if (action === "sync") return;
      unacknowledged++;
      const isGone = action === "delete";
      const key = isGone ? (data[keyField(stream)] ?? data.pk) : keyOfRow(data);
      const type = isGone ? "delete" : base.byKey.has(key) ? "update" : "create";
      if (isGone) base.delete(key);
      else base.put(key, data, after);
      writes.seen(stream, key, type === "create" && data);
      tell(type, key, data, after);
    },

    clear: () => replace([]),
  });
  return core;
}

/** Return whether a row meets one condition of a query. @param {Row} row @param {string} name @param {any} wanted */
function meets(row, name, wanted) {
  if (name === "ordering" || (wanted ?? "") === "") return true;
  return name in row && [wanted].flat().some((value) => `${value}` === `${row[name]}`);
}

/** @typedef {ReturnType<typeof createLiveList>} LiveList */

/** @param {Client} client @param {LiveCore} core @param {number} window */
export function createLiveList({ writes, keyOf }, core, window) {
  const { stream, readers } = core;
  const keyOfRow = (/** @type {Row} */ row) => keyOf(stream, row);
  const first = remember((/** @type {Row[]} */ rows, /** @type {number} */ window) =>
    rows.length > window ? rows.slice(0, window) : rows,
  );
  const index = remember((/** @type {Row[]} */ rows) => new Map(rows.map((row) => [keyOfRow(row), row])));

  const own = {
    window,

    get byKey() {
      return index(list.rows);
    },

    /** Show `n` rows more. @param {number} n */
    grow(n) {
      own.window = Math.max(1, own.window + n);
      core.resize();
      list.update();
    },

    /** Return a row's key for a user interface; it stays when the real key comes. @param {Row} row */
    keyOf: (row) => writes.stableKey(stream, keyOfRow(row)),

    /** Return whether a row shows what the server has not confirmed yet. */
    isPending: writes.isPending,

    /** The server's changes, without optimistic writes; the first one is a `reset` with all rows. */
    async *[Symbol.asyncIterator]() {
      const { changes } = await import("./iterators.js");
      yield* changes(list, core);
    },
  };
  const take = () => {
    const { status, error } = core;
    const rows = first(core.rows, own.window);
    const isGrowing = status === "live" && core.isAsking;
    return { rows, status, error, hasMore: rows.length >= own.window || isGrowing };
  };
  const list = createHandle(core, take, own);
  core.resize();
  return list;
}

/**
 * Return a function that computes again only if its arguments have changed.
 *
 * @template {unknown[]} A @template R
 * @param {(...args: A) => R} compute
 * @returns {(...args: A) => R}
 */
function remember(compute) {
  /** @type {A | undefined} */
  let last;
  /** @type {R} */
  let result;
  return (...args) => {
    if (!last?.every((value, i) => value === args[i])) result = compute(...(last = args));
    return result;
  };
}
