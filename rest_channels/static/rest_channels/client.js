/*
 * DRF viewsets over one websocket, live.
 *
 *     const api = connect("/");
 *     const message = await api.messages.create({ room: 1, text: "Hello" });
 *     const messages = api.messages.live({ query: { room: 1 }, window: 50 });
 *     messages.subscribe(() => draw(messages.rows));
 */

import { Connection, FORBIDDEN } from "./connection.js";
import { ApiError, ConnectionLost } from "./errors.js";
import { LiveCore } from "./live.js";
import { request } from "./request.js";
import { Session } from "./session.js";
import { Store } from "./store.js";
import { Stream } from "./stream.js";
import { Wire } from "./wire.js";
import { Writes } from "./writes.js";

/** @import { Api, AnyStreams, CallOptions, Key, Options, Reply, Row, WriteOptions } from "./types.js" */
/** @import { Subscription } from "./subscription.js" */

export { ApiError, ConnectionLost };

/**
 * Open a websocket to `url`, the root of a router, and return its streams as properties.
 *
 * @template {object} [S=AnyStreams]
 * @param {string | URL} url absolute, or relative to the page; http becomes ws
 * @param {Options} [options]
 * @returns {Api<S>}
 */
export function connect(url, options = {}) {
  const client = new Client(url, options);
  return /** @type {any} */ (
    new Proxy(client, {
      get: (_, name) => {
        if (name in client || typeof name === "symbol") return Reflect.get(client, name, client);
        // A promise that resolves to the API looks for `then`.
        return name === "then" ? undefined : client.stream(name);
      },
    })
  );
}

export class Client extends Store {
  /** @type {Map<string, Subscription>} */
  #cores = new Map();
  /** @type {Map<string, any>} */
  #streams = new Map();
  /** @type {Session | undefined} */
  #session;
  /** Whether this user may give writes an idempotency key; strangers may not. */
  #hasKeys = true;
  #options;
  #connection;

  /** @param {string | URL} url @param {Options} options */
  constructor(url, options) {
    super();
    this.#options = options;
    const address = addressOf(url, options.query);
    if (options.persist && options.user !== undefined)
      this.#session = new Session(address, options.user);
    const find = (/** @type {string} */ stream, /** @type {Key} */ key) => {
      for (const [, core] of this.#lists(stream))
        if (core.base.byKey.has(key)) return core.base.byKey.get(key);
      return undefined;
    };
    this.writes = new Writes(
      (stream) => this.#publish(stream),
      find,
      (stream, row) => this.keyOf(stream, row),
    );
    const owner = {
      send: (/** @type {string} */ text) => this.#connection.send(text),
      changed: () => this.notify(),
      hung: () => this.#connection.lose(),
    };
    this.wire = new Wire(owner, options.limits);
    this.#connection = new Connection(address, options, {
      opened: () => this.wire.opened(() => this.#cores.forEach((core) => core.opened())),
      received: (stream, reply) => this.#receive(stream, reply),
      lost: (isFinal) => this.#lost(isFinal),
      leaving: () => this.#session?.save(this.#lists()),
    });
    this.#connection.subscribe(() => this.notify());
  }

  /** The connection: its name, when it tries again, and the last close code. */
  get state() {
    return this.#connection.state;
  }

  getSnapshot = () => this.state;

  /** Writes without an answer: what is lost if the page is closed now. */
  get pending() {
    return this.wire.pending;
  }

  /** Connect now, for example after signing in. */
  reconnect = () => this.#connection.reconnect();

  /** End it for good; whatever waits is rejected. */
  close = () => this.#connection.close();

  /** Return a stream, also one with the name of a method of this. @param {string} name */
  stream = (name) => {
    const known = this.#streams.get(name);
    if (known) return known;
    const stream = new Stream(this, name);
    const made = new Proxy(stream, {
      get: (_, action) => {
        if (action in stream || typeof action === "symbol")
          return Reflect.get(stream, action, stream);
        if (action === "then") return undefined;
        return (/** @type {any} */ input, /** @type {any} */ options) =>
          stream.action(action, input, options);
      },
    });
    this.#streams.set(name, made);
    return made;
  };

  /** @param {string} stream @returns {string} */
  keyField(stream) {
    return this.#options.keys?.[stream] ?? "id";
  }

  /** @param {string} stream @param {Row} row @returns {Key} */
  keyOf(stream, row) {
    const name = this.keyField(stream);
    const key = row[name];
    if (key !== undefined) return key;
    throw new TypeError(
      `A row of '${stream}' must have '${name}': name its key in connect(url, { keys: { ${stream}: ... } }).`,
    );
  }

  /**
   * Send a frame. The promise is also an async iterator over the items of a generator action.
   *
   * @param {string} stream @param {{ action: string, [key: string]: unknown }} payload
   * @param {CallOptions & { repeat?: boolean, isWrite?: boolean }} options
   * @returns {Promise<any> & AsyncIterable<any>}
   */
  call(stream, payload, { signal, lookups, headers = this.#options.headers, ...how }) {
    const { reply, items } = request(
      this.wire,
      stream,
      { ...lookups, ...payload, headers },
      { signal, ...how },
    );
    const data = reply.then(({ data }) => data);
    const iterate = () => {
      data.catch(() => {}); // the iterator throws it
      return items();
    };
    return Object.assign(data, { [Symbol.asyncIterator]: iterate });
  }

  /**
   * Write once: with a key that lets it be repeated, shown at once, confirmed by a fence.
   *
   * @param {string} stream @param {"create" | "update" | "patch" | "destroy"} action
   * @param {Key | undefined} pk @param {any} data @param {WriteOptions} options
   */
  async write(
    stream,
    action,
    pk,
    data,
    { signal, lookups, headers = this.#options.headers, ...options },
  ) {
    const isShown =
      (options.optimistic ?? this.#options.optimistic ?? true) && !Array.isArray(data);
    const field = this.keyField(stream);
    const key = pk ?? data?.[field] ?? this.writes.temporaryKey();
    const row = action === "create" ? { [field]: key, ...data } : data;
    const shown = isShown ? this.writes.add({ stream, action, key, data: row }) : null;
    const created = pk === undefined ? undefined : this.writes.realKey(pk);
    const send = async () => {
      const frame = { ...lookups, action, pk: created ? await created : pk, data, headers };
      return this.#sendOnce(stream, frame, signal);
    };
    const reply = send();
    if (action === "create" && shown)
      this.writes.promise(
        key,
        reply.then(({ data }) => data[field]),
      );
    try {
      const answer = await reply;
      if (shown) this.writes.confirm(shown, answer);
      this.#cores.forEach((core) => core.flush());
      return answer.data;
    } catch (error) {
      if (shown) {
        this.writes.drop(shown);
        if (error instanceof ApiError || error instanceof ConnectionLost) {
          error.rolledBack = { stream, action, key, data };
        }
      }
      throw error;
    }
  }

  /**
   * @param {string} stream
   * @param {{ action: string }} frame
   * @param {AbortSignal | undefined} signal
   * @returns {Promise<Reply>}
   */
  async #sendOnce(stream, frame, signal) {
    const { idempotency = true, fence = true } = this.#options;
    const payload = { ...frame, fence: (fence && this.#cores.size > 0) || undefined };
    const bare = () => request(this.wire, stream, payload, { signal, isWrite: true }).reply;
    if (!idempotency || !this.#hasKeys) return bare();
    const keyed = { ...payload, idempotency_key: randomKey() };
    try {
      return await request(this.wire, stream, keyed, { signal, repeat: true, isWrite: true }).reply;
    } catch (error) {
      if (!(error instanceof ApiError) || !refusesKey(error)) throw error;
      const reply = await bare();
      this.#hasKeys = error.codes[0] !== "not_authenticated";
      return reply;
    }
  }

  /**
   * @template {Subscription} C
   * @param {unknown[]} identity
   * @param {(key: string, forget: () => void) => C} make
   * @returns {C}
   */
  share(identity, make) {
    const key = JSON.stringify(identity, sorted);
    const core = this.#cores.get(key) ?? make(key, () => this.#cores.delete(key));
    this.#cores.set(key, core);
    return /** @type {C} */ (core);
  }

  /** @param {string} key */
  restore(key) {
    return this.#session?.load(key);
  }

  /** @param {string | null} stream @param {Reply} reply */
  #receive(stream, reply) {
    if (this.wire.receive(reply) || stream === null) return;
    const core = this.#cores.get(JSON.stringify(["room", stream, reply.data?.room]));
    if (core && reply.request_id === null) core.receive(reply);
  }

  /** @param {boolean} isFinal */
  #lost(isFinal) {
    this.#hasKeys = true; // another user may be signed in next
    // Rows that this user may not see any more are not shown, and not kept.
    const isRefused = this.state.name === "signed-out" || this.state.code === FORBIDDEN;
    if (isRefused) this.#session?.clear();
    this.#cores.forEach((core) => core.lost(isRefused));
    this.wire.lost(isFinal);
  }

  /** @param {string} [stream] @returns {[string, LiveCore][]} */
  #lists(stream) {
    return /** @type {any} */ (
      [...this.#cores].filter(
        ([, core]) => core instanceof LiveCore && (!stream || core.stream === stream),
      )
    );
  }

  /** @param {string} stream */
  #publish(stream) {
    for (const [, core] of this.#lists(stream)) core.publish();
  }
}

/** @param {string | URL} url @param {Options["query"]} query */
function addressOf(url, query = {}) {
  const address = new URL(url, globalThis.location?.href);
  address.protocol = address.protocol.replace("http", "ws");
  for (const [name, value] of Object.entries(query)) address.searchParams.set(name, String(value));
  return address.href;
}

/**
 * Write objects with sorted keys, so that equal ones have equal texts.
 *
 * @param {string} _
 * @param {any} value
 */
function sorted(_, value) {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)));
}

function randomKey() {
  return Array.from(crypto.getRandomValues(new Uint32Array(4)), (number) =>
    number.toString(36),
  ).join("-");
}

/**
 * Return whether the server may have refused a write only because of its key.
 *
 * @param {ApiError} error
 */
function refusesKey({ status, errors, codes: [code] }) {
  if (status === 400) return !!(/** @type {any} */ (errors[0])?.idempotency_key);
  return code === "not_authenticated" || code === "too_many_stored_replies";
}
