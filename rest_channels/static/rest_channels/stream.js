/* One stream of an API, a viewset or a class of `RoomConsumers`: what the application calls. */

import { createList } from "./list.js";
import { createCore, createHandle } from "./subscription.js";

/** @import { Client } from "./client.js" */
/** @import { LiveCore } from "./live.js" */
/** @import { RoomCore } from "./room.js" */
/** @import { Shown } from "./subscription.js" */
/** @import { CallOptions, Input, Key, LiveOptions, WriteOptions } from "./types.js" */

/** Modules that know a kind of subscription: each is loaded with the first subscription of its kind. */
const LOADERS = {
  live: () => import("./live.js"),
  watch: () => import("./watch.js"),
  room: () => import("./room.js"),
};

/** @typedef {keyof typeof LOADERS} Kind */

/** Those that are loaded. @type {{ live?: typeof import("./live.js"), [kind: string]: any }} */
export const kinds = {};

/** Promises of those that were asked for. @type {{ [kind in Kind]?: Promise<void> }} */
export const loading = {};

/** @param {Client} client @param {string} stream */
export function createStream(client, stream) {
  const { call, write, share, wire } = client;

  /** @param {string} action @param {object} keys @param {CallOptions} [options] */
  const read = (action, keys, options) =>
    call(stream, { action, ...keys }, { ...options, repeat: true });

  const own = {
    /** Its name: other names are actions. */
    [Symbol.toStringTag]: stream,

    /** @param {any} query @param {CallOptions} [options] */
    list: (query, options) => read("list", { query }, options),

    /** @param {Key} pk @param {CallOptions} [options] */
    retrieve: (pk, options) => read("retrieve", { pk }, options),

    /** @param {Key} [pk] @param {CallOptions} [options] */
    metadata: (pk, options) => read("metadata", { pk }, options),

    /** @param {any} data @param {WriteOptions} [options] */
    create: (data, options) => write(stream, "create", undefined, data, options),

    /** @param {Key} pk @param {any} data @param {WriteOptions} [options] */
    update: (pk, data, options) => write(stream, "update", pk, data, options),

    /** @param {Key} pk @param {any} data @param {WriteOptions} [options] */
    patch: (pk, data, options) => write(stream, "patch", pk, data, options),

    /** @param {Key} pk @param {WriteOptions} [options] */
    destroy: (pk, options) => write(stream, "destroy", pk, undefined, options),

    /**
     * Call an action of the viewset, also one with the name of a method here.
     *
     * @param {string} action @param {any} [input] @param {CallOptions} [options]
     */
    action: (action, { lookups, ...keys } = {}, options) =>
      call(stream, { action, ...lookups, ...keys }, options),

    /** @param {LiveOptions<any>} [options] */
    live(options = {}) {
      const { query, pk, headers, lookups, window = Infinity } = options;
      const core = open(["live", stream, query, pk, headers, lookups], { rows: [] }, client, options);
      return createList(client, /** @type {LiveCore} */ (core), window);
    },

    /** @param {string} of an action that reads @param {Input} [input] */
    watch(of, input = {}) {
      const core = open(["watch", stream, of, input], { data: undefined }, of, input);
      return createHandle(core, () => shownBy(core), {});
    },

    /** Join a room; with an object, call an action of this name. @param {any} name */
    join(name) {
      if (typeof name === "object") return own.action("join", name);
      const room = String(name);
      const shown = { users: [], typing: [], messages: [] };
      const core = open(["room", stream, room], shown, room, wire);
      const report = (isTyping = true) => /** @type {RoomCore} */ (core).report?.(isTyping);
      const joined = createHandle(core, () => shownBy(core), {
        /** Send a message to all members. @param {any} data @param {CallOptions} [options] */
        say(data, options) {
          report(false);
          return call(stream, { action: "send", room, data }, options);
        },

        /** Report whether this user is typing; call it as often as you like. */
        setTyping: report,

        leave: () => joined.stop(),
      });
      return joined;
    },
  };

  /**
   * Subscribe, or share the subscription.
   *
   * @template {object} S
   * @param {[Kind, ...unknown[]]} identity @param {S} shown what is shown before an answer
   * @param {any[]} args what its kind has to know
   */
  function open(identity, shown, ...args) {
    const [kind] = identity;
    const load = () => LOADERS[kind]().then((module) => void (kinds[kind] = module));
    return share(identity, (forget) => {
      const start = () =>
        kinds[kind] ? kinds[kind].become(core, ...args) : (loading[kind] = load());
      /** @type {Shown<S>} */
      const core = Object.assign(createCore(wire, stream, forget, start), { shown });
      core.ask();
      return core;
    });
  }

  return withOthers(
    own,
    (action) => (/** @type {any} */ input, /** @type {CallOptions} */ options) =>
      own.action(action, input, options),
  );
}

/** @template {object} S @param {Shown<S>} core */
const shownBy = ({ shown, status, error }) => ({ ...shown, status, error });

/**
 * Return `object` with a member for every name that it does not have.
 *
 * @param {any} object @param {(name: string) => unknown} make
 */
export function withOthers(object, make) {
  return new Proxy(object, {
    get(_, name) {
      if (name in object || typeof name === "symbol") return object[name];
      // A promise that resolves to the object looks for `then`.
      return name === "then" ? undefined : make(name);
    },
  });
}

