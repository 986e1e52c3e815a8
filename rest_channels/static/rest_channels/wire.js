/*
 * Frames and their replies on a connection that may be lost.
 *
 * At most as many frames are in flight as the server takes, and no more a second; others queue. A
 * call that may be repeated is sent again after a loss, within a bound of time and number.
 */

import { ConnectionLost, retryAfter } from "./errors.js";

/** @import { Limits, PendingWrite, Reply } from "./types.js" */

/**
 * A frame that will have a reply.
 *
 * @typedef {object} Call
 * @property {string} stream
 * @property {{ action: string, request_id?: string | number, [key: string]: unknown }} payload
 * @property {boolean} [repeat] whether it may be sent again if its reply was lost
 * @property {boolean} [isWrite]
 * @property {boolean} [perConnection] whether it is of no use on another connection
 * @property {(reply: Reply) => void} onReply
 * @property {(error: ConnectionLost) => void} onLost
 * @property {number} [times] how often it was sent
 * @property {boolean} [isLong] whether the server takes only one such frame at a time
 * @property {ReturnType<typeof setTimeout>} [timer]
 * @property {number} [deadline]
 */

/** @typedef {ReturnType<typeof createWire>} Wire */

// Longer frames go one at a time (docs/protocol.md, "Long lists"). Its bound counts bytes.
const LONG = 60_000;

/**
 * @param {{ send(text: string): void, changed(): void, hung(): void }} owner
 * @param {Partial<Limits>} [limits]
 */
export function createWire({ send, changed, hung }, limits = {}) {
  const { inFlight = 12, rate = 80, burst = 100, pending = 1000 } = limits;
  const { answerSeconds = 60, retrySeconds = 60, retryTimes = 5 } = limits;
  let lastId = 0;
  /** @type {Call[]} */
  let queue = [];
  /** @type {Map<unknown, Call>} */
  const sent = new Map();
  let isOpen = false;
  let isEnded = false; // signed out or closed: nothing will be sent before the user does something
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let pausedUntil = 0;
  let spentUntil = 0; // when the frames sent so far would have been sent at `rate`

  /** @param {string} stream @param {object} payload */
  const encode = (stream, payload) => JSON.stringify({ stream, payload });

  /** Send a frame whose reply is of no interest. @param {string} stream @param {object} payload */
  function post(stream, payload) {
    if (isOpen) send(encode(stream, payload));
  }

  /** Forget a call that was not sent; return whether it was there. @param {Call} call */
  function withdraw(call) {
    clearTimeout(call.timer);
    const at = queue.indexOf(call);
    if (at >= 0) queue.splice(at, 1);
    return at >= 0;
  }

  /**
   * Return whether to send a call again after a loss, or after a reply of 500 or more.
   *
   * @param {Call} call
   * @param {Reply} [reply]
   */
  function mayRepeat({ repeat, isWrite, perConnection, times = 0 }, reply) {
    const isSafe = repeat || (!perConnection && reply?.codes?.[0] === "too_many_in_flight");
    // A keyed write that was answered 500 may have been stored: one repetition finds out.
    const isError = reply && reply.response_status !== 503;
    return isSafe && times < (isError ? (isWrite ? 2 : 0) : retryTimes);
  }

  /** @param {Call} call */
  function fail(call) {
    clearTimeout(call.timer);
    call.onLost(new ConnectionLost(!!call.times));
  }

  /** Give up a call that waits for a connection longer than the bound. @param {Call} call */
  function expire(call) {
    call.deadline ??= Date.now() + 1000 * retrySeconds;
    wait(call, call.deadline - Date.now(), () => {
      withdraw(call);
      fail(call);
      changed();
    });
  }

  /** @param {Call} call @param {number} delay @param {() => void} then */
  function wait(call, delay, then) {
    clearTimeout(call.timer);
    call.timer = setTimeout(then, delay);
  }

  /** The server answers every frame: a connection without an answer is broken. @param {Call} call */
  function awaitAnswer(call) {
    wait(call, 1000 * answerSeconds, hung);
  }

  /** Send what may be sent now. */
  function pump() {
    clearTimeout(timer);
    while (isOpen && sent.size < inFlight) {
      const [call] = queue;
      if (!call) return;
      const now = Date.now();
      const delay = Math.max(pausedUntil, spentUntil - (1000 * (burst - 1)) / rate) - now;
      if (delay > 0) {
        timer = setTimeout(pump, delay);
        return;
      }
      const text = encode(call.stream, call.payload);
      call.isLong = text.length > LONG;
      if (call.isLong && [...sent.values()].some(({ isLong }) => isLong)) return;
      queue.shift();
      call.times = (call.times ?? 0) + 1;
      awaitAnswer(call);
      spentUntil = Math.max(spentUntil, now) + 1000 / rate;
      sent.set(call.payload.request_id, call);
      send(text);
    }
  }

  return {
    get isOpen() {
      return isOpen;
    },

    /** Writes that have no answer yet, in order. @returns {PendingWrite[]} */
    get pending() {
      const writes = [...sent.values(), ...queue].filter(({ isWrite }) => isWrite);
      return writes.map(({ stream, times, payload: { action, pk, data } }) => ({
        ...{ stream, action, pk, data },
        wasSent: !!times,
      }));
    },

    nextId: () => ++lastId,
    post,
    withdraw,

    /** @param {Call} call */
    push(call) {
      if (isEnded || queue.length >= pending) return call.onLost(new ConnectionLost(false));
      queue.push(call);
      if (!isOpen) expire(call);
      changed();
      pump();
    },

    /** Forget a call, and stop it on the server if it is there. @param {Call} call */
    cancel(call) {
      const { request_id } = call.payload;
      withdraw(call);
      // Its reply still frees its place.
      if (sent.get(request_id) === call)
        post(call.stream, { action: "cancel", data: { request_id } });
      call.onReply = call.onLost = () => {};
      call.repeat = call.isWrite = false;
      changed();
    },

    /** @param {() => void} resume pushes what has to be sent before anything that waits */
    opened(resume) {
      isOpen = true;
      isEnded = false;
      const waiting = queue;
      queue = [];
      resume();
      queue.push(...waiting);
      pump();
    },

    /** @param {boolean} isFinal whether nothing will be sent again by itself */
    lost(isFinal) {
      isOpen = false;
      isEnded = isFinal;
      clearTimeout(timer);
      const calls = [...sent.values(), ...queue];
      const mayWait = (/** @type {Call} */ call) =>
        !isFinal && !call.perConnection && (!sent.has(call.payload.request_id) || mayRepeat(call));
      queue = calls.filter(mayWait);
      const failed = calls.filter((call) => !mayWait(call));
      sent.clear();
      queue.forEach(expire);
      failed.forEach(fail);
      changed();
    },

    /** @param {Reply} reply @returns {boolean} whether it is known here */
    receive(reply) {
      const { request_id, action, response_status: status } = reply;
      const call = sent.get(request_id);
      if (!call || (action !== call.payload.action && action !== null)) return false;
      if (status === 206) {
        awaitAnswer(call);
        call.onReply(reply);
        return true;
      }
      clearTimeout(call.timer);
      sent.delete(request_id);
      if (status >= 500 && mayRepeat(call, reply)) {
        pausedUntil = Date.now() + (retryAfter(reply) || 1000 + 1000 * Math.random());
        queue.unshift(call);
      } else call.onReply(reply);
      changed();
      pump();
      return true;
    },
  };
}
