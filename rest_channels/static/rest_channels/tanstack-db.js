/*
 * A collection of TanStack DB that is a live list.
 *
 *     const messages = createCollection(restChannelsCollectionOptions(api.messages, { query: { room: 1 } }));
 */

/** @import { CollectionConfig } from "@tanstack/db" */
/** @import { Key, KeyOfKnown, LiveOptionsOf, LiveRows, RowOfKnown, Typed } from "./types.js" */

/** Write what a list shows to a collection; return a function that ends it. @param {LiveRows<any>} list @param {Map<Key, Key>} names of created rows @param {any} sync */
function follow(list, names, { begin, write, commit, truncate, markReady, markError }) {
  /** @type {ReadonlyMap<Key, any>} */
  let shown = new Map();
  const show = () => {
    const { status, error, byKey } = list;
    if (status === "connecting") return;
    if (byKey !== shown) {
      begin();
      // Rows of which the permission has ended disappear at once, also while a write is pending.
      if (status === "denied") truncate({ markReady: false });
      else for (const key of shown.keys()) if (!byKey.has(key)) write({ type: "delete", key });
      for (const key of shown.keys()) if (!byKey.has(key)) names.delete(key);
      for (const [key, value] of byKey)
        if (shown.get(key) !== value) write({ type: shown.has(key) ? "update" : "insert", key, value });
      commit();
      shown = byKey;
    }
    if (status === "live" || status === "stale") markReady();
    else markError(error ?? new Error(`The list is ${status}.`));
  };
  const unsubscribe = list.subscribe(show);
  show();
  return () => (unsubscribe(), list.stop());
}

/**
 * Return the options of a collection that is a live list. Its writes are pending until the list shows the server's rows.
 * `collection.utils.keyOf(row)` is a key for a user interface: it stays when a new row gets its real key.
 * @template T @template {object} [R=RowOfKnown<T>] @param {Typed<T>} stream
 * @param {NoInfer<Omit<LiveOptionsOf<T>, "matches" | "compare">> & Partial<CollectionConfig<R, KeyOfKnown<T>>>} [options] of `live()` and of the collection @returns {CollectionConfig<R, KeyOfKnown<T>> & { schema?: never, utils: { keyOf(row: R): Key } }}
 */
export function restChannelsCollectionOptions(stream, options = {}) {
  const { pk, query, window, credit, headers, lookups, getKey = (/** @type {any} */ row) => row.id, ...config } = /** @type {any} */ (options);
  const api = /** @type {any} */ (stream);
  const how = { headers, lookups, optimistic: false }; // the collection itself is optimistic
  const created = new Map(); // promises of the keys of rows that are being created
  const names = new Map(); // the keys under which created rows were first shown
  const keyOf = (/** @type {any} */ row) => names.get(getKey(row)) ?? getKey(row);
  const each = (/** @type {(mutation: any) => unknown} */ write) => (/** @type {any} */ { transaction }) => Promise.all(transaction.mutations.map(write));
  return {
    getKey,
    sync: { rowUpdateMode: "full", sync: (sync) => follow(api.live({ pk, query, window, credit, headers, lookups }), names, sync) },
    onInsert: each(({ key, modified }) => {
      const real = api.create(modified, how).then(getKey);
      created.set(key, real);
      return real.then((/** @type {Key} */ real) => names.set(real, key)).finally(() => created.delete(key));
    }),
    onUpdate: each(async ({ key, changes }) => api.patch((await created.get(key)) ?? key, changes, how)),
    onDelete: each(async ({ key }) => api.destroy((await created.get(key)) ?? key, how)),
    ...config,
    utils: { ...config.utils, keyOf },
  };
}
