/* Handles for the bindings to frameworks: each is open while something shows it. */

// How long a handle that was opened to be read waits for its first subscriber, in milliseconds.
const GRACE = 5_000;

/** The snapshot without a connection: on a server, and for `null`. */
export const NOTHING = Object.freeze({
  rows: [], data: undefined, users: [], typing: [], messages: [], status: "connecting", error: null, hasMore: false,
});

const idle = { subscribe: () => () => {}, getSnapshot: () => NOTHING, stop: () => {} };

/**
 * Return functions that call methods of the handle that `read` returns, and throw if nothing is subscribed to.
 *
 * @param {() => any} read @param {string[]} methods @returns {Record<string, (...args: any[]) => any>}
 */
export function callsOf(read, methods) {
  const callOf = (/** @type {string} */ name) => (/** @type {any[]} */ ...args) => {
    const handle = read();
    if (handle?.[name]) return handle[name](...args);
    throw new TypeError(`${name}() requires a subscription: pass a value other than null.`);
  };
  return Object.fromEntries(methods.map((name) => [name, callOf(name)]));
}

/** Opens a handle when it is read, and stops it after its last subscriber. */
export class Lazy {
  #users = 0;
  /** @type {any} */
  #handle;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #open;

  /** @param {unknown} input null opens nothing @param {() => unknown} open @param {string[]} methods of the handle */
  constructor(input, open, methods = []) {
    this.#open = input === null ? () => idle : open;
    this.methods = callsOf(() => this.#read(), methods);
  }

  #read() {
    if (this.#handle) return this.#handle;
    this.#timer = setTimeout(this.#stop, GRACE);
    return (this.#handle = this.#open());
  }

  #stop = () => {
    this.#handle.stop();
    this.#handle = undefined;
  };

  getSnapshot = () => this.#read().getSnapshot();

  /** @param {() => void} callback @param {number} [grace] how long it stays open afterwards @returns {() => void} */
  subscribe = (callback, grace) => {
    const unsubscribe = this.#read().subscribe(callback);
    clearTimeout(this.#timer);
    this.#users++;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      unsubscribe();
      if (--this.#users) return;
      if (grace) this.#timer = setTimeout(this.#stop, grace);
      else this.#stop();
    };
  };

  /** Resolve after the first answer, or after a while, when the caller asks again. @returns {Promise<void>} */
  settled() {
    return new Promise((resolve) => {
      const done = () => (clearTimeout(timer), end(), resolve());
      const timer = setTimeout(done, GRACE);
      const end = this.subscribe(() => this.getSnapshot().status === "connecting" || done(), GRACE);
    });
  }
}
