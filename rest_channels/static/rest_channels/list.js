/* A live list, as the application holds it. The module that keeps it up to date is loaded with the first one. */

import { createHandle } from "./subscription.js";

/** @import { Client } from "./client.js" */
/** @import { LiveCore, LoadedCore } from "./live.js" */
/** @import { Row } from "./types.js" */

/** @typedef {ReturnType<typeof createList>} List */

/** @param {Client} client @param {LiveCore} core @param {number} window */
export function createList(client, core, window) {
  const first = remember((/** @type {Row[]} */ rows, /** @type {number} */ window) =>
    rows.length > window ? rows.slice(0, window) : rows,
  );
  const index = remember((/** @type {Row[]} */ rows) => new Map(rows.map((row) => [/** @type {LoadedCore} */ (core).keyOf(row), row])));

  const own = {
    window,

    get byKey() {
      return index(list.rows);
    },

    /** Show `n` rows more. @param {number} n */
    grow(n) {
      own.window = Math.max(1, own.window + n);
      core.resize?.();
      list.update();
    },

    /** Return a row's key for a user interface; it stays when the real key comes. @param {Row} row */
    keyOf: (row) => core.stableKey?.(row) ?? row[client.keyField(core.stream)],

    /** Return whether a row shows what the server has not confirmed yet. @param {Row} row */
    isPending: (row) => !!core.isPending?.(row),

    /** The server's changes, without optimistic writes; the first one is a `reset` with all rows. */
    async *[Symbol.asyncIterator]() {
      const { changes } = await import("./iterators.js");
      yield* changes(list, core);
    },
  };
  const take = () => {
    const { shown, status, error } = core;
    const rows = first(shown.rows, own.window);
    const isGrowing = status === "live" && core.isAsking;
    return { rows, status, error, hasMore: rows.length >= own.window || isGrowing };
  };
  const list = createHandle(core, take, own);
  core.resize?.();
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
