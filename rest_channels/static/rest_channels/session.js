/* Rows that survive a reload of the page, in `sessionStorage`, for one user. */

/** @import { LiveCore } from "./live.js" */
/** @import { Row } from "./types.js" */

export class Session {
  #site;
  #prefix;

  /** @param {string} url @param {unknown} user */
  constructor(url, user) {
    this.#site = `rest-channels ${url} `;
    this.#prefix = `${this.#site}${JSON.stringify(user)} `;
    this.#remove((name) => !name.startsWith(this.#prefix));
  }

  /** Drop the rows of all users. */
  clear() {
    this.#remove(() => true);
  }

  /** @param {(name: string) => boolean} isOld */
  #remove(isOld) {
    for (const name of Object.keys(sessionStorage)) {
      if (name.startsWith(this.#site) && isOld(name)) sessionStorage.removeItem(name);
    }
  }

  /** @param {string} key @returns {{ position: string, rows: Row[] } | null} */
  load(key) {
    return JSON.parse(sessionStorage.getItem(this.#prefix + key) ?? "null");
  }

  /** @param {Iterable<[string, LiveCore]>} cores */
  save(cores) {
    for (const [key, { position, base }] of cores) {
      try {
        const text = JSON.stringify({ position, rows: base.list });
        if (position !== null) sessionStorage.setItem(this.#prefix + key, text);
      } catch (error) {
        sessionStorage.removeItem(this.#prefix + key); // it does not fit
        console.warn(error);
      }
    }
  }
}
