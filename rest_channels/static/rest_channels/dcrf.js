/* The API of the package dcrf-client: import dcrf from "rest-channels/dcrf". */

import { ApiError, createClient as open } from "./client.js";
import { createCore } from "./subscription.js";

/** @import { Client } from "./client.js" */
/** @import { CallOptions } from "./types.js" */

/** @typedef {{ pkField?: string, ensurePkFieldInDeleteEvents?: boolean, websocket?: any, preprocessPayload?: (stream: string, payload: any, requestId: string) => any, preprocessMessage?: (message: any) => any }} DCRFOptions */
/** @typedef {{ requestId?: string, subscribeAction?: string, unsubscribeAction?: string, includeCreateEvents?: boolean }} SubscribeOptions */
/** @typedef {Promise<any> & { cancel(): Promise<boolean> }} Cancelable */

let lastId = 0;
const newId = () => `dcrf-${++lastId}`;
const UNKNOWN = /^(dispatcher|transport|queue|serializer|build)/;
/** Give an error the fields of a reply. @param {any} error @param {any} payload */
const replyOf = (error, { action, request_id }) => (error instanceof ApiError ? Object.assign(error, { action, request_id, data: null, response_status: error.status }) : error);

/** Observe with frames that the application names; those of a row resume. @param {Client} client @param {string} stream @param {any} ask @param {object} end @param {(data: any, action: string) => void} hear */
function observe(client, stream, ask, end, hear) {
  const { request_id: id, action, pk } = ask;
  const isRow = action === "subscribe_instance";
  const core = client.share(["dcrf", stream, id], (forget) => createCore(client.wire, stream, forget));
  core.id = id;
  core.become({
    frame: () => ({ ...ask, ...(isRow && core.position !== null ? { since: core.position, held: [pk] } : {}) }),
    farewell: () => end,
    begin: (reply) => (reply.action === "reset" && [reply.data].flat().forEach((row) => hear(row, "update")), true),
    follow: (event) => event.action !== "sync" && hear(event.data, /** @type {string} */ (event.action)),
    clear() {},
  });
  core.ask();
  return core;
}

export class DCRFClient {
  #start = (/** @type {Client} */ _client) => {};
  #started = /** @type {Promise<Client>} */ (new Promise((resolve) => (this.#start = resolve)));
  #cancels = /** @type {Set<() => Promise<boolean>>} */ (new Set());
  #all = (/** @type {string} */ action) => (/** @type {string} */ stream, data = {}, id = newId()) => this.request(stream, { action, data }, id);
  #row = (/** @type {string} */ action) => (/** @type {string} */ stream, /** @type {string | number} */ pk, data = {}, id = newId()) => this.request(stream, { action, pk, data }, id);
  list = this.#all("list");
  create = this.#all("create");
  retrieve = this.#row("retrieve");
  update = this.#row("update");
  patch = this.#row("patch");
  delete = this.#row("delete");

  /** @param {string} url @param {DCRFOptions} [options] */
  constructor(url, options = {}) {
    for (const name of Object.keys(options)) if (UNKNOWN.test(name)) throw new TypeError(`'${name}' is not supported: remove it.`);
    this.url = url;
    this.options = options;
    this.pkField = options.pkField ?? "pk";
  }

  /** Connect; until then, requests wait. */
  initialize = () => {
    if (this.client) return;
    const { api, inner } = open(this.url, { WebSocket: this.options.websocket?.WebSocket });
    this.client = api;
    this.#start(inner);
  };
  close = async (unsubscribe = true) => (unsubscribe && (await this.unsubscribeAll()), this.client?.close());

  /** @param {string} stream @param {object} payload @param {string} request_id @param {CallOptions} [options] @returns {Promise<any[]>} */
  async #call(stream, payload, request_id, options) {
    const client = await this.#started;
    const own = { ...payload, request_id };
    const message = { stream, payload: this.options.preprocessPayload?.(stream, own, request_id) ?? own };
    const sent = this.options.preprocessMessage?.(message) ?? message;
    return [client.call(sent.stream, sent.payload, { ...options, repeat: /^(list|retrieve)$/.test(sent.payload.action) }), sent.payload];
  }

  /** @param {string} stream @param {object} payload @returns {Promise<any>} */
  request = async (stream, payload, requestId = newId()) => {
    const [call, sent] = await this.#call(stream, payload, requestId);
    return call.catch((/** @type {unknown} */ error) => Promise.reject(replyOf(error, sent)));
  };

  /** Call back with each item of a generator action. @param {string} stream @param {object} payload @param {(error: any, item: any) => void} callback @returns {Cancelable} */
  streamingRequest = (stream, payload, callback, requestId = newId()) => {
    const stop = new AbortController();
    const run = async () => {
      const [items, sent] = await this.#call(stream, payload, requestId, { signal: stop.signal });
      try {
        for await (const item of items) callback(null, item);
      } catch (error) {
        if (!stop.signal.aborted) callback(replyOf(error, sent), null);
      }
    };
    return Object.assign(run(), { cancel: async () => !stop.signal.aborted && (stop.abort(), true) });
  };

  /** @param {string} stream @param {any} args the row's key, or the arguments of another action @param {(data: any, action: string) => void} callback @param {SubscribeOptions | string} [options] @returns {Cancelable} */
  subscribe = (stream, args, callback, options = {}) => {
    if (!callback) throw new TypeError("subscribe() requires a callback.");
    const { pkField, options: { ensurePkFieldInDeleteEvents: isEnsured = true } } = this;
    const { requestId: request_id = newId(), subscribeAction = "subscribe_instance", unsubscribeAction = "unsubscribe_instance", includeCreateEvents } = typeof options === "string" ? { requestId: options } : options;
    const keys = Object(args) === args ? args : { [subscribeAction === "subscribe_instance" ? "pk" : pkField]: args };
    const [ask, end] = [subscribeAction, unsubscribeAction].map((action) => ({ action, request_id, ...keys }));
    const hear = (/** @type {any} */ data, /** @type {string} */ action) => {
      if (!this.#cancels.has(cancel) || (action === "create" && !includeCreateEvents)) return;
      callback(action === "delete" && isEnsured && !(pkField in data) ? { [pkField]: data.pk } : data, action);
    };
    const core = this.#started.then((client) => observe(client, stream, ask, end ?? {}, hear));
    const handle = /** @type {any} */ ({});
    const settled = core.then((core) => new Promise((resolve, reject) => {
      handle.update = () => (core.status === "live" ? resolve(null) : core.error && reject(replyOf(core.error, ask)));
      core.handles.add(handle);
    }));
    const cancel = async () => this.#cancels.delete(cancel) && ((await core).leave(handle), true);
    this.#cancels.add(cancel);
    return Object.assign(settled, { cancel });
  };

  unsubscribeAll = async () => (await Promise.all([...this.#cancels].map((cancel) => cancel()))).length;
}

/** Return a client that connects once it is `initialize`d. @param {string} url @param {DCRFOptions} [options] */
export const createClient = (url, options) => new DCRFClient(url, options);
/** @param {string} url @param {DCRFOptions} [options] */
export const connect = (url, options) => {
  const client = createClient(url, options);
  client.initialize();
  return client;
};
export default { connect, createClient };
