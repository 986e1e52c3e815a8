/*
 * One websocket that is opened again whenever it is lost.
 *
 * It waits for a random time before each attempt (docs/protocol.md, "Reconnecting"), because all
 * clients may have lost their server at the same moment.
 */

import { retryAfter } from "./errors.js";
import { Store } from "./store.js";

/** @import { ConnectionState, Options, Reply } from "./types.js" */

// Bounds of the random time before the first attempt (milliseconds); each failure doubles them.
const USUAL = 5_000;
const RESTART = 2_000; // a server that restarts closes its sockets one after the other
const FLOODED = 30_000;
const LONGEST = 60_000;

const PATIENCE = 10_000; // for a handshake, credentials included
// After this silence it sends a ping, and after that one the line is dead (seconds).
const LIMITS = { silenceSeconds: 10, pongSeconds: 5 };
const HIDDEN = 300_000; // a page that has been hidden for longer does not connect

const SIGNED_OUT = 4401;
export const FORBIDDEN = 4403;
// 4009, 4011 and 4012 come from servers that refuse to close with 1009, 1011 and 1012.
const RESTARTS = [1012, 4012];
const FINAL = [1009, 4009, FORBIDDEN, 4404];

/** @typedef {{ opened(): void, received(stream: string | null, reply: Reply): void, lost(isFinal: boolean): void, leaving(): void }} Owner */

export class Connection extends Store {
  /** @type {ConnectionState} */
  state = { name: "connecting", retryAt: null, code: null };
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #failures = 0;
  #notBefore = 0;
  #turn = 0;
  #isPinging = false;
  #wasAskedAgain = false;
  /** @type {number | null} */
  #hiddenSince = null;
  #listening = new AbortController();
  #url;
  #options;
  #owner;

  /** @param {string} url @param {Options} options @param {Owner} owner */
  constructor(url, options, owner) {
    super();
    this.#url = url;
    this.#options = options;
    this.#owner = owner;
    this.#listen();
    this.#attempt();
  }

  #listen() {
    const { signal } = this.#listening;
    const on = (
      /** @type {any} */ target,
      /** @type {string} */ type,
      /** @type {(event: any) => void} */ call,
    ) => target?.addEventListener?.(type, call, { signal });
    const seen = () => {
      this.#hiddenSince = document.hidden ? Date.now() : null;
      if (!document.hidden) this.#wake();
    };
    if (globalThis.document?.hidden) this.#hiddenSince = Date.now();
    on(globalThis.document, "visibilitychange", seen);
    on(globalThis, "online", () => this.#wake());
    // A browser keeps a page for the way back only if it has no open socket.
    on(globalThis, "pagehide", () => {
      this.#owner.leaving();
      if (this.#socket) this.lose();
    });
    on(globalThis, "pageshow", (event) => event.persisted && this.#wake());
  }

  /** Connect now, also after `signed-out` or `closed`. */
  reconnect() {
    if (this.#socket && this.state.name === "connected") return;
    this.#drop();
    this.#failures = 0;
    this.#wasAskedAgain = false;
    if (this.#listening.signal.aborted) {
      this.#listening = new AbortController();
      this.#listen();
    }
    this.#owner.lost(false);
    this.#attempt();
  }

  close() {
    this.#listening.abort();
    this.#end("closed", 1000);
  }

  /** @param {string} text */
  send(text) {
    this.#socket?.send(text);
  }

  async #attempt(isExpired = false) {
    const turn = ++this.#turn;
    const { auth, WebSocket = globalThis.WebSocket } = this.#options;
    this.#notBefore = Date.now() + 1000;
    this.#set({ name: "connecting" });
    this.#wait(PATIENCE, () => this.lose());
    /** @type {string | null | undefined} */
    let credentials;
    try {
      credentials = await auth?.(isExpired);
    } catch (error) {
      console.error(error);
      if (turn === this.#turn) this.lose();
      return;
    }
    if (turn !== this.#turn) return;
    if (auth && credentials == null) return this.#end("signed-out", SIGNED_OUT);
    const socket = new WebSocket(this.#url, credentials == null ? [] : protocols(credentials));
    this.#socket = socket;
    socket.onopen = () => {
      this.#set({ name: "connected" });
      this.#ping(); // its answer proves that the server works, and resets the back-off
      this.#owner.opened();
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = ({ code }) => this.lose(code);
    socket.onerror = () => {}; // sockets of the package `ws` throw an error without a listener
  }

  /** @param {string} text */
  #receive(text) {
    this.#isPinging = false;
    this.#watch();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return this.lose(1007); // no server of this protocol sends it
    }
    const { stream, payload } = message;
    if (payload.response_status < 500) {
      this.#failures = 0;
      this.#wasAskedAgain = false;
    } else if (payload.response_status === 503) {
      // It may be the last message of a server that stops: obey the time it asks for.
      this.#notBefore = Date.now() + retryAfter(payload);
    }
    this.#owner.received(stream, payload);
  }

  /** Look whether the line is alive, or connect, because the user is back or the network is. */
  #wake() {
    const { name } = this.state;
    if (name === "connected") this.#ping();
    else if (name === "waiting") this.#schedule(this.#notBefore);
  }

  #ping() {
    this.#isPinging = true;
    this.send('{"payload":{"action":"ping"}}');
    this.#watch();
  }

  /** Wait for silence. A page that slept is late itself, so it sends another ping. */
  #watch() {
    const { silenceSeconds, pongSeconds } = { ...LIMITS, ...this.#options.limits };
    const delay = 1000 * (this.#isPinging ? pongSeconds : silenceSeconds);
    const due = Date.now() + delay + 1000;
    this.#wait(delay, () => (this.#isPinging && Date.now() < due ? this.lose() : this.#ping()));
  }

  #drop() {
    this.#turn++;
    clearTimeout(this.#timer);
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  /** The connection is gone, or of no use. @param {number} [code] */
  lose(code = 1006) {
    if (code === SIGNED_OUT) {
      if (!this.#options.auth || this.#wasAskedAgain) return this.#end("signed-out", code);
      this.#wasAskedAgain = true;
      this.#drop();
      this.#owner.lost(false);
      return void this.#attempt(true);
    }
    if (FINAL.includes(code)) return this.#end("closed", code);
    const first = RESTARTS.includes(code) ? RESTART : code === 4429 ? FLOODED : USUAL;
    const delay = Math.random() * Math.min(LONGEST, first * 2 ** this.#failures++);
    if (code === 4429) this.#notBefore = Date.now() + delay;
    this.#drop();
    this.#owner.lost(false);
    this.#schedule(Math.max(this.#notBefore, Date.now() + delay), code);
  }

  /** @param {number} retryAt @param {number | null} code */
  #schedule(retryAt, code = this.state.code) {
    this.#set({ name: "waiting", retryAt, code });
    this.#wait(retryAt - Date.now(), () => {
      const isAway = this.#hiddenSince !== null && Date.now() - this.#hiddenSince > HIDDEN;
      if (isAway) this.#set({ name: "waiting", code });
      else this.#attempt();
    });
  }

  /** @param {"signed-out" | "closed"} name @param {number} code */
  #end(name, code) {
    this.#drop();
    this.#set({ name, code });
    this.#owner.lost(true);
  }

  /** @param {number} delay @param {() => void} call */
  #wait(delay, call) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(call, delay);
  }

  /** @param {Partial<ConnectionState>} state */
  #set(state) {
    this.state = /** @type {ConnectionState} */ ({ retryAt: null, code: null, ...state });
    this.notify();
  }
}

/** Return the subprotocols that carry a header's value. @param {string} value */
function protocols(value) {
  const bytes = String.fromCharCode(...new TextEncoder().encode(value));
  const text = btoa(bytes).replace(/\+/g, "-").replace(/\//g, "_").replace(/=/g, "");
  return ["rest-channels", `authorization.${text}`];
}
