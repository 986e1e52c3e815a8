/* A room of `RoomConsumers`: who is there, who is typing, and messages. Loaded when a page joins one. */

/** @import { Shown } from "./subscription.js" */
/** @import { Wire } from "./wire.js" */

// Messages that are kept.
const MOST_MESSAGES = 1000;
// How often a typing user reports it, and how long a report holds (milliseconds): a report may be
// lost, also the one that typing has ended.
const REPORT_EVERY = 2_000;
const TYPING = 5_000;

/** @param {any} user */
const identity = (user) => JSON.stringify(user?.id ?? user);

/** @typedef {Shown<{ users: any[], typing: any[], messages: any[] }> & { report?(isTyping: boolean): void }} RoomCore */

/** Let a subscription follow a room. @param {RoomCore} core @param {string} room @param {Wire} wire */
export function become(core, room, wire) {
  const { stream, receive } = core;
  /** By user: the timer that ends it. @type {Map<string, ReturnType<typeof setTimeout>>} */
  const timers = new Map();
  let reportedAt = 0;

  /** @param {Partial<RoomCore["shown"]>} some */
  function show(some) {
    core.shown = { ...core.shown, ...some };
  }

  const isNot = (/** @type {string} */ name) => (/** @type {any} */ user) => identity(user) !== name;

  /** The user does not type any more. @param {string} name a user's identity */
  function forget(name) {
    clearTimeout(timers.get(name));
    if (timers.delete(name)) show({ typing: core.shown.typing.filter(isNot(name)) });
  }

  const forgetAll = () => [...timers.keys()].forEach(forget);

  /** @param {any[]} messages */
  function keep(messages) {
    show({ messages: messages.slice(-MOST_MESSAGES) });
  }

  core.hears = (name, { request_id, data }) =>
    request_id === null && name === stream && data?.room === room;

  core.receive = (event) => {
    // Its `reset` has no messages: join again.
    if (event.action === "reset") core.ask();
    else receive(event);
  };

  core.report = (isTyping) => {
    const isKnown = Date.now() - reportedAt < REPORT_EVERY;
    if (isTyping ? isKnown : !reportedAt) return;
    reportedAt = isTyping ? Date.now() : 0;
    wire.post(stream, { action: "typing", room, data: isTyping });
  };

  core.become({
    frame: () => ({ action: "join", room, since: core.position ?? undefined }),
    farewell: () => ({ action: "leave", room }),

    begin({ data }) {
      const { users, messages = [], position = null, resumed } = data;
      reportedAt = 0;
      core.position = position;
      forgetAll();
      show({ users });
      keep(resumed ? [...core.shown.messages, ...messages] : messages);
      return true;
    },

    follow({ action, data }) {
      const { user } = data;
      const name = identity(user);
      if (action === "presence") {
        const others = core.shown.users.filter(isNot(name));
        const isHere = data.event === "joined";
        show({ users: isHere ? [...others, user] : others });
        if (!isHere) forget(name);
      } else if (action === "message") {
        core.position = data.id ?? null;
        forget(name);
        keep([...core.shown.messages, data]);
      } else if (action === "typing") {
        forget(name);
        if (!data.data) return;
        show({ typing: [...core.shown.typing, user] });
        timers.set(
          name,
          setTimeout(() => (forget(name), core.schedule()), TYPING),
        );
      }
    },

    clear() {
      forgetAll();
      show({ users: [], messages: [] });
    },
  });
}
