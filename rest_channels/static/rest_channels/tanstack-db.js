/*
 * A collection of TanStack DB that is a live list.
 *
 *     const messages = createCollection(restChannelsCollectionOptions(api.messages, { query: { room: 1 } }));
 */

/** @import { CollectionConfig } from "@tanstack/db" */
/** @import { Key, KeyOfKnown, LiveOptionsOf, LiveRows, RowOfKnown, Typed } from "./types.js" */

/** Write what a list shows to a collection; return a function that ends it. @param {LiveRows<any>} list @param {any} sync */
function follow(list, { begin, write, commit, truncate, markReady, markError }) {
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
 * @template T @template {object} [R=RowOfKnown<T>] @param {Typed<T>} stream
 * @param {NoInfer<Omit<LiveOptionsOf<T>, "matches" | "compare">> & Partial<CollectionConfig<R, KeyOfKnown<T>>>} [options] of `live()` and of the collection @returns {CollectionConfig<R, KeyOfKnown<T>> & { schema?: never }}
 */
export function restChannelsCollectionOptions(stream, options = {}) {
  const { pk, query, window, credit, headers, lookups, getKey = (/** @type {any} */ row) => row.id, ...config } = /** @type {any} */ (options);
  const api = /** @type {any} */ (stream);
  const how = { headers, lookups, optimistic: false }; // the collection itself is optimistic
  const created = new Map(); // promises of the keys of rows that are being created
  const each = (/** @type {(mutation: any) => unknown} */ write) => (/** @type {any} */ { transaction }) => Promise.all(transaction.mutations.map(write));
  return {
    getKey,
    sync: { rowUpdateMode: "full", sync: (sync) => follow(api.live({ pk, query, window, credit, headers, lookups }), sync) },
    onInsert: each(({ key, modified }) => {
      const row = api.create(modified, how);
      created.set(key, row.then(getKey));
      created.get(key).catch(() => {}); // the transaction fails with it
      return row.finally(() => created.delete(key));
    }),
    onUpdate: each(async ({ key, changes }) => api.patch((await created.get(key)) ?? key, changes, how)),
    onDelete: each(async ({ key }) => api.destroy((await created.get(key)) ?? key, how)),
    ...config,
  };
}
