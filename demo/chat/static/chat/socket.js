/*
 * One websocket, many requests.
 *
 *     const socket = new Socket("/");
 *     const page = await socket.request("messages", "list", { query: { room: 1 } });
 *
 * A request is a frame with a `request_id`; the reply with the same id settles its promise. Events:
 * "open"; "close", whose `detail.delay` says in how many milliseconds it connects again, null for
 * never; "payload" for what comes that no promise waits for, with the `stream` it is of: see live.js
 * and here.js; "frame" for every text that goes (`detail.out`) or comes.
 */

const FIRST_DELAY = 500;
const LONGEST_DELAY = 15_000;
const PATIENCE = 10_000;

export const SIGNED_OUT = 4401;

// Close codes after which the same client would only be closed again.
const FINAL = new Set([1009, SIGNED_OUT, 4404]);

/** The server's answer was no: `status`, `errors` are the reply's. */
export class Refused extends Error {
  constructor(payload) {
    super(`${payload.action}: ${payload.response_status}`);
    this.status = payload.response_status;
    this.errors = payload.errors;
  }
}

/** There is no answer. Where the request `wasSent`, it may have been done or not. */
export class ConnectionLost extends Error {
  constructor(wasSent) {
    super("connection lost");
    this.wasSent = wasSent;
  }
}

export class Socket extends EventTarget {
  #url;
  #socket = null;
  #waiting = new Map();
  #lastId = 0;
  #failures = 0;
  #timer;

  constructor(path) {
    super();
    this.#url = new URL(path, location.href);
    this.#url.protocol = location.protocol === "https:" ? "wss:" : "ws:";
    this.#connect();
    addEventListener("online", () => this.#connect());
    // A page that was left may be kept for the way back. Nobody is there meanwhile.
    addEventListener("pagehide", () => this.#socket !== null && this.#lose());
    addEventListener("pageshow", ({ persisted }) => persisted && this.#connect());
  }

  get isOpen() {
    return this.#socket?.readyState === WebSocket.OPEN;
  }

  /** Ask `stream` for `action`; `keys` are the payload's others: pk, data, query. */
  request(stream, action, keys = {}) {
    if (!this.isOpen) return Promise.reject(new ConnectionLost(false));
    const request_id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      // Every frame is answered; without an answer the line is dead, whatever the browser thinks.
      const timer = setTimeout(() => this.#lose(), PATIENCE);
      this.#waiting.set(request_id, { resolve, reject, timer });
      this.send(stream, { action, request_id, ...keys });
    });
  }

  /** Send a frame, if there is a connection; what comes of it is a "payload". */
  send(stream, payload) {
    if (!this.isOpen) return;
    const text = JSON.stringify({ stream, payload });
    this.#socket.send(text);
    this.#tell("frame", { out: true, text });
  }

  #connect() {
    if (this.#socket !== null) return;
    clearTimeout(this.#timer);
    const socket = (this.#socket = new WebSocket(this.#url));
    socket.onopen = () => this.#tell("open");
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code }) => this.#lose(code);
  }

  #receive(text) {
    this.#tell("frame", { out: false, text });
    this.#failures = 0;
    const { stream, payload } = JSON.parse(text);
    const asked = this.#waiting.get(payload.request_id);
    if (asked === undefined) return this.#tell("payload", { stream, ...payload });
    this.#waiting.delete(payload.request_id);
    clearTimeout(asked.timer);
    if (payload.response_status < 400) asked.resolve(payload.data);
    else asked.reject(new Refused(payload));
  }

  #lose(code) {
    this.#socket.onmessage = this.#socket.onclose = null;
    this.#socket.close();
    this.#socket = null;
    for (const { reject, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      reject(new ConnectionLost(true));
    }
    this.#waiting.clear();
    // Twice as long each time, and never all clients at once when a server comes back.
    const longest = Math.min(LONGEST_DELAY, FIRST_DELAY * 2 ** this.#failures++);
    const delay = FINAL.has(code) ? null : longest * (0.5 + Math.random() / 2);
    if (delay !== null) this.#timer = setTimeout(() => this.#connect(), delay);
    this.#tell("close", { code, delay });
  }

  #tell(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
