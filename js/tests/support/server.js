/*
 * A server with one table per stream, which follows docs/protocol.md: subscriptions with order and
 * windows, positions, held rows, credit, fences and idempotency keys.
 *
 * Messages take `latency()` milliseconds each way and keep their order; `loses(message)` says which
 * of them vanish.
 */

let lastUniq = 0;

export class Server {
  tables = {};
  sockets = new Set();
  epoch = 1;
  seq = 0;
  replies = new Map(); // by idempotency key
  writes = []; // every write that was carried out
  latency = () => 1;
  loses = () => false;
  /** Return what the fence says; false delays the events. */
  fences = () => true;
  refuses = () => null;
  handshake = () => null; // a close code refuses it
  mostRows = Infinity; // a subscription cannot grow beyond it; the former one goes on
  /** Answer what no table does: `(stream, payload, reply)`. */
  receive = null;

  constructor(tables = {}) {
    for (const [stream, rows] of Object.entries(tables)) this.seed(stream, rows);
    const server = this;
    this.WebSocket = class {
      readyState = 0;

      constructor(url) {
        this.url = url;
        this.link = new Link(server, this);
      }

      send(text) {
        if (this.readyState !== 1) throw new Error("The socket is not open.");
        this.link.carry(() => this.link.receive(JSON.parse(text)), JSON.parse(text));
      }

      close() {
        this.readyState = 3;
        this.link.end();
      }
    };
  }

  seed(stream, rows) {
    this.tables[stream] = {
      rows: new Map(),
      versions: new Map(),
      order: (a, b) => a.id - b.id,
      lastId: 0,
    };
    for (const row of rows) this.#put(stream, row);
  }

  #put(stream, row) {
    const table = this.tables[stream];
    table.rows.set(row.id, row);
    table.versions.set(row.id, ++this.seq);
    table.lastId = Math.max(table.lastId, row.id);
    return row;
  }

  /** Return the rows of a query, in order. */
  list(stream, query = {}) {
    const { rows, order } = this.tables[stream];
    const meets = (row) =>
      Object.entries(query).every(([name, value]) => String(row[name]) === String(value));
    return [...rows.values()].filter(meets).sort(order);
  }

  /** Change the table as another user does, and send what follows. */
  write(stream, action, pk, data) {
    const result = this.#write(stream, action, pk, data);
    this.flush();
    return result;
  }

  #write(stream, action, pk, data) {
    const table = this.tables[stream];
    const id = action === "create" ? table.lastId + 1 : pk;
    if (action !== "create" && !table.rows.has(id))
      return { status: 404, errors: ["Not found."], codes: ["not_found"] };
    this.writes.push({ stream, action, id, data });
    if (action === "destroy") {
      table.rows.delete(id);
      this.seq++;
      return { status: 204, data: null };
    }
    const row = this.#put(stream, { by: "server", ...table.rows.get(id), ...data, id });
    return { status: action === "create" ? 201 : 200, data: row };
  }

  flush() {
    for (const link of this.sockets) for (const sub of link.subs.values()) link.update(sub);
  }

  /** Cut all connections. */
  cut(code = 1006) {
    for (const link of [...this.sockets]) link.cut(code);
  }

  /** Carry out a write of a client, once for each key. */
  perform(stream, { action, pk, data, idempotency_key: key }) {
    const stored = this.replies.get(key);
    if (stored) return { ...stored, replayed: true };
    const refusal = this.refuses({ action, pk, data });
    if (refusal) return refusal;
    const reply = this.#write(stream, action, pk, data);
    if (key && reply.status < 300) this.replies.set(key, reply);
    return reply;
  }

  position(seq) {
    return `${this.epoch}:${seq}:${++lastUniq}`;
  }
}

/** One socket's server side. */
class Link {
  subs = new Map();
  #arrivals = { up: 0, down: 0 };
  isOpen = false;

  constructor(server, socket) {
    this.server = server;
    this.socket = socket;
    this.#later("down", () => {
      if (socket.readyState !== 0) return;
      const code = server.handshake();
      socket.readyState = 1;
      this.isOpen = true;
      socket.onopen?.({});
      if (code) return this.cut(code);
      server.sockets.add(this);
    });
  }

  #later(direction, call) {
    const at = Math.max(this.#arrivals[direction], Date.now() + this.server.latency());
    this.#arrivals[direction] = at;
    setTimeout(call, at - Date.now());
  }

  carry(call, message) {
    if (this.server.loses(message, "up")) return;
    this.#later("up", () => this.isOpen && call());
  }

  send(stream, payload) {
    const message = { stream, payload: { errors: [], data: null, ...payload } };
    if (this.server.loses(message, "down")) return;
    const data = JSON.stringify(message);
    this.#later(
      "down",
      () => this.isOpen && this.socket.readyState === 1 && this.socket.onmessage?.({ data }),
    );
  }

  end() {
    this.isOpen = false;
    this.server.sockets.delete(this);
  }

  cut(code) {
    if (this.socket.readyState === 3) return;
    this.end();
    this.socket.readyState = 3;
    this.socket.onclose?.({ code });
  }

  receive({ stream = null, payload }) {
    const { action, request_id = null } = payload;
    const reply = (status, keys) =>
      this.send(stream, { action, request_id, response_status: status, ...keys });
    if (action === "ping") reply(200, { data: { time: "now" } });
    else if (action === "ack") this.#acknowledge(payload);
    else if (action === "subscribe") this.#subscribe(stream, payload, reply);
    else if (action === "unsubscribe") reply(204, {}, this.subs.delete(request_id));
    else if (action === "watch") this.#watch(stream, payload, reply);
    else if (action === "unwatch") reply(204, {}, this.subs.delete(request_id));
    else if (this.server.receive) this.server.receive(stream, payload, reply);
    else if (action === "list") reply(200, { data: this.server.list(stream, payload.query) });
    else this.#write(stream, payload, reply);
  }

  #write(stream, payload, reply) {
    const { status, ...keys } = this.server.perform(stream, payload);
    const fenced = this.server.fences();
    if (fenced) this.server.flush();
    reply(status, { ...keys, ...(payload.fence ? { fenced } : {}) });
    if (!fenced) setTimeout(() => this.server.flush(), 50);
  }

  #subscribe(stream, payload, reply) {
    const { request_id: id, query, window = Infinity, credit = Infinity, since, held } = payload;
    const { server } = this;
    if (window > Math.max(server.mostRows, this.subs.get(id)?.window ?? Infinity))
      return reply(400, { errors: ["Too many rows."], codes: ["too_many_rows"] });
    const sub = { id, stream, query, window, credit, unacknowledged: [], view: [] };
    this.subs.set(id, sub);
    const [epoch, seq] = (since ?? "").split(":");
    if (since !== undefined && Number(epoch) === server.epoch) {
      const { versions } = server.tables[stream];
      sub.view = held.map((key) => ({
        key,
        version: versions.get(key) <= seq ? versions.get(key) : -1,
      }));
      sub.seq = Number(seq);
      sub.position = since;
      reply(201, { position: since, resumed: true });
      return this.update(sub);
    }
    sub.position = server.position(server.seq);
    if (since === undefined)
      return reply(201, { position: sub.position, resumed: false, data: this.#show(sub) });
    reply(201, { position: sub.position, resumed: false });
    const previous = sub.position;
    sub.position = server.position(server.seq);
    const data = this.#show(sub);
    this.send(stream, {
      action: "reset",
      response_status: 205,
      request_id: id,
      data,
      position: sub.position,
      previous,
    });
  }

  #target(sub) {
    return this.server.list(sub.stream, sub.query).slice(0, sub.window);
  }

  #show(sub) {
    const { versions } = this.server.tables[sub.stream];
    const rows = this.#target(sub);
    sub.view = rows.map(({ id }) => ({ key: id, version: versions.get(id) }));
    sub.seq = this.server.seq;
    return rows;
  }

  #watch(stream, { request_id: id, of, query, since }, reply) {
    const sub = { id, stream, of, query, credit: Infinity, unacknowledged: [] };
    this.subs.set(id, sub);
    sub.answer = JSON.stringify(this.#answer(sub));
    sub.position = `w:${sub.answer}`;
    const resumed = since === sub.position;
    reply(201, { position: sub.position, resumed, data: resumed ? null : JSON.parse(sub.answer) });
  }

  #answer({ stream, of, query }) {
    return of === "count"
      ? { count: this.server.list(stream, query).length }
      : this.server.list(stream, query);
  }

  #acknowledge({ request_id, data }) {
    const sub = this.subs.get(request_id);
    const at = sub?.unacknowledged.indexOf(data.position) ?? -1;
    if (at < 0) return;
    sub.unacknowledged.splice(0, at + 1);
    this.update(sub);
  }

  /** Send what turns the client's view into what `list` shows, each event with its own position. */
  update(sub) {
    if (sub.of) return this.#change(sub);
    const { versions } = this.server.tables[sub.stream];
    const target = this.#target(sub);
    const keys = new Set(target.map(({ id }) => id));
    const events = [];
    const view = sub.view.filter(({ key }) => keys.has(key));
    for (const { key } of sub.view)
      if (!keys.has(key)) events.push(["delete", 204, { pk: key }, {}]);
    for (const [i, row] of target.entries()) {
      const at = view.findIndex(({ key }) => key === row.id);
      const version = versions.get(row.id);
      if (at === i && view[at].version === version) continue;
      const where = at === i ? {} : { after: i === 0 ? null : target[i - 1].id };
      events.push([at < 0 ? "create" : "update", 200, row, where]);
      if (at >= 0) view.splice(at, 1);
      view.splice(i, 0, { key: row.id, version });
    }
    if (events.length === 0) sub.seq = this.server.seq;
    for (const [i, event] of events.entries()) {
      // Only the last one's position stands for the whole change.
      const seq = i === events.length - 1 ? this.server.seq : sub.seq;
      if (!this.#event(sub, seq, ...event)) return;
      this.#look(sub, ...event);
    }
    sub.seq = this.server.seq;
  }

  /** Note what the client shows after an event. */
  #look(sub, action, _, data, { after }) {
    const key = data.id ?? data.pk;
    const at = sub.view.findIndex((seen) => seen.key === key);
    const seen = { key, version: this.server.tables[sub.stream].versions.get(key) };
    if (action === "update" && after === undefined) return void (sub.view[at] = seen);
    if (at >= 0) sub.view.splice(at, 1);
    if (action === "delete") return;
    const front = after === null ? -1 : sub.view.findIndex((other) => other.key === after);
    if (after !== null && front < 0) throw new Error(`The client does not hold ${after}.`);
    sub.view.splice(front + 1, 0, seen);
  }

  #event(sub, seq, action, response_status, data, keys) {
    if (sub.unacknowledged.length >= sub.credit) return false;
    const previous = sub.position;
    sub.position = this.server.position(seq);
    sub.unacknowledged.push(sub.position);
    this.send(sub.stream, {
      action,
      response_status,
      request_id: sub.id,
      data,
      position: sub.position,
      previous,
      ...keys,
    });
    return true;
  }

  #change(sub) {
    const answer = JSON.stringify(this.#answer(sub));
    if (answer === sub.answer) return;
    sub.answer = answer;
    const previous = sub.position;
    sub.position = `w:${answer}`;
    const data = JSON.parse(answer);
    this.send(sub.stream, {
      action: "change",
      response_status: 200,
      request_id: sub.id,
      data,
      position: sub.position,
      previous,
    });
  }

  /** Send the heartbeats: `sync` where it may be sent, and `alive`. */
  beat() {
    for (const sub of this.subs.values()) {
      if (sub.of) continue;
      this.update(sub);
      if (sub.unacknowledged.length >= sub.credit) continue;
      const previous = sub.position;
      sub.position = this.server.position(this.server.seq);
      sub.unacknowledged.push(sub.position);
      this.send(sub.stream, {
        action: "sync",
        response_status: 200,
        request_id: sub.id,
        position: sub.position,
        previous,
      });
    }
    this.send(null, { action: "alive", response_status: 200, request_id: null });
  }
}
