/* A list, or one row, kept up to date with what `list` and `retrieve` show. Loaded with the first one. */

import { createRows } from "./rows.js";
import { createOverlay } from "./writes.js";

/** @import { Client } from "./client.js" */
/** @import { List } from "./list.js" */
/** @import { Rows } from "./rows.js" */
/** @import { Shown } from "./subscription.js" */
/** @import { Overlay } from "./writes.js" */
/** @import { Change, Key, LiveOptions, Reply, Row } from "./types.js" */

// Events that the server may send before the page has applied the first of them.
const CREDIT = 256;

/**
 * The additions of this module to a subscription.
 *
 * @typedef {object} Listing
 * @property {LiveOptions<any>} options
 * @property {(row: Row) => Key} keyOf
 * @property {Rows} base the rows as the server has sent them
 * @property {number} window how many rows to ask for; Infinity is all
 * @property {() => void} resize ask for as many rows as the largest window of all handles
 * @property {(row: Row) => Key} stableKey
 * @property {(row: Row) => boolean} isPending
 */

/** A list; `shown` has the rows of `base` with optimistic writes. @typedef {Shown<{ rows: Row[] }> & { readers?: Set<Reader> } & Partial<Listing>} LiveCore */
/** @typedef {LiveCore & Listing} LoadedCore */
/** A function that receives single changes. @typedef {(type: Change<any>["type"], key?: any, row?: any, after?: Key | null) => void} Reader */

/** Return what shows the optimistic writes of a client. @param {Client} client @returns {Overlay} */
export function overlayOf(client) {
  return (client.overlay ??= createOverlay(client));
}

/** Let a subscription follow a list. @param {LiveCore} unloaded @param {Client} client @param {LiveOptions<any>} options */
export function become(unloaded, client, options) {
  const { stream } = unloaded;
  const { pk, query, headers, lookups } = options;
  const { wire, keyField } = client;
  const overlay = overlayOf(client);
  let { credit = CREDIT } = options;
  let unacknowledged = 0;
  let asked = 0; // the window that was last asked for,
  let granted = 0; // and the one that the server last agreed to
  const isRow = pk !== undefined;
  const keyOf = (/** @type {Row} */ row) => overlay.keyOf(stream, row);
  const base = createRows(keyOf);

  /** @type {LoadedCore} */
  const core = Object.assign(unloaded, {
    ...{ options, keyOf, base, window: widest(), isPending: overlay.isPending },
    stableKey: (/** @type {Row} */ row) => overlay.stableKey(stream, keyOf(row)),

    resize() {
      if (widest() === core.window || !core.handles.size) return;
      core.window = widest();
      core.refusal = null;
      core.ask();
    },
  });
  const { publish, leave, refuse } = core;

  /** Return the window to ask for; the first handle is made after the first frame. */
  function widest() {
    const windows = [...unloaded.handles].map((handle) => /** @type {List} */ (handle).window);
    return windows.length ? Math.max(...windows) : (options.window ?? Infinity);
  }

  core.publish = () => {
    const rows = overlay.draw(core);
    const before = core.shown.rows;
    const isSame = rows.length === before.length && rows.every((row, i) => row === before[i]);
    if (!isSame) core.shown = { rows };
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
        /** @type {List} */ (list).window = Math.min(/** @type {List} */ (list).window, granted);
      core.window = granted;
      core.error = core.refusal = core.errorOf(reply);
      core.schedule();
      core.ask();
    } else refuse(reply);
  };

  /** @type {Reader} */
  const tell = (...change) => core.readers?.forEach((read) => read(...change));

  /** @param {Row[]} rows */
  function replace(rows) {
    const before = base.byKey;
    base.replace(rows);
    // A row may be what a write has created whose reply was lost.
    for (const [key, row] of base.byKey) if (!before.has(key)) overlay.seen(stream, key, row);
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
      const key = isGone ? (data[keyField(stream)] ?? data.pk) : keyOf(data);
      const type = isGone ? "delete" : base.byKey.has(key) ? "update" : "create";
      if (isGone) base.delete(key);
      else base.put(key, data, after);
      overlay.seen(stream, key, type === "create" && data);
      tell(type, key, data, after);
    },

    clear: () => replace([]),
  });
  client.restore?.(core);
}
