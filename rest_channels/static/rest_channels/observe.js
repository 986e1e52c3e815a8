/* Subscriptions of dcrf-client: with frames that the application names. Loaded with the first one. */

import { createCore } from "./subscription.js";

/** @import { Client } from "./client.js" */
/** @import { DCRFClient } from "./dcrf.js" */

/** @typedef {{ requestId?: string, subscribeAction?: string, unsubscribeAction?: string, includeCreateEvents?: boolean }} SubscribeOptions */

/**
 * Call back after each change, until `signal`. A subscription to a row resumes after a break.
 *
 * @param {Client} client @param {DCRFClient} owner @param {string} stream @param {any} args
 * @param {(data: any, action: string) => void} callback @param {SubscribeOptions | string} options or a request_id
 * @param {string} id without one @param {AbortSignal} signal
 */
export function observe(client, { pkField, options: { ensurePkFieldInDeleteEvents: isEnsured = true } }, stream, args, callback, options, id, signal) {
  const how = typeof options === "string" ? { requestId: options } : options;
  const { requestId: request_id = id, subscribeAction = "subscribe_instance", unsubscribeAction = "unsubscribe_instance", includeCreateEvents } = /** @type {SubscribeOptions} */ (how);
  const isRow = subscribeAction === "subscribe_instance";
  const keys = Object(args) === args ? args : { [isRow ? "pk" : pkField]: args };
  const ask = { action: subscribeAction, request_id, ...keys };

  const hear = (/** @type {any} */ data, /** @type {any} */ action) => signal.aborted || callback(data, action);
  const core = client.share(["dcrf", stream, request_id], (forget) => createCore(client.wire, stream, forget));
  core.id = /** @type {any} */ (request_id);
  core.become({
    frame: () => ({ ...ask, ...(isRow && core.position !== null ? { since: core.position, held: [keys.pk] } : {}) }),
    farewell: () => ({ ...ask, action: unsubscribeAction }),
    begin({ action, data }) {
      if (action === "reset") for (const row of [data].flat()) hear(row, "update");
      return true;
    },
    follow({ action, data }) {
      if (action === "sync" || (action === "create" && !includeCreateEvents)) return;
      const isNamed = action !== "delete" || !isEnsured || pkField in data;
      hear(isNamed ? data : { [pkField]: data.pk }, action);
    },
    clear() {},
  });

  const handle = { update: () => {} };
  const settled = new Promise((resolve, reject) => {
    handle.update = () => (core.status === "live" ? resolve(null) : core.error && reject(refusal(core.error)));
  });
  const refusal = (/** @type {any} */ error) => Object.assign(error, { action: subscribeAction, request_id, data: null, response_status: error.status });
  core.handles.add(handle);
  core.ask();
  const leave = () => core.leave(handle);
  signal.addEventListener("abort", leave);
  if (signal.aborted) leave();
  return settled;
}
