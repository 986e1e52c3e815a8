/* The answer of any action that reads, kept up to date. */

import { Handle, Subscription } from "./subscription.js";

/** @import { Client } from "./client.js" */
/** @import { Input, Reply, WatchSnapshot } from "./types.js" */

export class WatchCore extends Subscription {
  /** @type {any} */
  data;
  #of;
  #input;

  /**
   * @param {Client} client
   * @param {string} stream
   * @param {string} of
   * @param {Input} input
   * @param {() => void} forget
   */
  constructor(client, stream, of, input, forget) {
    super(client, stream, forget);
    this.#of = of;
    this.#input = input;
    this.ask();
  }

  frame() {
    const { lookups, pk, query, headers } = this.#input;
    const since = this.position ?? undefined;
    return { ...lookups, action: "watch", of: this.#of, pk, query, headers, since };
  }

  farewell() {
    return { action: "unwatch", request_id: this.id };
  }

  /** @param {Reply} reply */
  begin({ data, resumed }) {
    if (!resumed) this.data = data;
    return true;
  }

  /** @param {Reply} event */
  follow({ action, data }) {
    if (action === "change") this.data = data;
    return true;
  }

  clear() {
    this.data = undefined;
  }
}

/** @extends {Handle<WatchSnapshot<any>>} */
export class Watch extends Handle {
  #core;

  /** @param {WatchCore} core */
  constructor(core) {
    super(core);
    this.#core = core;
  }

  /** The latest answer; undefined before the first. @type {any} */
  get data() {
    return this.getSnapshot().data;
  }

  take() {
    return { data: this.#core.data, status: this.status, error: this.error };
  }
}
