/*
 * A list of 10,000 rows in a page, of which 50 are drawn.
 *
 * Its socket is a class in the page, so that neither a server nor a network is measured: it hands over
 * the texts of messages as a websocket does.
 */

import { connect } from "/dist/client.js";

const ROWS = 10_000;
const DRAWN = 50;
const EVENTS_A_SECOND = 1_000;
const SECONDS = 20;
const HOUR = 3_600_000; // events in an hour

/** The server's end: it keeps the order of the keys, so that each `after` is right. */
class Feed {
  static last;
  #position = 0;
  #lastId = ROWS;
  #keys = Array.from({ length: ROWS }, (_, i) => i + 1);
  isAcknowledged = true;
  sent = 0;

  constructor() {
    Feed.last = this;
    setTimeout(() => this.onopen());
  }

  close() {}

  send(text) {
    const { stream, payload } = JSON.parse(text);
    const { action, request_id } = payload;
    if (action === "subscribe") {
      this.subscription = { stream, request_id };
      const data = this.#keys.map((id) => this.#row(id));
      this.#say({ action, response_status: 201, data, position: "0", resumed: false });
    } else if (action === "ping") {
      this.#receive({ stream: null, payload: { action, request_id: null, response_status: 200, errors: [], data: {} } });
    }
  }

  #row(id) {
    return { id, room: 1, author: `user ${id % 97}`, text: `Message ${id}, version ${this.#position}`, created: "2026-11-28T09:30:00Z" };
  }

  #say(keys) {
    const { stream, request_id } = this.subscription;
    this.#receive({ stream, payload: { errors: [], request_id, ...keys } });
  }

  #receive(message) {
    const data = JSON.stringify(message);
    const began = performance.now();
    this.onmessage?.({ data });
    busy += performance.now() - began;
  }

  /** Send one event: of ten, seven are changes, one is a move, one a new row, and one a row that goes. */
  event() {
    const keys = this.#keys;
    const at = Math.floor(Math.random() * keys.length);
    const kind = this.sent++ % 10;
    const previous = String(this.#position);
    const event = { position: String(++this.#position), previous, response_status: 200 };
    if (kind === 9) {
      const [pk] = keys.splice(at, 1);
      return this.#say({ ...event, action: "delete", response_status: 204, data: { pk } });
    }
    if (kind < 7) return this.#say({ ...event, action: "update", data: this.#row(keys[at]) });
    const id = kind === 7 ? keys.splice(at, 1)[0] : ++this.#lastId;
    const place = kind === 7 ? Math.floor(Math.random() * keys.length) : 0;
    keys.splice(place, 0, id);
    const after = place ? keys[place - 1] : null;
    this.#say({ ...event, action: kind === 7 ? "update" : "create", data: this.#row(id), after });
  }
}

/** Milliseconds that the client and the drawing have taken since the last frame. */
let busy = 0;

// Work that the client does before a frame counts, too.
const { requestAnimationFrame } = window;
window.requestAnimationFrame = (call) =>
  requestAnimationFrame((time) => {
    const began = performance.now();
    call(time);
    busy += performance.now() - began;
  });

const api = connect("/", { WebSocket: Feed });
const list = api.messages.live();
const items = Array.from({ length: DRAWN }, () => document.body.appendChild(document.createElement("p")));
let drawings = 0;
list.subscribe(() => {
  drawings++;
  for (const [i, item] of items.entries()) {
    const text = list.rows[i].text;
    if (item.textContent !== text) item.textContent = text;
  }
});
await new Promise((resolve) => list.subscribe(() => list.status === "live" && resolve()));
const feed = Feed.last;

const share = (sorted, part) => sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))];
const summary = (values) => {
  const sorted = values.toSorted((a, b) => a - b);
  const of = (part) => Number(share(sorted, part).toFixed(2));
  return { median: of(0.5), p95: of(0.95), p99: of(0.99), most: of(1) };
};

/** Send events evenly for a while; return what each frame has cost. */
async function frames() {
  const [work, distances] = [[], []];
  const began = performance.now();
  const before = { sent: feed.sent, drawings };
  let last = began;
  busy = 0;
  for (let now = began; now - began < 1000 * SECONDS; ) {
    now = await new Promise((resolve) => requestAnimationFrame(() => resolve(performance.now())));
    work.push(busy);
    distances.push(now - last);
    [busy, last] = [0, now];
    const due = before.sent + ((now - began) / 1000) * EVENTS_A_SECOND;
    while (feed.sent < due) feed.event();
  }
  return {
    events: feed.sent - before.sent,
    drawings: drawings - before.drawings,
    frames: work.length,
    "work of a frame, ms": summary(work),
    "frames with more than 16 ms of work": work.filter((ms) => ms > 16).length,
    "from frame to frame, ms": summary(distances),
  };
}

/** Send as many events as an hour has, as fast as they are applied; return the heap before and after. */
async function memory() {
  const heap = async () => {
    for (let i = 0; i < 3; i++) {
      globalThis.gc();
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
    return Number((performance.memory.usedJSHeapSize / 2 ** 20).toFixed(2));
  };
  const began = performance.now();
  const before = await heap();
  const heaps = [];
  for (let part = 0; part < 4; part++) {
    for (let i = 0; i < HOUR / 4; i++) {
      feed.event();
      if (i % 1_000 === 0) await new Promise((resolve) => requestAnimationFrame(resolve));
    }
    heaps.push(await heap());
  }
  const seconds = Math.round((performance.now() - began) / 1000);
  return { events: HOUR, seconds, "heap before, MiB": before, "heap after each quarter, MiB": heaps };
}

const result = { rows: list.rows.length, browser: navigator.userAgent.match(/Chrom\w+\/[\d.]+/)?.[0] };
result.frames = await frames();
result.memory = location.search === "?memory" ? await memory() : "not measured";
await fetch("/result", { method: "POST", body: JSON.stringify(result) });
