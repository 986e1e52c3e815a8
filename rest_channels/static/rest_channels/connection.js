/*
 * One websocket that is opened again whenever it is lost.
 *
 * It waits for a random time before each attempt (docs/protocol.md, "Reconnecting"), because all
 * clients may have lost their server at the same moment.
 */

import { retryAfter } from "./errors.js";
import { createStore } from "./store.js";

/** @import { ConnectionState, Options, Reply } from "./types.js" */

// Bounds of the random time before the first attempt (milliseconds); each failure doubles them.
const USUAL = 5_000;
const RESTART = 2_000; // a server that restarts closes its sockets one after the other
const FLOODED = 30_000;
const LONGEST = 60_000;

const PATIENCE = 10_000; // for a handshake, credentials included
const HIDDEN = 300_000; // a page that has been hidden for longer does not connect

const SIGNED_OUT = 4401;
const FORBIDDEN = 4403;
const FLOODING = 4429;
// 4009, 4011 and 4012 come from servers that refuse to close with 1009, 1011 and 1012.
const RESTARTS = [1012, 4012];
const FINAL = [1009, 4009, FORBIDDEN, 4404];

/**
 * The events of a connection. `lost` says whether it will not be opened again by itself, and
 * whether this user may see nothing any more.
 *
 * @typedef {{ opened(): void, received(stream: string | null, reply: Reply): void, lost(isFinal: boolean, isRefused: boolean): void }} Owner
 */

/**
 * @param {string} url
 * @param {Options} options
 * @param {Owner} owner
 * @param {unknown} ready a promise that the first attempt waits for
 */
export function createConnection(url, options, owner, ready) {
  const { auth } = options;
  // After this silence it sends a ping, and after that one the line is dead.
  const { silenceSeconds = 10, pongSeconds = 5 } = options.limits ?? {};
  const { subscribe, notify } = createStore();
  /** @type {ConnectionState} */
  let state;
  /** @type {WebSocket | null} */
  let socket = null;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  let timer;
  let failures = 0;
  let notBefore = 0;
  let turn = 0; // counts attempts: an await may end after its attempt was given up
  let isPinging = false;
  let wasAskedAgain = false;
  let hiddenSince = Infinity;
  /** @type {AbortController} */
  let listening;

  function listen() {
    listening = new AbortController();
    const on = (
      /** @type {any} */ target,
      /** @type {string} */ type,
      /** @type {(event: any) => void} */ call,
    ) => target?.addEventListener?.(type, call, listening);
    const page = globalThis.document;
    const look = () => {
      hiddenSince = page?.hidden ? Date.now() : Infinity;
    };
    look();
    on(page, "visibilitychange", () => {
      look();
      if (!page.hidden) wake();
    });
    on(globalThis, "online", wake);
    // A browser keeps a page for the way back only if it has no open socket.
    on(globalThis, "pagehide", () => socket && lose());
    on(globalThis, "pageshow", ({ persisted }) => persisted && wake());
  }

  async function attempt(isExpired = false) {
    const mine = ++turn;
    notBefore = Date.now() + 1000;
    set("connecting");
    wait(PATIENCE, lose);
    let credentials;
    try {
      [credentials] = await Promise.all([auth?.(isExpired), ready]);
    } catch (error) {
      console.error(error);
      if (mine === turn) lose();
      return;
    }
    if (mine !== turn) return;
    if (auth && credentials == null) return end("signed-out", SIGNED_OUT);
    const { WebSocket = globalThis.WebSocket } = options;
    socket = new WebSocket(url, credentials == null ? [] : protocols(credentials));
    socket.onopen = () => {
      set("connected");
      ping(); // its answer proves that the server works, and resets the back-off
      owner.opened();
    };
    socket.onmessage = ({ data }) => receive(data);
    socket.onclose = ({ code }) => lose(code);
    socket.onerror = () => {}; // sockets of the package `ws` throw an error without a listener
  }

  /** @param {string} text */
  function receive(text) {
    isPinging = false;
    watch();
    let message;
    try {
      message = JSON.parse(text);
    } catch {
      return lose(1007); // no server of this protocol sends it
    }
    const { stream, payload } = message;
    if (payload.response_status < 500) {
      failures = 0;
      wasAskedAgain = false;
    } else if (payload.response_status === 503) {
      // It may be the last message of a server that stops: obey the time it asks for.
      notBefore = Date.now() + retryAfter(payload);
    }
    owner.received(stream, payload);
  }

  /** Look whether the line is alive, or connect, because the user is back or the network is. */
  function wake() {
    if (state.name === "connected") ping();
    else if (state.name === "waiting") schedule(notBefore);
  }

  function ping() {
    isPinging = true;
    send('{"payload":{"action":"ping"}}');
    watch();
  }

  /** Wait for silence. A page that slept is late itself, so it sends another ping. */
  function watch() {
    const delay = 1000 * (isPinging ? pongSeconds : silenceSeconds);
    const due = Date.now() + delay + 1000;
    wait(delay, () => (isPinging && Date.now() < due ? lose() : ping()));
  }

  /** Give up the socket, and tell the owner. */
  function drop(isFinal = false, isRefused = false) {
    turn++;
    clearTimeout(timer);
    if (socket) {
      socket.onopen = socket.onmessage = socket.onclose = null;
      socket.close();
    }
    socket = null;
    owner.lost(isFinal, isRefused);
  }

  /** The connection is gone, or of no use. */
  function lose(code = 1006) {
    if (code === SIGNED_OUT) {
      if (!auth || wasAskedAgain) return end("signed-out", code);
      wasAskedAgain = true;
      drop();
      return void attempt(true);
    }
    if (FINAL.includes(code)) return end("closed", code);
    const first = RESTARTS.includes(code) ? RESTART : code === FLOODING ? FLOODED : USUAL;
    const retryAt = Date.now() + Math.random() * Math.min(LONGEST, first * 2 ** failures++);
    if (code === FLOODING) notBefore = retryAt;
    drop();
    schedule(Math.max(notBefore, retryAt), code);
  }

  /** @param {number} retryAt */
  function schedule(retryAt, code = state.code) {
    set("waiting", code, retryAt);
    wait(retryAt - Date.now(), () => {
      if (Date.now() - hiddenSince > HIDDEN) set("waiting", code);
      else attempt();
    });
  }

  /** @param {"signed-out" | "closed"} name @param {number} code */
  function end(name, code) {
    state = { name, retryAt: null, code };
    drop(true, code === SIGNED_OUT || code === FORBIDDEN);
    notify(); // last, because a subscriber may connect again
  }

  /** @param {number} delay @param {() => void} call */
  function wait(delay, call) {
    clearTimeout(timer);
    timer = setTimeout(call, delay);
  }

  /** @param {ConnectionState["name"]} name @param {number | null} code @param {number | null} retryAt */
  function set(name, code = null, retryAt = null) {
    state = { name, retryAt, code };
    notify();
  }

  /** @param {string} text */
  function send(text) {
    socket?.send(text);
  }

  listen();
  attempt();

  return {
    subscribe,
    notify,
    send,
    lose,
    getState: () => state,

    /** Connect now, also after `signed-out` or `closed`. */
    reconnect() {
      if (socket && state.name === "connected") return;
      failures = 0;
      wasAskedAgain = false;
      if (listening.signal.aborted) listen();
      drop();
      attempt();
    },

    close() {
      listening.abort();
      end("closed", 1000);
    },
  };
}

/** Return the subprotocols that carry a header's value. @param {string} value */
function protocols(value) {
  const text = btoa(String.fromCharCode(...new TextEncoder().encode(value)));
  const url = text.replace(/[+/=]/g, (sign) => ({ "+": "-", "/": "_" })[sign] ?? "");
  return ["rest-channels", `authorization.${url}`];
}
