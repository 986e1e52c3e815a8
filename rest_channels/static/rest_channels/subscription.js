/*
 * Data that the server keeps up to date. Each is subscribed to once, again after each break, and
 * shared by all handles that ask for the same.
 */

import { ApiError, retryAfter } from "./errors.js";
import { Store } from "./store.js";

/** @import { Client } from "./client.js" */
/** @import { Reply, Status } from "./types.js" */

const LONGEST_RETRY = 60_000;

/** One subscription on the wire. Subclasses make its frame, and apply its events. */
export class Subscription {
  /** @type {Set<Handle<any>>} */
  handles = new Set();
  /** @type {Status} */
  status = "connecting";
  /** @type {ApiError | null} */
  error = null;
  /** @type {string | null} */
  position = null;
  /** "waiting" for a connection or a retry, "asking", "following" events, or "stopped". */
  #phase = "waiting";
  #mustAskAgain = false;
  #isScheduled = false;
  #failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  /** @type {import("./wire.js").Call | undefined} */
  #call;
  #forget;

  /** @param {Client} client @param {string} stream @param {() => void} forget */
  constructor(client, stream, forget) {
    this.client = client;
    this.stream = stream;
    this.id = client.wire.nextId();
    const unlisten = client.wire.listen(this.id, (event) => this.receive(event));
    this.#forget = () => (unlisten(), forget());
  }

  /** Whether it has been asked for, and there is no answer yet. */
  get isAsking() {
    return this.#phase === "asking";
  }

  /** The frame that asks for it. @returns {{ action: string, [key: string]: unknown }} */
  frame() {
    throw new TypeError("frame() is a subclass's");
  }

  /** The frame that ends it. @returns {object} */
  farewell() {
    throw new TypeError("farewell() is a subclass's");
  }

  /**
   * Take the data of the reply; return whether it is complete.
   *
   * @param {Reply} _reply
   * @returns {boolean}
   */
  begin(_reply) {
    throw new TypeError("begin() is a subclass's");
  }

  /**
   * Apply an event; return false if events before it are missing.
   *
   * @param {Reply} _event
   * @returns {boolean}
   */
  follow(_event) {
    throw new TypeError("follow() is a subclass's");
  }

  /** Drop the data: this user may not see it. */
  clear() {}

  ask() {
    clearTimeout(this.#timer);
    this.#mustAskAgain = this.#phase === "asking";
    if (!this.client.wire.isOpen || this.#mustAskAgain) return;
    this.#phase = "asking";
    const payload = { request_id: this.id, ...this.frame() };
    this.#call = {
      ...{ stream: this.stream, payload, repeat: false, perConnection: true },
      onReply: (/** @type {Reply} */ reply) => this.#answer(reply),
      onLost: () => {},
    };
    this.client.wire.push(this.#call);
  }

  /** The connection is back. A refusal for good is not repeated. */
  opened() {
    this.#failures = 0;
    if (this.status !== "ended") this.ask();
  }

  /** @param {boolean} isRefused whether this user may see nothing any more */
  lost(isRefused) {
    clearTimeout(this.#timer);
    this.#phase = "waiting";
    if (isRefused) {
      this.position = null;
      this.clear();
      this.#set("denied");
    } else if (this.status === "live") this.#set("stale");
  }

  /** @param {Reply} reply */
  #answer(reply) {
    if (this.#phase === "stopped") return;
    const { response_status } = reply;
    this.#phase = "following";
    if (response_status === 429 || response_status >= 500) {
      this.error = new ApiError(this.stream, reply);
      this.#retry(retryAfter(reply) || 1000);
    } else if (response_status >= 400) this.refuse(reply);
    else {
      this.position = reply.position ?? null;
      if (this.begin(reply)) this.#set("live");
      if (this.#mustAskAgain) this.ask();
    }
  }

  /** @param {Reply} event */
  receive(event) {
    // Other phases: it belongs to the subscription that is being replaced.
    if (this.#phase !== "following") return;
    const { action, response_status, position, previous } = event;
    if (action === "revoke") {
      if (response_status < 500) this.refuse(event);
      else this.#retry(1000);
    } else if (action === "reset") {
      this.position = position ?? null;
      this.begin(event);
      this.#set("live");
    } else if (previous !== undefined && previous !== this.position) this.#retry(0);
    else {
      this.#failures = 0;
      this.position = position ?? this.position;
      if (!this.follow(event)) this.#retry(0);
      this.schedule();
    }
  }

  /** @param {Reply} reply */
  refuse(reply) {
    this.position = null;
    this.clear();
    const isDenied = [401, 403, 404].includes(reply.response_status);
    this.#set(isDenied ? "denied" : "ended", new ApiError(this.stream, reply));
  }

  /** Ask again after `delay`, and a random time that grows. @param {number} delay milliseconds */
  #retry(delay) {
    this.#phase = "waiting";
    if (this.status === "live") this.#set("stale", this.error);
    const most = this.#failures ? Math.min(LONGEST_RETRY, 500 * 2 ** this.#failures) : delay;
    this.#failures++;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.ask(), delay + Math.random() * most);
  }

  /** @param {Status} status @param {ApiError | null} error */
  #set(status, error = null) {
    this.status = status;
    this.error = error;
    this.schedule();
  }

  /** Publish soon: before the next frame is painted, or within a tenth of a second if none is. */
  schedule() {
    if (this.#isScheduled) return;
    this.#isScheduled = true;
    const isPage = "requestAnimationFrame" in globalThis;
    if (isPage) requestAnimationFrame(() => this.flush());
    setTimeout(() => this.flush(), isPage ? 100 : 0);
  }

  /** Publish now what was to be published soon. */
  flush() {
    if (this.#isScheduled) this.publish();
  }

  publish() {
    this.#isScheduled = false;
    for (const handle of [...this.handles]) handle.update();
  }

  /** @param {Handle<any>} handle */
  leave(handle) {
    this.handles.delete(handle);
    // A component that is mounted again at once finds it still there.
    setTimeout(() => this.handles.size || this.#stop());
  }

  #stop() {
    if (this.#phase === "stopped") return;
    clearTimeout(this.#timer);
    const { wire } = this.client;
    if (!this.#call || !wire.withdraw(this.#call)) wire.post(this.stream, this.farewell());
    this.#phase = "stopped";
    this.#forget();
  }
}

/** The application's end of a subscription. @template T the snapshot */
export class Handle extends Store {
  /** @type {T | undefined} */
  #snapshot;
  #core;
  #isStopped = false;

  /** @param {Subscription} core */
  constructor(core) {
    super();
    this.#core = core;
    core.handles.add(this);
  }

  /** The state now: the same object until something has changed. */
  getSnapshot = () => (this.#snapshot ??= this.take());

  /** @type {Status} */
  get status() {
    return this.#isStopped ? "ended" : this.#core.status;
  }

  get error() {
    return this.#core.error;
  }

  /** End it; the subscription ends with its last handle. */
  stop() {
    if (this.#isStopped) return;
    this.#isStopped = true;
    this.#core.leave(this);
    this.update();
  }

  /** Return what `getSnapshot()` shows. @returns {T} */
  take() {
    throw new TypeError("take() is a subclass's");
  }

  update() {
    const before = /** @type {any} */ (this.#snapshot ?? {});
    const now = /** @type {any} */ (this.take());
    if (Object.keys(now).every((name) => Object.is(now[name], before[name]))) return;
    this.#snapshot = now;
    this.notify();
  }
}
