/* Values that change, with the methods that React's `useSyncExternalStore` takes. */

/** Calls its subscribers; an exception of one does not keep the call from others. */
export class Store {
  /** @type {Set<() => void>} */
  #subscribers = new Set();

  /**
   * Call `callback` after each change, until the returned function is called.
   *
   * @param {() => void} callback
   */
  subscribe = (callback) => {
    const own = () => callback();
    this.#subscribers.add(own);
    return () => void this.#subscribers.delete(own);
  };

  notify() {
    for (const call of [...this.#subscribers]) {
      try {
        call();
      } catch (error) {
        console.error(error);
      }
    }
  }
}

/**
 * An async iterator that is filled from outside. `onReturn` runs once its reader leaves.
 *
 * @template T
 */
export class Channel {
  /** @type {T[]} */
  items = [];
  /** @type {((result: IteratorResult<T>) => void)[]} */
  #readers = [];
  /** @type {{ error?: unknown } | null} */
  #end = null;
  #onReturn;

  /** @param {() => void} onReturn */
  constructor(onReturn) {
    this.#onReturn = onReturn;
  }

  /** @param {T} value */
  push(value) {
    const reader = this.#readers.shift();
    if (reader) reader({ value, done: false });
    else if (!this.#end) this.items.push(value);
  }

  /** @param {{ error?: unknown }} [how] */
  end(how = {}) {
    this.#end ??= how;
    for (const reader of this.#readers.splice(0)) reader(/** @type {any} */ (this.#last()));
  }

  #last() {
    const { error } = /** @type {{ error?: unknown }} */ (this.#end);
    this.#end = {}; // an error is thrown once
    return error === undefined ? { value: undefined, done: true } : Promise.reject(error);
  }

  /** @returns {Promise<IteratorResult<T>>} */
  async next() {
    if (this.items.length) return { value: /** @type {T} */ (this.items.shift()), done: false };
    if (this.#end) return /** @type {any} */ (this.#last());
    return new Promise((resolve) => this.#readers.push(resolve));
  }

  /** @returns {Promise<IteratorResult<T>>} */
  async return() {
    this.items = [];
    this.end();
    this.#onReturn();
    return { value: undefined, done: true };
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}
