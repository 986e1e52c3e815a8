/*
 * Data that the server keeps up to date. Each is subscribed to once, again after each break, and
 * shared by all handles that ask for the same.
 */

import { ApiError, retryAfter } from "./errors.js";
import { createStore } from "./store.js";

/** @import { Reply, Status } from "./types.js" */
/** @import { Call, Wire } from "./wire.js" */

const LONGEST_RETRY = 60_000;

/**
 * A kind of subscription: it makes its frames, and applies replies and events.
 *
 * @typedef {object} Kind
 * @property {() => { action: string, [key: string]: unknown }} frame the frame that asks for it
 * @property {() => object} farewell the frame that ends it
 * @property {(reply: Reply) => boolean} begin take the data of a reply or a reset; return whether it is complete
 * @property {(event: Reply) => void} follow apply an event
 * @property {() => void} clear drop the data: this user may not see it
 */

/** @typedef {ReturnType<typeof createCore>} Core */
/** A subscription all of whose handles show the same. @template S @typedef {Core & { shown: S }} Shown */
/** @typedef {{ update(): void }} Updated */

/**
 * Make one subscription on the wire.
 *
 * Its kind is given to `become`: by the caller, or by `start` when it is first asked for. If `start`
 * has to load a module, it returns a promise, and is called again.
 *
 * @param {Wire} wire
 * @param {string} stream
 * @param {() => void} forget
 * @param {() => Promise<unknown> | void} [start]
 */
export function createCore(wire, stream, forget, start) {
  /** @type {Set<Updated>} */
  const handles = new Set();
  /** For a connection or a retry, for an answer, or for events. @type {"nothing" | "answer" | "events" | "over"} */
  let awaits = "nothing";
  let isHeld = false; // whether the server has one of this `id`, as far as is known here
  let mustAskAgain = false;
  let isScheduled = false;
  let failures = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  /** @type {Call | undefined} */
  let call;
  /** @type {Kind} */
  let kind;

  const errorOf = (/** @type {Reply} */ reply) => new ApiError(stream, reply);

  const core = {
    stream,
    errorOf,
    handles,
    /** What it subscribes to, as a text. */
    name: "",
    /** @type {Status} */
    status: "connecting",
    /** @type {ApiError | null} */
    error: null,
    /** Why the server has refused more than it sends. @type {ApiError | null} */
    refusal: null,
    /** @type {string | null} */
    position: null,
    id: wire.nextId(),

    /** Whether it has been asked for, and there is no answer yet. */
    get isAsking() {
      return awaits === "answer";
    },

    /** @param {Kind} its */
    become(its) {
      kind = its;
    },

    ask() {
      clearTimeout(timer);
      if (!kind) start?.()?.then(() => kind || core.ask(), console.error);
      if (!kind) return;
      mustAskAgain = awaits === "answer";
      if (!wire.isOpen || mustAskAgain || awaits === "over") return;
      awaits = "answer";
      const payload = { request_id: core.id, ...kind.frame() };
      call = { stream, payload, perConnection: true, onReply: answer, onLost() {} };
      wire.push(call);
    },

    /** The connection is back. A refusal for good is not repeated. */
    opened() {
      failures = 0;
      if (core.status !== "ended") core.ask();
    },

    /** @param {boolean} isRefused whether this user may see nothing any more */
    lost(isRefused) {
      clearTimeout(timer);
      awaits = "nothing";
      isHeld = false;
      if (isRefused) drop("denied");
      else if (core.status === "live") set("stale");
    },

    /** Return whether an event is for this subscription. @param {string | null} _stream @param {Reply} event */
    hears: (_stream, { request_id }) => request_id === core.id,

    /** @param {Reply} event */
    receive(event) {
      // Else it belongs to the subscription that is being replaced.
      if (awaits !== "events") return;
      const { action, response_status, position, previous } = event;
      if (action === "revoke" && response_status >= 500) retry(1000);
      else if (action === "revoke") core.refuse(event);
      else if (action === "reset") begin(event);
      else if (previous !== undefined && previous !== core.position) retry(0);
      else {
        failures = 0;
        core.position = position ?? core.position;
        kind.follow(event);
        core.schedule();
      }
    },

    /** @param {Reply} reply */
    refuse(reply) {
      // If it was asked for again, the former one goes on: end it.
      if (isHeld && reply.action !== "revoke") wire.post(stream, kind.farewell());
      isHeld = false;
      awaits = "nothing";
      const isDenied = [401, 403, 404].includes(reply.response_status);
      drop(isDenied ? "denied" : "ended", errorOf(reply));
    },

    /** Publish soon: before the next frame is painted, or within a tenth of a second if none is. */
    schedule() {
      if (isScheduled) return;
      isScheduled = true;
      const isPage = "requestAnimationFrame" in globalThis;
      if (isPage) requestAnimationFrame(core.flush);
      setTimeout(core.flush, isPage ? 100 : 0);
    },

    /** Publish now what was to be published soon. */
    flush() {
      if (isScheduled) core.publish();
    },

    publish() {
      isScheduled = false;
      for (const handle of [...handles]) handle.update();
    },

    /** @param {Updated} handle */
    leave(handle) {
      handles.delete(handle);
      // A component that is mounted again at once finds it still there.
      setTimeout(() => handles.size || stop());
    },
  };

  /** @param {Reply} reply */
  function answer(reply) {
    if (awaits === "over") return;
    awaits = "events";
    const { response_status: status } = reply;
    if (status === 429 || status >= 500) {
      core.error = errorOf(reply);
      retry(retryAfter(reply) || 1000);
    } else if (status >= 400) core.refuse(reply);
    else {
      isHeld = true;
      begin(reply);
      if (mustAskAgain) core.ask();
    }
  }

  /** @param {Reply} reply */
  function begin(reply) {
    core.position = reply.position ?? null;
    if (kind.begin(reply)) set("live", core.refusal);
  }

  /** Ask again after `delay`, and a random time that grows. @param {number} delay milliseconds */
  function retry(delay) {
    awaits = "nothing";
    if (core.status === "live") set("stale", core.error);
    const most = failures ? Math.min(LONGEST_RETRY, 500 * 2 ** failures) : delay;
    failures++;
    clearTimeout(timer);
    timer = setTimeout(core.ask, delay + Math.random() * most);
  }

  /** @param {Status} status @param {ApiError | null} [error] */
  function drop(status, error) {
    core.position = null;
    kind?.clear();
    set(status, error);
  }

  /** @param {Status} status @param {ApiError | null} [error] */
  function set(status, error = null) {
    core.status = status;
    core.error = error;
    core.schedule();
  }

  function stop() {
    if (awaits === "over") return;
    clearTimeout(timer);
    if (kind && !(call && wire.withdraw(call))) wire.post(stream, kind.farewell());
    awaits = "over";
    forget();
  }

  return core;
}

/**
 * Add to `methods` what every handle has: `subscribe`, `getSnapshot`, `stop`, and a property for each
 * value of the snapshot.
 *
 * @template {object} M
 * @template {{ status: Status, error: ApiError | null }} S
 * @param {Core} core
 * @param {() => S} take what a snapshot shows
 * @param {M} methods
 */
export function createHandle(core, take, methods) {
  const { subscribe, notify } = createStore();
  let isStopped = false;
  const look = () => /** @type {S} */ ({ ...take(), ...(isStopped ? { status: "ended" } : {}) });
  let snapshot = look();

  const handle = Object.assign(methods, {
    subscribe,

    /** The state now: the same object until something has changed. */
    getSnapshot: () => snapshot,

    update() {
      const before = /** @type {any} */ (snapshot);
      const now = /** @type {any} */ (look());
      if (Object.keys(now).every((name) => Object.is(now[name], before[name]))) return;
      snapshot = now;
      notify();
    },

    /** End it; the subscription ends with its last handle. */
    stop() {
      if (isStopped) return;
      isStopped = true;
      core.leave(handle);
      handle.update();
    },
  });
  for (const name of Object.keys(snapshot)) {
    const get = () => /** @type {any} */ (snapshot)[name];
    Object.defineProperty(handle, name, { get, enumerable: true });
  }
  core.handles.add(handle);
  return /** @type {M & S & typeof handle} */ (handle);
}
