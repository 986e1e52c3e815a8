/*
 * What passes in a room: who is there, who is typing, and what was said by the way last.
 *
 *     const here = new Here(socket, room.id, {
 *       onCompany: (users) => draw(users),
 *       onTyping: (users) => hint(users),
 *       onAsides: (asides) => draw(asides),
 *     });
 *     here.isTyping(true);
 *     await here.say("Brb");
 *     here.leave();
 *
 * Whoever comes back after a break shows the id of the last aside they know (`since`), and is told
 * those since then; where these are too many, or of another history, the last ones anew.
 */

// As many as the server remembers.
const KEPT = 20;
// So often those who type say that they still do, and so long it holds (milliseconds): such
// events may be lost, the one that says "no more" among them.
const TELL_EVERY = 2_000;
const FORGET_AFTER = 5_000;

export class Here {
  users = new Map(); // by id
  asides = [];
  #position = null;
  #typing = new Map(); // by id: the timer that ends it
  #toldAt = null; // null: others do not think that we are typing
  #timer;
  #listening = new AbortController();

  constructor(socket, roomId, { onCompany, onTyping, onAsides }) {
    Object.assign(this, { socket, room: String(roomId), onCompany, onTyping, onAsides });
    const { signal } = this.#listening;
    socket.addEventListener("open", () => this.#join(), { signal });
    socket.addEventListener("payload", ({ detail }) => this.#receive(detail), { signal });
    if (socket.isOpen) this.#join();
  }

  leave() {
    clearTimeout(this.#timer);
    for (const timer of this.#typing.values()) clearTimeout(timer);
    this.#listening.abort();
    this.socket.send("here", { action: "leave", room: this.room });
  }

  say(text) {
    return this.socket.request("here", "send", { room: this.room, data: { text } });
  }

  /** Let others know; as often as you like. */
  isTyping(isTyping) {
    const isKnown = this.#toldAt !== null && performance.now() - this.#toldAt < TELL_EVERY;
    if (isTyping ? isKnown : this.#toldAt === null) return;
    this.#toldAt = isTyping ? performance.now() : null;
    this.socket.send("here", { action: "typing", room: this.room, data: isTyping });
  }

  async #join() {
    clearTimeout(this.#timer);
    this.#toldAt = null;
    const since = this.#position ?? undefined;
    let told;
    try {
      told = await this.socket.request("here", "join", { room: this.room, since });
    } catch ({ status }) {
      // Too much at once: again. Refused, or the connection broke: there are others who say so.
      if (status === 429 || status === 503) {
        this.#timer = setTimeout(() => this.#join(), 1000 + 2000 * Math.random());
      }
      return;
    }
    if (this.#listening.signal.aborted) return;
    const { users, messages, position, resumed } = told;
    this.users = new Map(users.map((user) => [user.id, user]));
    this.#position = position;
    this.#forgetTyping(...this.#typing.keys());
    this.onCompany(this.users);
    this.#keep(resumed ? [...this.asides, ...messages] : messages);
  }

  #receive({ stream, action, response_status, data }) {
    if (stream !== "here" || data?.room !== this.room) return;
    if (action === "revoke") this.#end();
    else if (response_status !== 200) return;
    else if (action === "presence") this.#meet(data);
    else if (action === "typing") this.#see(data);
    else if (action === "message") this.#hear(data);
    else if (action === "reset") {
      this.#position = null;
      this.#join();
    }
  }

  /** What allowed it to be here is gone. */
  #end() {
    this.#forgetTyping(...this.#typing.keys());
    this.#listening.abort();
    this.onCompany(new Map());
    this.onAsides([]);
  }

  #meet({ event, user }) {
    if (event === "joined") this.users.set(user.id, user);
    else {
      this.users.delete(user.id);
      this.#forgetTyping(user.id);
    }
    this.onCompany(this.users, { event, user });
  }

  #see({ user, data: isTyping }) {
    if (isTyping !== true) return this.#forgetTyping(user.id);
    clearTimeout(this.#typing.get(user.id));
    this.#typing.set(user.id, setTimeout(() => this.#forgetTyping(user.id), FORGET_AFTER));
    this.#showTyping();
  }

  #hear(aside) {
    this.#position = aside.id;
    this.#forgetTyping(aside.user.id);
    this.#keep([...this.asides, aside]);
  }

  #keep(asides) {
    this.asides = asides.slice(-KEPT);
    this.onAsides(this.asides);
  }

  #forgetTyping(...ids) {
    for (const id of ids) {
      clearTimeout(this.#typing.get(id));
      this.#typing.delete(id);
    }
    this.#showTyping();
  }

  #showTyping() {
    this.onTyping([...this.#typing.keys()].flatMap((id) => this.users.get(id) ?? []));
  }
}
