/* Handles for the bindings to frameworks: each is open while something shows it. */

// How long a handle that was opened to be read waits for its first subscriber, in milliseconds.
const GRACE = 5_000;

/** The snapshot without a connection: on a server, and for `null`. */
export const NOTHING = Object.freeze({
  ...{ rows: [], data: undefined, users: [], typing: [], messages: [] },
  ...{ status: "connecting", error: null, hasMore: false },
});

const idle = { subscribe: () => () => {}, getSnapshot: () => NOTHING, stop: () => {} };

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
    this.methods = Object.fromEntries(methods.map((name) => [name, this.#method(name)]));
  }

  /** @param {string} name @returns {(...args: any[]) => any} */
  #method(name) {
    return (...args) => {
      const handle = this.#read();
      if (handle === idle) throw new TypeError(`${name}() requires a subscription: pass options other than null.`);
      return handle[name](...args);
    };
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
