/* One stream of an API: what the application calls. */

import { LiveCore, LiveList } from "./live.js";
import { Room, RoomCore } from "./room.js";
import { Watch, WatchCore } from "./watch.js";

/** @import { Client } from "./client.js" */
/** @import { CallOptions, Input, Key, LiveOptions, WriteOptions } from "./types.js" */

/** A viewset, or a class of `RoomConsumers`. */
export class Stream {
  #client;
  #name;

  /** @param {Client} client @param {string} name */
  constructor(client, name) {
    this.#client = client;
    this.#name = name;
  }

  /** Its name: other names are actions. */
  get [Symbol.toStringTag]() {
    return this.#name;
  }

  /** @param {string} action @param {object} keys @param {CallOptions} [options] */
  #read(action, keys, options = {}) {
    return this.#client.call(this.#name, { action, ...keys }, { ...options, repeat: true });
  }

  list = (/** @type {any} */ query, /** @type {CallOptions} */ options) =>
    this.#read("list", { query }, options);

  retrieve = (/** @type {Key} */ pk, /** @type {CallOptions} */ options) =>
    this.#read("retrieve", { pk }, options);

  metadata = (/** @type {Key} */ pk, /** @type {CallOptions} */ options) =>
    this.#read("metadata", { pk }, options);

  create = (/** @type {any} */ data, /** @type {WriteOptions} */ options = {}) =>
    this.#client.write(this.#name, "create", undefined, data, options);

  update = (
    /** @type {Key} */ pk,
    /** @type {any} */ data,
    /** @type {WriteOptions} */ options = {},
  ) => this.#client.write(this.#name, "update", pk, data, options);

  patch = (
    /** @type {Key} */ pk,
    /** @type {any} */ data,
    /** @type {WriteOptions} */ options = {},
  ) => this.#client.write(this.#name, "patch", pk, data, options);

  destroy = (/** @type {Key} */ pk, /** @type {WriteOptions} */ options = {}) =>
    this.#client.write(this.#name, "destroy", pk, undefined, options);

  /**
   * Call an action of the viewset, also one with the name of a method here.
   *
   * @param {string} name
   * @param {any} [input]
   * @param {CallOptions} [options]
   */
  action = (name, { lookups, ...keys } = {}, options = {}) =>
    this.#client.call(this.#name, { action: name, ...lookups, ...keys }, options);

  /** @param {LiveOptions<any>} [options] */
  live = (options = {}) => {
    const { query, pk, headers, lookups, window = Infinity } = options;
    const core = this.#client.share(
      ["live", this.#name, query, pk, headers, lookups],
      (key, forget) => {
        const made = new LiveCore(this.#client, this.#name, options, forget);
        const stored = this.#client.restore(key);
        if (stored) made.restore(stored);
        return made;
      },
    );
    return new LiveList(core, window);
  };

  /** @param {string} of an action that reads @param {Input} [input] */
  watch = (of, input = {}) => {
    const make = (/** @type {string} */ _, /** @type {() => void} */ forget) =>
      new WatchCore(this.#client, this.#name, of, input, forget);
    return new Watch(this.#client.share(["watch", this.#name, of, input], make));
  };

  /** Join a room; with an object, call an action of this name. @param {any} room */
  join = (room) => {
    if (typeof room === "object") return this.action("join", room);
    const name = String(room);
    const make = (/** @type {string} */ _, /** @type {() => void} */ forget) =>
      new RoomCore(this.#client, this.#name, name, forget);
    return new Room(this.#client.share(["room", this.#name, name], make));
  };
}
