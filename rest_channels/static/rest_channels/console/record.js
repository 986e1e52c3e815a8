/* The frames of both directions, with what can be said of each: its latency, its place in the chain. */

const MOST = 2000;
const SECRET = /^(authorization|password)$/i;
const encoder = new TextEncoder();

/**
 * One line of the timeline. `chain` is "start", "ok" or "gap" for messages with a position.
 *
 * @typedef {{ number: number, at: number, kind: "out" | "in" | "note", stream?: string | null,
 *   payload?: any, bytes?: number, ms?: number, chain?: string, note?: string, code?: number }} Entry
 */

export function createRecord(now = () => performance.now()) {
  /** @type {Entry[]} */
  let entries = [];
  let number = 0;
  let dropped = 0;
  const listeners = new Set();
  /** When a frame without a reply was sent, by stream and id. */
  const sent = new Map();
  /** The last position of each subscription. */
  const positions = new Map();

  function add(entry) {
    const whole = { number: ++number, at: Date.now(), ...entry };
    entries.push(whole);
    if (entries.length > MOST) dropped += entries.splice(0, entries.length - MOST).length;
    for (const listen of listeners) listen(whole);
  }

  const nameOf = (stream, id) => JSON.stringify([stream ?? null, id ?? null]);

  function chainOf(stream, { request_id, position, previous, resumed, action }) {
    const name = nameOf(stream, request_id);
    if (position === undefined) return undefined;
    const before = positions.get(name);
    positions.set(name, position);
    if (resumed !== undefined) return resumed ? "resumed" : "start";
    if (action === "reset") return "start";
    return before === previous ? "ok" : "gap";
  }

  return {
    get entries() {
      return entries;
    },
    get dropped() {
      return dropped;
    },
    subscribe(listen) {
      listeners.add(listen);
      return () => listeners.delete(listen);
    },
    note: (note) => add({ kind: "note", note }),

    opened: () => add({ kind: "note", note: "Socket open" }),

    closed(code) {
      sent.clear();
      positions.clear();
      add({ kind: "note", note: `Socket closed with ${code}`, code });
    },

    sent(text, stream) {
      const { name, payload } = parts(text, stream);
      sent.set(nameOf(name, payload?.request_id), now());
      add({
        kind: "out",
        stream: name,
        payload: hidden(payload),
        bytes: encoder.encode(text).length,
      });
    },

    received(text, stream) {
      const { name, payload } = parts(text, stream);
      const key = nameOf(name, payload?.request_id);
      const isEvent = payload?.previous !== undefined;
      const began = isEvent ? undefined : sent.get(key);
      if (began !== undefined && payload.response_status !== 206) sent.delete(key);
      add({
        ...{ kind: "in", stream: name, payload, bytes: encoder.encode(text).length },
        ms: began === undefined ? undefined : now() - began,
        chain: payload && chainOf(name, payload),
      });
    },

    clear() {
      entries = [];
      dropped = 0;
      for (const listen of listeners) listen(null);
    },
  };
}

/** Return the stream and the payload of a message; on a viewset's own socket there is no envelope. */
function parts(text, stream) {
  const message = JSON.parse(text);
  return stream === undefined
    ? { name: message.stream, payload: message.payload }
    : { name: stream, payload: message };
}

/** Return a copy without credentials: screens are shared, and downloads are sent. */
export function hidden(value) {
  if (Array.isArray(value)) return value.map(hidden);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [
      name,
      SECRET.test(name) && typeof item === "string" ? "(hidden)" : hidden(item),
    ]),
  );
}
