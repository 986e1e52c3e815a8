/* The errors of requests. */

/** @import { Reply, RolledBack } from "./types.js" */

/**
 * The server refused a request: `status`, `errors` and `codes` are the reply's, in DRF's shape.
 * `rolledBack` is the optimistic write that is no longer shown, or null.
 */
export class ApiError extends Error {
  name = "ApiError";
  /** @type {RolledBack | null} */
  rolledBack = null;

  /** @param {string | null} stream @param {Reply} reply */
  constructor(stream, { action, response_status, errors, codes = [], headers = {} }) {
    super(`${stream}.${action}: ${response_status} ${JSON.stringify(errors)}`);
    this.status = response_status;
    this.errors = errors;
    this.codes = codes;
    this.headers = headers;
  }

  /** The errors by field, `{}` if they are about no field. @returns {Record<string, string[]>} */
  get fields() {
    const [first] = this.errors;
    return typeof first === "object" && first !== null ? /** @type {any} */ (first) : {};
  }
}

/**
 * No answer arrived. If it `wasSent`, the server may have carried it out; if not, it has not.
 */
export class ConnectionLost extends Error {
  name = "ConnectionLost";
  /** @type {RolledBack | null} */
  rolledBack = null;

  /** @param {boolean} wasSent */
  constructor(wasSent) {
    super(
      wasSent ? "The connection was lost before the answer arrived." : "Not connected: nothing was sent.",
    );
    this.wasSent = wasSent;
  }
}

/** Return how many milliseconds `Retry-After` asks to wait, or 0. @param {Reply} reply */
export function retryAfter({ headers }) {
  return 1000 * (Number(headers?.["Retry-After"]) || 0);
}
