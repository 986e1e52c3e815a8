/* Watches, rooms, and rows that survive a reload. */

import assert from "node:assert/strict";
import test from "node:test";
import { settle } from "./support/clock.js";
import { story } from "./support/sockets.js";
import { talk } from "./support/talk.js";

const tables = {
  messages: [
    { id: 1, room: 1, text: "one" },
    { id: 2, room: 1, text: "two" },
  ],
};

test(
  "a watch shows the answer of an action and follows it",
  talk(tables, async ({ server, clock, open }) => {
    const count = open().messages.watch("count", { query: { room: 1 } });
    assert.deepEqual([count.status, count.data], ["connecting", undefined]);
    await clock.advance(20);
    assert.deepEqual([count.status, count.data], ["live", { count: 2 }]);
    let calls = 0;
    count.subscribe(() => calls++);
    const before = count.getSnapshot();
    server.write("messages", "patch", 1, { text: "uno" });
    await clock.advance(20);
    assert.equal(count.getSnapshot(), before);
    server.write("messages", "create", null, { room: 1 });
    await clock.advance(20);
    assert.deepEqual([count.data, calls], [{ count: 3 }, 1]);
  }),
);

test(
  "a watch resumes: an answer that is the same is not sent again",
  talk(tables, async ({ server, clock, open }) => {
    const count = open().messages.watch("count");
    await clock.advance(20);
    const { data } = count;
    server.cut();
    await clock.advance(5_000);
    assert.deepEqual([count.data === data, count.status], [true, "live"]);
    server.cut();
    server.write("messages", "destroy", 1);
    await clock.advance(5_000);
    assert.deepEqual(count.data, { count: 1 });
  }),
);

test(
  "equal watches share one, which ends with the last",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const [a, b] = [api.messages.watch("count"), api.messages.watch("count", {})];
    await clock.advance(20);
    const [link] = server.sockets;
    assert.equal(link.subs.size, 1);
    a.stop();
    b.stop();
    await clock.advance(20);
    assert.equal(link.subs.size, 0);
  }),
);

test(
  "a watch that is revoked has no data",
  story(async ({ start, sockets, clock }) => {
    const watch = (await start()).messages.watch("stats", { pk: 1, lookups: { room_pk: 2 } });
    await settle();
    const [{ request_id, ...frame }] = sockets.last.frames("watch");
    assert.deepEqual(frame, {
      stream: "messages",
      action: "watch",
      of: "stats",
      pk: 1,
      room_pk: 2,
    });
    sockets.last.reply({ stream: "messages", action: "watch", request_id }, 201, {
      data: { n: 1 },
      position: "a",
      resumed: false,
    });
    await clock.advance(0);
    assert.deepEqual(watch.data, { n: 1 });
    sockets.last.receive("messages", { action: "revoke", response_status: 403, request_id });
    await clock.advance(0);
    assert.deepEqual([watch.data, watch.status], [undefined, "denied"]);
  }),
);

// Rooms

const [ann, ben, cat] = ["ann", "ben", "cat"].map((username, i) => ({ id: i + 1, username }));
const names = (users) => users.map(({ username }) => username);

async function joined({ start, sockets, clock }, room = 2) {
  const api = await start();
  const hall = api.here.join(room);
  await settle();
  const [frame] = sockets.last.frames("join");
  const data = { room: String(room), users: [ann], messages: [], position: "1-a", resumed: false };
  sockets.last.reply(frame, 200, { data });
  await clock.advance(0);
  const tell = async (action, data) => {
    sockets.last.receive("here", {
      action,
      request_id: null,
      response_status: 200,
      data: { room: String(room), ...data },
    });
    await clock.advance(0);
  };
  return { api, hall, tell, frame };
}

test(
  "a room shows who is there, who is typing, and messages",
  story(async (stage) => {
    const { hall, tell, frame } = await joined(stage);
    assert.deepEqual([frame.room, hall.status, names(hall.users)], ["2", "live", ["ann"]]);
    await tell("presence", { event: "joined", user: ben });
    await tell("presence", { event: "joined", user: ben });
    assert.deepEqual(names(hall.users), ["ann", "ben"]);
    await tell("typing", { user: ben, data: true });
    assert.deepEqual(names(hall.typing), ["ben"]);
    await tell("message", { id: "2-b", user: ben, data: "Hello" });
    assert.deepEqual([hall.messages.map(({ data }) => data), hall.typing], [["Hello"], []]);
    await tell("typing", { user: ben, data: true });
    await stage.clock.advance(5_000); // the report that typing has ended is lost
    assert.deepEqual(hall.typing, []);
    await tell("presence", { event: "left", user: ben });
    assert.deepEqual(names(hall.users), ["ann"]);
    await tell("message", { room: "3", user: cat, data: "elsewhere" });
    assert.equal(hall.messages.length, 1);
  }),
);

test(
  "say() sends, and typing is reported now and then",
  story(async (stage) => {
    const { hall } = await joined(stage);
    const { sockets, clock } = stage;
    for (let i = 0; i < 5; i++) hall.setTyping();
    await clock.advance(2_000);
    hall.setTyping();
    const said = hall.say({ text: "Brb" });
    assert.deepEqual(
      sockets.last.frames("typing").map(({ data }) => data),
      [true, true, false],
    );
    const [frame] = sockets.last.frames("send");
    assert.deepEqual([frame.room, frame.data], ["2", { text: "Brb" }]);
    sockets.last.reply(frame, 201, { data: { id: "3-c" } });
    assert.deepEqual(await said, { id: "3-c" });
  }),
);

test(
  "after a break a room joins again and receives what it missed",
  story(async (stage) => {
    const { hall, tell } = await joined(stage);
    const { sockets, clock } = stage;
    await tell("message", { id: "2-b", user: ann, data: "before" });
    sockets.last.end(1006);
    await clock.advance(2_500);
    assert.equal(hall.status, "stale");
    sockets.last.accept();
    const [frame] = sockets.last.frames("join");
    assert.equal(frame.since, "2-b");
    const messages = [{ room: "2", id: "3-c", user: ben, data: "meanwhile" }];
    sockets.last.reply(frame, 200, {
      data: { room: "2", users: [ann, ben], messages, position: "3-c", resumed: true },
    });
    await clock.advance(0);
    assert.deepEqual(
      [hall.status, hall.messages.map(({ data }) => data)],
      ["live", ["before", "meanwhile"]],
    );
    await tell("reset", {});
    assert.equal(sockets.last.frames("join").length, 2);
  }),
);

test(
  "a room that is revoked is empty, and leave() leaves",
  story(async (stage) => {
    const { api, hall, tell } = await joined(stage);
    const { sockets, clock } = stage;
    const same = api.here.join("2");
    assert.equal(sockets.last.frames("join").length, 1);
    hall.leave();
    same.leave();
    await clock.advance(0);
    assert.equal(sockets.last.frames("leave").length, 1);
    await tell("message", { user: ben, data: "after" });
    assert.deepEqual(hall.messages, []);
    const other = api.here.join(5);
    await settle();
    const frame = sockets.last.frames("join").at(-1);
    sockets.last.reply(frame, 200, { data: { room: "5", users: [ann] } });
    sockets.last.receive("here", {
      action: "revoke",
      response_status: 403,
      request_id: null,
      data: { room: "5" },
    });
    await clock.advance(0);
    assert.deepEqual([other.users, other.status], [[], "denied"]);
  }),
);

test(
  "a room that is left before it was joined is not joined, and one that is joined offline is, once",
  story(async ({ open, sockets, clock }) => {
    const api = open();
    await settle();
    api.here.join(1).leave();
    const hall = api.here.join(2);
    await clock.advance(0);
    sockets.last.accept();
    await clock.advance(20);
    assert.deepEqual(
      sockets.last.frames("join").map(({ room }) => room),
      ["2"],
    );
    assert.deepEqual(sockets.last.frames("leave"), []);
    sockets.last.reply(sockets.last.frames("join")[0], 200, { data: { room: "2", users: [ann] } });
    await clock.advance(20);
    assert.deepEqual([hall.status, names(hall.users)], ["live", ["ann"]]);
  }),
);

test(
  "join with an object is a viewset's own action",
  story(async ({ start, sockets }) => {
    const api = await start();
    api.clubs.join({ pk: 3 }).catch(() => {});
    assert.equal(sockets.last.frames("join")[0].pk, 3);
  }),
);

// Over a reload

test(
  "rows survive a reload for their user, and are resumed",
  talk(tables, async ({ server, clock, open, page }) => {
    const options = { persist: "session", user: 7 };
    const before = open(options);
    before.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    page.dispatch("pagehide");
    before.close();
    server.write("messages", "create", null, { room: 1, text: "meanwhile" });
    const sent = [];
    server.loses = ({ payload }, way) => (way === "down" && sent.push(payload.action), false);
    const list = open(options).messages.live({ query: { room: 1 } });
    await settle();
    assert.deepEqual([list.status, list.rows.map(({ text }) => text)], ["stale", ["one", "two"]]);
    await clock.advance(20);
    assert.deepEqual(
      [list.status, list.rows.length, sent],
      ["live", 3, ["ping", "subscribe", "create"]],
    );
  }),
);

test(
  "another user, and a user who has signed out, find nothing",
  talk(tables, async ({ server, clock, open, page }) => {
    const visit = async (user) => {
      const api = open({ persist: "session", user });
      const list = api.messages.live();
      await settle();
      const { status } = list;
      await clock.advance(20);
      page.dispatch("pagehide");
      return { api, status };
    };
    (await visit(7)).api.close();
    (await visit(8)).api.close();
    const { api, status } = await visit(7);
    assert.equal(status, "connecting");
    api.reconnect();
    await clock.advance(1_000);
    server.cut(4401);
    assert.deepEqual([api.state.name, Object.keys(page.sessionStorage)], ["signed-out", []]);
    await settle();
  }),
);

test(
  "without a user nothing is stored",
  talk(tables, async ({ clock, open, page }) => {
    open({ persist: "session" }).messages.live();
    await clock.advance(20);
    page.dispatch("pagehide");
    assert.deepEqual(Object.keys(page.sessionStorage), []);
  }),
);
