/*
 * DRF viewsets over one websocket, live.
 *
 *     const api = connect("/");
 *     const message = await api.messages.create({ room: 1, text: "Hello" });
 *     const messages = api.messages.live({ query: { room: 1 }, window: 50 });
 *     messages.subscribe(() => draw(messages.rows));
 */

import { createConnection } from "./connection.js";
import { ApiError, ConnectionLost } from "./errors.js";
import { request } from "./request.js";
import { createStream, kinds, loading, withOthers } from "./stream.js";
import { createWire } from "./wire.js";

/** @import { Api, AnyStreams, CallOptions, Key, Options, RolledBack, WriteOptions } from "./types.js" */
/** @import { LoadedCore } from "./live.js" */
/** @import { Core } from "./subscription.js" */
/** @import { Call, Wire } from "./wire.js" */
/** @import { Overlay } from "./writes.js" */

export { ApiError, ConnectionLost };

let lastKey = 0; // of temporary keys

/**
 * Open a websocket to `url`, the root of a router, and return its streams as properties.
 *
 * @template {object} [S=AnyStreams]
 * @param {string | URL} url absolute, or relative to the page; http becomes ws
 * @param {Options} [options]
 * @returns {Api<S>}
 */
export function connect(url, options = {}) {
  const { api, stream } = createClient(url, options);
  return /** @type {any} */ (withOthers(api, stream));
}

/**
 * The part of a client that streams use.
 *
 * @typedef {object} Client
 * @property {Wire} wire
 * @property {Overlay} [overlay] shows optimistic writes
 * @property {() => LoadedCore[]} lists
 * @property {(list: LoadedCore) => void} [restore] give a list the rows that it had before a reload
 * @property {(stream: string) => string} keyField
 * @property {(stream: string, payload: Call["payload"], options?: CallOptions & { repeat?: boolean }) => Promise<any> & AsyncIterable<any>} call
 * @property {(stream: string, action: RolledBack["action"], pk: Key | undefined, data: any, options?: WriteOptions) => Promise<any>} write
 * @property {<C extends Core>(identity: unknown[], make: (forget: () => void) => C) => C} share
 */

/** Return an API, and what its streams are made of. @param {string | URL} url @param {Options} options */
export function createClient(url, options) {
  const { keys = {}, idempotency = true, fence = true, optimistic = true } = options;
  const address = addressOf(url, options.query);
  /** The subscriptions, by the text of their identity. @type {Map<string, Core>} */
  const cores = new Map();
  /** @type {Map<string, any>} */
  const streams = new Map();
  /** Whether this user may give writes an idempotency key; strangers may not. */
  let hasKeys = true;
  /** Shows optimistic writes, once a page has live lists. */
  const overlay = () => kinds.live?.overlayOf(inner);

  const keyField = (/** @type {string} */ stream) => keys[stream] ?? "id";
  const wire = createWire(
    {
      send: (text) => connection.send(text),
      changed: () => connection.notify(),
      hung: () => connection.lose(),
    },
    options.limits,
  );

  /** Return a stream, also one with the name of a method of this. @param {string} name */
  function stream(name) {
    const known = streams.get(name) ?? createStream(inner, name);
    streams.set(name, known);
    return known;
  }

  /** @type {Client} */
  const inner = {
    wire,
    keyField,
    lists: () => /** @type {any[]} */ ([...cores.values()]).filter(({ base }) => base),

    /** Send a frame. The promise is also an async iterator over the items of a generator action. */
    call(stream, payload, { lookups, headers = options.headers, ...how } = {}) {
      const reply = request(wire, stream, { ...lookups, ...payload, headers }, how);
      const data = reply.then(({ data }) => data);
      const iterate = () => {
        data.catch(() => {}); // the iterator throws it
        return reply.items();
      };
      return Object.assign(data, { [Symbol.asyncIterator]: iterate });
    },

    /** Write once: with a key that lets it be repeated, shown at once, confirmed by a fence. */
    async write(stream, action, pk, data, how = {}) {
      const { signal, lookups, headers = options.headers } = how;
      const key = pk ?? data?.[keyField(stream)] ?? `new-${++lastKey}`;
      const what = { stream, action, key, data };
      const send = (/** @type {Key | undefined} */ pk) =>
        sendOnce(stream, { ...lookups, action, pk, data, headers }, signal);
      const reply = overlay()?.realKey(pk)?.then(send) ?? send(pk);
      const more = how.optimistic ?? optimistic;
      const isShown = more && !Array.isArray(data);
      const show = () => overlay()?.show(what, reply, more);
      reply.catch(() => {}); // it may come before anything waits for it
      try {
        // A write that is made while the first live list is loaded is shown after that.
        const shown = isShown && (show() ?? loading.live?.then(show, () => {}));
        const { data: made } = (await shown) || (await reply);
        cores.forEach((core) => core.flush());
        return made;
      } catch (error) {
        const { rolledBack } = /** @type {any} */ (error ?? {});
        if (isShown && rolledBack === null) /** @type {any} */ (error).rolledBack = what;
        throw error;
      }
    },

    /** Return the subscription to what `identity` says: the one that there is, or a new one. */
    share(identity, make) {
      const name = JSON.stringify(identity, sorted);
      const known = cores.get(name);
      if (known) return /** @type {any} */ (known);
      const core = make(() => cores.delete(name));
      core.name = name;
      cores.set(name, core);
      return core;
    },
  };

  /** @param {string} stream @param {Call["payload"]} frame @param {AbortSignal | undefined} signal */
  async function sendOnce(stream, frame, signal) {
    const fenced = { ...frame, fence: (fence && cores.size > 0) || undefined };
    const send = (/** @type {string | undefined} */ idempotency_key = undefined) => {
      const how = { signal, repeat: !!idempotency_key, isWrite: true };
      return request(wire, stream, { ...fenced, idempotency_key }, how);
    };
    if (!idempotency || !hasKeys) return send();
    try {
      return await send(randomKey());
    } catch (error) {
      if (!(error instanceof ApiError) || !refusesKey(error)) throw error;
      const reply = await send();
      hasKeys = error.codes[0] !== "not_authenticated";
      return reply;
    }
  }

  const isKept = options.persist && options.user !== undefined;
  const ready = isKept
    ? import("./session.js")
        .then(({ keepRows }) => {
          inner.restore = keepRows(address, options.user, api, inner.lists);
        })
        .catch(console.error)
    : null;

  const connection = createConnection(
    address,
    options,
    {
      opened: () => wire.opened(() => cores.forEach((core) => core.opened())),
      received(stream, reply) {
        if (wire.receive(reply)) return;
        for (const core of cores.values()) if (core.hears(stream, reply)) core.receive(reply);
      },
      lost(isFinal, isRefused) {
        hasKeys = true; // another user may be signed in next
        cores.forEach((core) => core.lost(isRefused));
        wire.lost(isFinal);
      },
    },
    ready,
  );
  const { getState, subscribe, reconnect, close } = connection;
  const api = {
    /** The connection: its name, when it tries again, and the last close code. */
    get state() {
      return getState();
    },

    /** Writes without an answer: what is lost if the page is closed now. */
    get pending() {
      return wire.pending;
    },

    ...{ getSnapshot: getState, stream, subscribe, reconnect, close },
  };
  return { api, inner, stream };
}

/** @param {string | URL} url @param {Options["query"]} query */
function addressOf(url, query = {}) {
  const address = new URL(url, globalThis.location?.href);
  address.protocol = address.protocol.replace("http", "ws");
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, String(value));
  return address.href;
}

/** Write objects with sorted keys, so that equal ones have equal texts. @param {string} _ @param {any} value */
function sorted(_, value) {
  return value?.constructor === Object
    ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)))
    : value;
}

function randomKey() {
  return crypto.getRandomValues(new Uint32Array(4)).join("-");
}

/** Return whether the server may have refused a write only because of its key. @param {ApiError} error */
function refusesKey({ status, errors, codes: [code] }) {
  if (status === 400) return /** @type {any} */ (errors[0])?.idempotency_key;
  return code === "not_authenticated" || code === "too_many_stored_replies";
}
