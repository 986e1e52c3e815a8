/*
 * Frames and their replies on a connection that may be lost.
 *
 * At most as many frames are in flight as the server takes, and no more a second; others queue. A
 * call that may be repeated is sent again after a loss, within a bound of time and number.
 */

import { ConnectionLost, retryAfter } from "./errors.js";

/** @import { Limits, Reply } from "./types.js" */

/**
 * A frame that will have a reply. `repeat`: whether it may be sent again if its reply was lost.
 * @typedef {object} Call
 * @property {string} stream
 * @property {{ action: string, request_id: string | number, [key: string]: unknown }} payload
 * @property {boolean} repeat
 * @property {boolean} [isWrite]
 * @property {boolean} [perConnection] whether it is of no use on another connection
 * @property {(reply: Reply) => void} onReply
 * @property {(error: unknown) => void} onLost
 * @property {number} [times] how often it was sent
 * @property {boolean} [isLong] whether the server takes only one such frame at a time
 * @property {ReturnType<typeof setTimeout>} [timer]
 * @property {number} [deadline]
 */

// Longer frames go one at a time (docs/protocol.md, "Long lists"). Its bound counts bytes.
const LONG = 60_000;

/** @type {Omit<Limits, "silenceSeconds" | "pongSeconds">} */
const LIMITS = {
  inFlight: 12,
  rate: 80,
  burst: 100,
  pending: 1000,
  answerSeconds: 60,
  retrySeconds: 60,
  retryTimes: 5,
};

export class Wire {
  #lastId = 0;
  /** @type {Call[]} */
  #queue = [];
  /** @type {Map<unknown, Call>} */
  #sent = new Map();
  /** @type {Map<unknown, (event: Reply) => void>} */
  #listeners = new Map();
  #tokens;
  #filledAt = Date.now();
  #pausedUntil = 0;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #limits;
  #owner;
  isOpen = false;
  isEnded = false; // signed out or closed: nothing will be sent before the user does something

  /**
   * @param {{ send(text: string): void, changed(): void, hung(): void }} owner
   * @param {Partial<Limits>} [limits]
   */
  constructor(owner, limits) {
    this.#owner = owner;
    this.#limits = { ...LIMITS, ...limits };
    this.#tokens = this.#limits.burst;
  }

  nextId() {
    return ++this.#lastId;
  }

  /** Writes that have no answer yet, in order. */
  get pending() {
    const calls = [...this.#sent.values(), ...this.#queue].filter((call) => call.isWrite);
    return calls.map(({ stream, times, payload: { action, pk, data } }) => ({
      ...{ stream, action, pk, data },
      wasSent: !!times,
    }));
  }

  /**
   * Pass events with this `request_id` to `listener`.
   *
   * @param {unknown} id
   * @param {(event: Reply) => void} listener
   */
  listen(id, listener) {
    this.#listeners.set(id, listener);
    return () => void this.#listeners.delete(id);
  }

  /**
   * Send a frame that has no reply, or whose reply is of no interest.
   *
   * @param {string} stream
   * @param {object} payload
   */
  post(stream, payload) {
    if (this.isOpen) this.#owner.send(JSON.stringify({ stream, payload }));
  }

  /** @param {Call} call */
  push(call) {
    if (this.isEnded || this.#queue.length >= this.#limits.pending) {
      return call.onLost(new ConnectionLost(false));
    }
    this.#queue.push(call);
    if (!this.isOpen) this.#expire(call);
    this.#owner.changed();
    this.#pump();
  }

  /** Forget a call that was not sent; return whether it was there. @param {Call} call */
  withdraw(call) {
    clearTimeout(call.timer);
    const at = this.#queue.indexOf(call);
    if (at >= 0) this.#queue.splice(at, 1);
    return at >= 0;
  }

  /** Forget a call, and stop it on the server if it is there. @param {Call} call */
  cancel(call) {
    const {
      stream,
      payload: { request_id },
    } = call;
    this.withdraw(call);
    // Its reply still frees its place.
    const isSent = this.#sent.get(request_id) === call;
    if (isSent) this.post(stream, { action: "cancel", data: { request_id } });
    call.onReply = call.onLost = () => {};
    call.repeat = call.isWrite = false;
    this.#owner.changed();
  }

  /** @param {() => void} resume pushes what has to be sent before anything that waits */
  opened(resume) {
    this.isOpen = true;
    this.isEnded = false;
    const waiting = this.#queue.splice(0);
    resume();
    this.#queue.push(...waiting);
    this.#pump();
  }

  /** @param {boolean} isFinal */
  lost(isFinal) {
    const sent = [...this.#sent.values()];
    this.isOpen = false;
    this.isEnded = isFinal;
    clearTimeout(this.#timer);
    this.#sent.clear();
    const queue = this.#queue.splice(0);
    const keep = (/** @type {Call} */ call) => !isFinal && !call.perConnection;
    this.#queue = [
      ...sent.filter((call) => keep(call) && this.#mayRepeat(call)),
      ...queue.filter(keep),
    ];
    for (const call of this.#queue) this.#expire(call);
    for (const call of [...sent, ...queue]) if (!this.#queue.includes(call)) this.#fail(call);
    this.#owner.changed();
  }

  /**
   * Return whether to send a call again after a loss, or after a reply of 500 or more.
   *
   * @param {Call} call
   * @param {Reply} [reply]
   */
  #mayRepeat(call, reply) {
    const isSafe =
      call.repeat || (!call.perConnection && reply?.codes?.[0] === "too_many_in_flight");
    // A keyed write that was answered 500 may have been stored: one repetition finds out.
    const isError = reply && reply.response_status !== 503;
    return (
      isSafe && (call.times ?? 0) < (isError ? (call.isWrite ? 2 : 0) : this.#limits.retryTimes)
    );
  }

  /** @param {Call} call */
  #fail(call) {
    clearTimeout(call.timer);
    call.onLost(new ConnectionLost(!!call.times));
  }

  /** Give up a call that waits for a connection longer than the bound. @param {Call} call */
  #expire(call) {
    call.deadline ??= Date.now() + 1000 * this.#limits.retrySeconds;
    clearTimeout(call.timer);
    call.timer = setTimeout(() => {
      this.#queue = this.#queue.filter((other) => other !== call);
      this.#fail(call);
      this.#owner.changed();
    }, call.deadline - Date.now());
  }

  #pump() {
    clearTimeout(this.#timer);
    const { inFlight, rate, burst } = this.#limits;
    const now = Date.now();
    this.#tokens = Math.min(burst, this.#tokens + ((now - this.#filledAt) / 1000) * rate);
    this.#filledAt = now;
    while (this.isOpen && this.#sent.size < inFlight) {
      const [call] = this.#queue;
      if (!call) return;
      const delay = this.#tokens < 1 ? 1000 / rate : this.#pausedUntil - now;
      if (delay > 0) {
        this.#timer = setTimeout(() => this.#pump(), delay);
        return;
      }
      const text = JSON.stringify({ stream: call.stream, payload: call.payload });
      call.isLong = text.length > LONG;
      if (call.isLong && [...this.#sent.values()].some(({ isLong }) => isLong)) return;
      this.#queue.shift();
      call.times = (call.times ?? 0) + 1;
      this.#await(call);
      this.#tokens--;
      this.#sent.set(call.payload.request_id, call);
      this.#owner.send(text);
    }
  }

  /**
   * The server answers every frame: a connection without an answer is broken.
   *
   * @param {Call} call
   */
  #await(call) {
    clearTimeout(call.timer);
    call.timer = setTimeout(() => this.#owner.hung(), 1000 * this.#limits.answerSeconds);
  }

  /** @param {Reply} reply @returns {boolean} whether it is known here */
  receive(reply) {
    const { request_id: id, action, response_status: status } = reply;
    const call = this.#sent.get(id);
    if (!call || (action !== call.payload.action && action !== null)) {
      const listener = this.#listeners.get(id);
      listener?.(reply);
      return !!listener;
    }
    if (status !== 206) {
      clearTimeout(call.timer);
      this.#sent.delete(id);
      if (status >= 500 && this.#mayRepeat(call, reply)) {
        this.#pausedUntil = Date.now() + (retryAfter(reply) || 1000 + 1000 * Math.random());
        this.#queue.unshift(call);
      } else call.onReply(reply);
      this.#owner.changed();
      this.#pump();
    } else {
      this.#await(call);
      call.onReply(reply);
    }
    return true;
  }
}
