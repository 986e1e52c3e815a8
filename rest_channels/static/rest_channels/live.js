/* A list, or one row, kept up to date with what `list` and `retrieve` show. */

import { Rows } from "./rows.js";
import { Channel } from "./store.js";
import { Handle, Subscription } from "./subscription.js";

/** @import { Client } from "./client.js" */
/** @import { Change, Key, LiveOptions, LiveSnapshot, Reply, Row } from "./types.js" */

// Events that the server may send before the page has applied the first of them.
const CREDIT = 256;
// A reader that is further behind receives all rows instead.
const MOST_CHANGES = 1000;

export class LiveCore extends Subscription {
  /** @type {Row[]} */
  rows = [];
  /** The rows to ask for; Infinity is all. */
  window = 0;
  /** @type {Set<Channel<Change<any>>>} */
  readers = new Set();
  #credit;
  #unacknowledged = 0;
  #options;

  /**
   * @param {Client} client
   * @param {string} stream
   * @param {LiveOptions<any>} options
   * @param {() => void} forget
   */
  constructor(client, stream, options, forget) {
    super(client, stream, forget);
    this.#options = options;
    this.#credit = options.credit ?? CREDIT;
    this.base = new Rows((row) => client.keyOf(stream, row));
  }

  /** Go on from rows that were stored. @param {{ position: string, rows: Row[] }} stored */
  restore({ position, rows }) {
    this.position = position;
    this.base.replace(rows);
    this.status = "stale";
    this.rows = this.base.list;
  }

  frame() {
    const { pk, query, headers, lookups } = this.#options;
    const isRow = pk !== undefined;
    const window = this.window === Infinity ? undefined : this.window;
    this.#unacknowledged = 0;
    return {
      ...lookups,
      action: isRow ? "subscribe_instance" : "subscribe",
      ...{ pk, query, headers, snapshot: true, credit: this.#credit || undefined },
      ...(isRow ? {} : { ordered: true, window }),
      ...(this.position === null ? {} : { since: this.position, held: this.base.keys }),
    };
  }

  farewell() {
    const isRow = this.#options.pk !== undefined;
    return { action: isRow ? "unsubscribe_instance" : "unsubscribe", request_id: this.id };
  }

  /** Ask for as many rows as the largest window of all handles. */
  resize() {
    const window = Math.max(
      0,
      ...[...this.handles].map((handle) => /** @type {LiveList} */ (handle).window),
    );
    if (window === this.window || !this.handles.size) return;
    this.window = window;
    this.ask();
  }

  /** @param {Reply} reply */
  begin({ data, resumed }) {
    if (data === null) return !!resumed; // else a reset follows
    this.base.replace(Array.isArray(data) ? data : [data]);
    this.#tell({ type: "reset", rows: this.base.list });
    return true;
  }

  /** @param {Reply} event */
  follow({ action, data, after }) {
    if (action === "sync") return true;
    this.#unacknowledged++;
    if (action === "delete") {
      const key = data[this.client.keyField(this.stream)] ?? data.pk;
      this.base.delete(key);
      this.client.writes.seen(this.stream, key);
      this.#tell({ type: "delete", key });
      return true;
    }
    const key = this.client.keyOf(this.stream, data);
    const type = this.base.byKey.has(key) ? "update" : "create";
    this.base.put(data, after);
    this.client.writes.seen(this.stream, key, type === "create" ? data : undefined);
    this.#tell({ type, key, row: data, ...(after === undefined ? {} : { after }) });
    return true;
  }

  /** @param {Reply} reply */
  refuse(reply) {
    if (this.#credit && reply.response_status === 400 && reply.codes?.[0] === "invalid") {
      this.#credit = 0; // the stream may have an action `ack` of its own
      return this.ask();
    }
    super.refuse(reply);
  }

  clear() {
    this.base.replace([]);
    this.#tell({ type: "reset", rows: [] });
  }

  publish() {
    const rows = this.client.writes.draw(this);
    const isSame = rows.length === this.rows.length && rows.every((row, i) => row === this.rows[i]);
    if (!isSame) this.rows = rows;
    super.publish();
    // The page has applied them: the server may send more.
    if (!this.#credit || this.#unacknowledged < this.#credit / 2) return;
    this.#unacknowledged = 0;
    this.client.wire.post(this.stream, {
      action: "ack",
      request_id: this.id,
      data: { position: this.position },
    });
  }

  /** Return whether a row belongs to the list, as far as its query says. @param {Row} row */
  includes(row) {
    const { matches, query, pk } = this.#options;
    if (pk !== undefined) return this.client.keyOf(this.stream, row) === pk;
    return matches
      ? matches(row)
      : Object.entries(query ?? {}).every((condition) => meets(row, ...condition));
  }

  /**
   * Return whether a change of fields that the query names has moved a row out.
   *
   * @param {Row} before
   * @param {Row} after
   */
  wasMovedOut(before, after) {
    const { matches, query, pk } = this.#options;
    if (pk !== undefined) return false;
    if (matches) return matches(before) && !matches(after);
    return Object.entries(query ?? {}).some(
      (condition) => meets(before, ...condition) && !meets(after, ...condition),
    );
  }

  /**
   * Guess where the server will put a row.
   *
   * @param {Row} row
   * @param {Key[]} keys
   * @param {Map<Key, Row>} byKey
   */
  placeOf(row, keys, byKey) {
    const { compare } = this.#options;
    if (compare) {
      const at = keys.findIndex((key) => compare(row, /** @type {Row} */ (byKey.get(key))) < 0);
      return at < 0 ? keys.length : at;
    }
    const [first, last] = [this.base.keys[0], this.base.keys.at(-1)];
    return first !== undefined && last !== undefined && first > last ? 0 : keys.length;
  }

  /** @param {Change<any>} change */
  #tell(change) {
    for (const reader of this.readers) {
      if (change.type === "reset" || reader.items.length >= MOST_CHANGES) {
        reader.items = [];
        reader.push({ type: "reset", rows: this.base.list });
      } else reader.push(change);
    }
  }
}

/**
 * Return whether a row meets one condition of a query.
 *
 * @param {Row} row
 * @param {string} name
 * @param {any} wanted
 */
function meets(row, name, wanted) {
  if (name === "ordering" || wanted === undefined || wanted === null || wanted === "") return true;
  return name in row && [wanted].flat().some((value) => String(value) === String(row[name]));
}

/** @extends {Handle<LiveSnapshot<any>>} */
export class LiveList extends Handle {
  #core;
  /** @type {Set<Channel<any>>} */
  #channels = new Set();
  /** @type {{ all: Row[], window: number, rows: Row[] }} */
  #slice = { all: [], window: 0, rows: [] };
  /** @type {{ rows: readonly Row[], byKey: Map<Key, Row> }} */
  #index = { rows: [], byKey: new Map() };

  /** @param {LiveCore} core @param {number} window */
  constructor(core, window) {
    super(core);
    this.#core = core;
    this.window = window;
    core.resize();
  }

  /** @type {readonly any[]} */
  get rows() {
    return this.getSnapshot().rows;
  }

  /** @type {ReadonlyMap<any, any>} */
  get byKey() {
    const { rows } = this;
    if (this.#index.rows !== rows) {
      const { client, stream } = this.#core;
      this.#index = { rows, byKey: new Map(rows.map((row) => [client.keyOf(stream, row), row])) };
    }
    return this.#index.byKey;
  }

  /** Show `n` rows more. @param {number} n */
  grow(n) {
    this.window = Math.max(1, this.window + n);
    this.#core.resize();
    this.update();
  }

  stop() {
    super.stop();
    for (const channel of this.#channels) channel.return();
    this.#core.resize();
  }

  /**
   * Return a row's key for a user interface; it stays when a temporary key turns into a real one.
   *
   * @param {Row} row
   */
  keyOf(row) {
    const { client, stream } = this.#core;
    return client.writes.stableKey(stream, client.keyOf(stream, row));
  }

  /** Return whether a row shows what the server has not confirmed yet. @param {Row} row */
  isPending(row) {
    return this.#core.client.writes.isPending(row);
  }

  take() {
    const { rows: all, status, error } = this.#core;
    const { window } = this;
    if (this.#slice.all !== all || this.#slice.window !== window) {
      this.#slice = { all, window, rows: all.length > window ? all.slice(0, window) : all };
    }
    const { rows } = this.#slice;
    const isGrowing = status === "live" && this.#core.isAsking;
    return { rows, status: this.status, error, hasMore: rows.length >= window || isGrowing };
  }

  /** The server's changes, without optimistic writes; the first one is a `reset` with all rows. */
  [Symbol.asyncIterator]() {
    const { readers, base, status } = this.#core;
    /** @type {Channel<Change<any>>} */
    const channel = new Channel(() => (readers.delete(channel), this.#channels.delete(channel)));
    readers.add(channel);
    this.#channels.add(channel);
    if (status !== "connecting") channel.push({ type: "reset", rows: base.list });
    return channel;
  }
}
