/* One request: a promise of its reply. */

import { ApiError } from "./errors.js";

/** @import { Queue } from "./iterators.js" */
/** @import { Reply } from "./types.js" */
/** @import { Call, Wire } from "./wire.js" */

/**
 * Send a frame; return a promise of its reply, whose `items` iterates over replies with 206.
 *
 * The promise rejects with `ApiError`, `ConnectionLost`, or the reason of `signal`.
 *
 * @param {Wire} wire
 * @param {string} stream
 * @param {Call["payload"]} payload
 * @param {{ signal?: AbortSignal, repeat?: boolean, isWrite?: boolean }} options
 */
export function request(wire, stream, payload, { signal, repeat, isWrite }) {
  /** @type {Queue<any>} */
  let queue;
  let stop = (/** @type {unknown} */ _reason) => {};
  /** @type {Promise<Reply>} */
  const reply = new Promise((resolve, reject) => {
    signal?.throwIfAborted();
    const onAbort = () => stop(signal?.reason);
    const done = (/** @type {any} */ settle, /** @type {unknown} */ value) => {
      signal?.removeEventListener("abort", onAbort);
      settle(value);
    };
    /** @type {Call} */
    const call = {
      ...{ stream, repeat, isWrite },
      payload: { request_id: wire.nextId(), ...payload },
      onReply(reply) {
        if (reply.response_status === 206) {
          call.repeat = false; // some of it has been read already
          queue?.push(reply.data);
          queue?.wake?.();
        } else if (reply.response_status < 400) done(resolve, reply);
        else done(reject, new ApiError(stream, reply));
      },
      onLost: (error) => done(reject, error),
    };
    stop = (reason) => {
      wire.cancel(call);
      done(reject, reason);
    };
    signal?.addEventListener("abort", onAbort);
    wire.push(call);
  });
  async function* items() {
    queue = [];
    const { drain } = await import("./iterators.js");
    yield* drain(queue, reply, () => stop(undefined));
  }
  return Object.assign(reply, { items });
}
