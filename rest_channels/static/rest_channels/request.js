/* One request: a promise of its reply. */

import { ApiError } from "./errors.js";
import { Channel } from "./store.js";

/** @import { Reply } from "./types.js" */
/** @import { Call, Wire } from "./wire.js" */

/**
 * Send a frame; return a promise of its reply, and a function that iterates over replies with 206.
 *
 * The promise rejects with `ApiError`, `ConnectionLost`, or the reason of `signal`.
 *
 * @param {Wire} wire
 * @param {string} stream
 * @param {{ action: string, [key: string]: unknown }} payload
 * @param {{ signal?: AbortSignal | undefined, repeat?: boolean, isWrite?: boolean }} options
 */
export function request(wire, stream, payload, { signal, repeat = false, isWrite = false }) {
  /** @type {Channel<any> | undefined} */
  let channel;
  let stop = (/** @type {unknown} */ _reason) => {};
  /** @type {Promise<Reply>} */
  const reply = new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const onAbort = () => stop(signal?.reason);
    const done = () => signal?.removeEventListener("abort", onAbort);
    /** @type {Call} */
    const call = {
      ...{ stream, repeat, isWrite },
      payload: { request_id: wire.nextId(), ...payload },
      onReply(reply) {
        if (reply.response_status === 206) {
          call.repeat = false; // some of it has been read already
          return channel?.push(reply.data);
        }
        done();
        if (reply.response_status < 400) resolve(reply);
        else reject(new ApiError(stream, reply));
      },
      onLost(error) {
        done();
        reject(error);
      },
    };
    stop = (reason) => {
      done();
      wire.cancel(call);
      reject(reason);
    };
    signal?.addEventListener("abort", onAbort);
    wire.push(call);
  });
  const items = () => {
    channel = new Channel(() => stop(undefined));
    reply.then(
      () => channel?.end(),
      (error) => channel?.end({ error }),
    );
    return channel;
  };
  return { reply, items };
}
