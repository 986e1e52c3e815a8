/* The API of the package dcrf-client: import dcrf from "rest-channels/dcrf". */

import { createClient as open } from "./client.js";

/** @import { Client } from "./client.js" */
/** @import { SubscribeOptions } from "./observe.js" */

/** @typedef {{ pkField?: string, ensurePkFieldInDeleteEvents?: boolean, websocket?: any, preprocessPayload?: (stream: string, payload: any, requestId: string) => any, preprocessMessage?: (message: any) => any }} DCRFOptions */

let lastId = 0;
const newId = () => `dcrf-${++lastId}`;
/** Give an error the fields of a reply. @param {any} error @param {{ action: string, request_id: string }} sent */
const replyOf = (error, { action, request_id }) => Object.assign(error, error.status && { action, request_id, data: null, response_status: error.status });
/** Give a promise a method that aborts `stop`. @param {Promise<any>} promise @param {AbortController} stop */
const cancelable = (promise, stop) => Object.assign(promise, { cancel: async () => !stop.signal.aborted && (stop.abort(), true) });

export class DCRFClient {
  #start = (/** @type {Client} */ _client) => {};
  #started = /** @type {Promise<Client>} */ (new Promise((resolve) => (this.#start = resolve)));
  #stops = /** @type {Set<AbortController>} */ (new Set());
  /** @param {string} action @returns {(stream: string, data?: object, id?: string) => Promise<any>} */
  #all = (action) => (stream, data = {}, id) => this.request(stream, { action, data }, id);
  /** @param {string} action @returns {(stream: string, pk: string | number, data?: object, id?: string) => Promise<any>} */
  #row = (action) => (stream, pk, data = {}, id) => this.request(stream, { action, pk, data }, id);
  list = this.#all("list");
  create = this.#all("create");
  retrieve = this.#row("retrieve");
  update = this.#row("update");
  patch = this.#row("patch");
  delete = this.#row("delete");

  /** @param {string} url @param {DCRFOptions} [options] */
  constructor(url, options = {}) {
    for (const name of Object.keys(options)) if (/^(dispatcher|transport|queue|serializer|build)/.test(name)) throw new TypeError(`'${name}' is not supported: remove it.`);
    this.url = url;
    this.options = options;
    this.pkField = options.pkField ?? "pk";
  }

  /** Connect; until then, requests wait. */
  initialize = () => {
    if (this.client) return this;
    const { api, inner } = open(this.url, { WebSocket: this.options.websocket?.WebSocket });
    this.client = api;
    this.#start(inner);
    return this;
  };

  close = async (unsubscribe = true) => (unsubscribe && this.unsubscribeAll(), this.client?.close());

  /** Send a request; read its replies. @param {string} stream @param {object} payload @param {string} request_id @param {(call: any) => any} read @param {AbortSignal} [signal] */
  async #call(stream, payload, request_id, read, signal) {
    const client = await this.#started;
    const own = { ...payload, request_id };
    const message = { stream, payload: this.options.preprocessPayload?.(stream, own, request_id) ?? own };
    const sent = this.options.preprocessMessage?.(message) ?? message;
    const call = client.call(sent.stream, sent.payload, { signal, repeat: /^(list|retrieve)$/.test(sent.payload.action) });
    return read(call).catch((/** @type {any} */ error) => { throw replyOf(error, sent.payload); });
  }

  /** @param {string} stream @param {object} payload @returns {Promise<any>} */
  request = (stream, payload, requestId = newId()) => this.#call(stream, payload, requestId, (call) => call);

  /** Call back with each item of a generator action. @param {string} stream @param {object} payload @param {(error: any, item: any) => void} callback */
  streamingRequest = (stream, payload, callback, requestId = newId()) => {
    const stop = new AbortController();
    const read = async (/** @type {AsyncIterable<any>} */ items) => { for await (const item of items) callback(null, item); };
    return cancelable(this.#call(stream, payload, requestId, read, stop.signal).catch((error) => stop.signal.aborted || callback(error, null)), stop);
  };

  /** @param {string} stream @param {any} args the row's key, or the arguments of another action @param {(data: any, action: string) => void} callback @param {SubscribeOptions | string} [options] */
  subscribe = (stream, args, callback, options = {}) => {
    if (!callback) throw new TypeError("subscribe() requires a callback.");
    const stop = new AbortController();
    this.#stops.add(stop);
    stop.signal.onabort = () => this.#stops.delete(stop);
    const start = async () => (await import("./observe.js")).observe(await this.#started, this, stream, args, callback, options, newId(), stop.signal);
    return cancelable(start(), stop);
  };

  unsubscribeAll = async () => [...this.#stops].map((stop) => stop.abort()).length;
}

/** Return a client that connects once it is `initialize`d. @param {string} url @param {DCRFOptions} [options] */
export const createClient = (url, options) => new DCRFClient(url, options);
/** @param {string} url @param {DCRFOptions} [options] */
export const connect = (url, options) => createClient(url, options).initialize();
export default { connect, createClient };
