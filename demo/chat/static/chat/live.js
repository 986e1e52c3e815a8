/*
 * A collection, kept as `list` would show it now.
 *
 *     const rooms = new Live(socket, "rooms", {}, {
 *       onChange: (rows) => draw([...rows.values()]),
 *       onEnd: (errors) => explain(errors),
 *     });
 *     rooms.stop();
 *
 * `rows` holds them by primary key. What it takes to miss nothing: remember the `position` that
 * each message names, and after a break show it (`since`), with the keys that are `held`. The
 * server tells what has changed since then; where it no longer can, it says `reset`.
 */

let lastId = 0;

export class Live {
  rows = new Map();
  #position = null; // null: the rows are of no place in the log, so all of them are needed
  #isAsking = false;
  #timer;
  #id = `live-${++lastId}`;
  #listening = new AbortController();

  constructor(socket, stream, query, { onChange, onEnd = () => {} }) {
    Object.assign(this, { socket, stream, query, onChange, onEnd });
    const { signal } = this.#listening;
    socket.addEventListener("open", () => this.#subscribe(), { signal });
    socket.addEventListener("payload", ({ detail }) => this.#receive(detail), { signal });
    if (socket.isOpen) this.#subscribe();
  }

  stop() {
    this.#forget();
    this.socket.send(this.stream, { action: "unsubscribe", request_id: this.#id });
  }

  #subscribe() {
    clearTimeout(this.#timer);
    this.#isAsking = true;
    const resume = { since: this.#position, held: [...this.rows.keys()] };
    this.socket.send(this.stream, {
      action: "subscribe",
      request_id: this.#id, // the same one again replaces the subscription
      query: this.query,
      snapshot: true,
      ...(this.#position === null ? {} : resume),
    });
  }

  #receive({ request_id, action, response_status, errors, data, position, previous }) {
    if (request_id !== this.#id) return;
    if (response_status === 429 || response_status === 503) {
      // Too much at once, or no database: again, and not all clients at the same moment.
      this.#timer = setTimeout(() => this.#subscribe(), 1000 + 2000 * Math.random());
    } else if (response_status >= 400) {
      this.#forget(); // refused, or `revoke`: what allowed it is gone
      this.#replace([]);
      this.onEnd(errors);
    } else if (action === "subscribe") {
      this.#isAsking = false;
      if (data !== null) this.#replace(data);
      this.#position = position;
    } else if (this.#isAsking) {
      // An event of the subscription that is being replaced: what comes next tells it again.
    } else if (action === "reset") {
      this.#position = position;
      this.#replace(data);
    } else if (previous !== this.#position) {
      this.#subscribe(); // something is missing
    } else {
      this.#position = position;
      if (action === "delete") this.rows.delete(data.pk);
      else if (action !== "sync") this.rows.set(data.id, data);
      this.onChange(this.rows);
    }
  }

  #replace(rows) {
    this.rows = new Map(rows.map((row) => [row.id, row]));
    this.onChange(this.rows);
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#listening.abort();
  }
}
