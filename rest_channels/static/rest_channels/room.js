/* A room of `RoomConsumers`: who is there, who is typing, and messages. */

import { Handle, Subscription } from "./subscription.js";

/** @import { Client } from "./client.js" */
/** @import { Reply, RoomSnapshot } from "./types.js" */

// Messages that are kept.
const MOST_MESSAGES = 1000;
// How often a typing user reports it, and how long a report holds (milliseconds): a report may be
// lost, also the one that typing has ended.
const REPORT_EVERY = 2_000;
const TYPING = 5_000;

export class RoomCore extends Subscription {
  /** @type {any[]} */
  messages = [];
  /** @type {any[]} */
  users = [];
  /** @type {any[]} */
  typing = [];
  /** By user: the timer that ends it. @type {Map<string, ReturnType<typeof setTimeout>>} */
  #timers = new Map();
  #reportedAt = 0;

  /**
   * @param {Client} client
   * @param {string} stream
   * @param {string} room
   * @param {() => void} forget
   */
  constructor(client, stream, room, forget) {
    super(client, stream, forget);
    this.room = room;
    this.ask();
  }

  frame() {
    const since = this.position ?? undefined;
    return { action: "join", room: this.room, since };
  }

  farewell() {
    return { action: "leave", room: this.room };
  }

  /** @param {Reply} reply */
  begin({ data }) {
    const { users, messages = [], position, resumed } = data;
    this.#reportedAt = 0;
    this.position = position ?? null;
    this.users = users;
    for (const name of this.#timers.keys()) this.#forget(name);
    this.#keep(resumed ? [...this.messages, ...messages] : messages);
    return true;
  }

  /** @param {Reply} event */
  receive(event) {
    // Its `reset` has no messages: join again.
    if (event.action === "reset") this.ask();
    else super.receive(event);
  }

  /** @param {Reply} event */
  follow({ action, data }) {
    const { user } = data;
    const name = identity(user);
    if (action === "presence") {
      const others = this.users.filter((other) => identity(other) !== name);
      this.users = data.event === "joined" ? [...others, user] : others;
      if (data.event !== "joined") this.#forget(name);
    } else if (action === "message") {
      this.position = data.id ?? null;
      this.#forget(name);
      this.#keep([...this.messages, data]);
    } else if (action === "typing") {
      this.#forget(name);
      if (!data.data) return true;
      this.typing = [...this.typing, user];
      this.#timers.set(
        name,
        setTimeout(() => (this.#forget(name), this.schedule()), TYPING),
      );
    }
    return true;
  }

  /** @param {string} name a user's identity */
  #forget(name) {
    clearTimeout(this.#timers.get(name));
    if (this.#timers.delete(name)) {
      this.typing = this.typing.filter((user) => identity(user) !== name);
    }
  }

  /** @param {any[]} messages */
  #keep(messages) {
    this.messages = messages.slice(-MOST_MESSAGES);
  }

  clear() {
    for (const name of this.#timers.keys()) this.#forget(name);
    this.users = this.messages = [];
  }

  /** @param {boolean} isTyping */
  report(isTyping) {
    const isKnown = Date.now() - this.#reportedAt < REPORT_EVERY;
    if (isTyping ? isKnown : !this.#reportedAt) return;
    this.#reportedAt = isTyping ? Date.now() : 0;
    this.client.wire.post(this.stream, { action: "typing", room: this.room, data: isTyping });
  }
}

/** @param {any} user */
function identity(user) {
  return JSON.stringify(user?.id ?? user);
}

/** @extends {Handle<RoomSnapshot<any, any>>} */
export class Room extends Handle {
  #core;

  /** @param {RoomCore} core */
  constructor(core) {
    super(core);
    this.#core = core;
  }

  /** @type {readonly any[]} */
  get users() {
    return this.getSnapshot().users;
  }

  /** @type {readonly any[]} */
  get typing() {
    return this.getSnapshot().typing;
  }

  /** @type {readonly any[]} */
  get messages() {
    return this.getSnapshot().messages;
  }

  /**
   * Send a message to all members.
   *
   * @param {any} data
   * @param {{ signal?: AbortSignal }} [options]
   * @returns {Promise<any>}
   */
  say(data, options = {}) {
    const { client, stream, room } = this.#core;
    this.#core.report(false);
    return client.call(stream, { action: "send", room, data }, options);
  }

  /** Report whether this user is typing; call it as often as you like. */
  setTyping(isTyping = true) {
    this.#core.report(isTyping);
  }

  leave() {
    this.stop();
  }

  take() {
    const { users, typing, messages, error } = this.#core;
    return { users, typing, messages, status: this.status, error };
  }
}
