/* Async iterators: over the items of a generator action, and over the changes of a live list. Loaded with the first loop. */

/** @import { LiveCore, Reader } from "./live.js" */
/** @import { Change } from "./types.js" */

// A reader that is further behind receives all rows instead.
const MOST_CHANGES = 1000;

/**
 * Items that wait to be read. A writer calls `wake` after each push.
 *
 * @template T @typedef {T[] & { wake?: () => void }} Queue
 */

/**
 * Yield what is pushed to `queue` until `end` settles; throw what it rejects with.
 *
 * @template T
 * @param {Queue<T>} queue @param {Promise<unknown>} end @param {() => void} leave runs after the loop
 * @returns {AsyncGenerator<T, void>}
 */
export async function* drain(queue, end, leave) {
  let isOver = false;
  const over = () => {
    isOver = true;
    queue.wake?.();
  };
  end.then(over, over);
  try {
    while (queue.length || !isOver) {
      if (queue.length) yield /** @type {T} */ (queue.shift());
      else await new Promise((resolve) => (queue.wake = () => resolve(null)));
    }
    await end;
  } finally {
    leave();
  }
}

/**
 * Yield the server's changes of a list, without optimistic writes; the first one is a `reset` with all rows.
 *
 * @param {{ readonly status: string, subscribe(callback: () => void): () => void }} list
 * @param {LiveCore} core
 * @returns {AsyncGenerator<Change<any>, void>}
 */
export async function* changes(list, core) {
  /** @type {Queue<Change<any>>} */
  const queue = [];
  const reset = () => {
    queue.length = 0;
    queue.push({ type: "reset", rows: core.base?.list ?? [] });
  };
  /** @type {Reader} */
  const read = (type, key, row, after) => {
    if (type === "reset" || queue.length >= MOST_CHANGES) reset();
    else if (type === "delete") queue.push({ type, key });
    else queue.push({ type, key, row, ...(after === undefined ? {} : { after }) });
    queue.wake?.();
  };
  const readers = (core.readers ??= new Set());
  readers.add(read);
  if (core.status !== "connecting") reset();
  let stopListening = () => {};
  const end = new Promise((resolve) => {
    const look = () => list.status === "ended" && resolve(null);
    stopListening = list.subscribe(look);
    look();
  });
  yield* drain(queue, end, () => (readers.delete(read), stopListening()));
}
