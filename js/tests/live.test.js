/* Live lists: what they show, how they resume, and how they end. */

import assert from "node:assert/strict";
import test from "node:test";
import { story } from "./support/sockets.js";
import { talk } from "./support/talk.js";

const rows = (n) =>
  Array.from({ length: n }, (_, i) => ({ id: i + 1, room: 1, text: `m${i + 1}` }));
const tables = { messages: [...rows(3), { id: 4, room: 2, text: "elsewhere" }] };
const ids = ({ rows }) => rows.map(({ id }) => id);

test(
  "a list shows what the server lists, in its order, and follows it",
  talk(tables, async ({ server, clock, open }) => {
    const list = open().messages.live({ query: { room: 1 } });
    assert.deepEqual([list.status, list.rows], ["connecting", []]);
    await clock.advance(20);
    assert.deepEqual([list.status, ids(list)], ["live", [1, 2, 3]]);
    server.write("messages", "create", null, { room: 1, text: "new" });
    server.write("messages", "patch", 2, { text: "changed" });
    server.write("messages", "destroy", 1);
    server.write("messages", "patch", 4, { room: 1 });
    await clock.advance(20);
    assert.deepEqual(ids(list), [2, 3, 4, 5]);
    assert.equal(list.byKey.get(2).text, "changed");
    assert.deepEqual(list.rows, server.list("messages", { room: 1 }));
  }),
);

test(
  "rows and lists stay the same objects until something changes",
  talk(tables, async ({ server, clock, open }) => {
    const list = open().messages.live({ query: { room: 1 } });
    await clock.advance(20);
    const [before, snapshot] = [list.rows, list.getSnapshot()];
    let calls = 0;
    list.subscribe(() => calls++);
    server.write("messages", "patch", 4, { text: "not in this list" });
    await clock.advance(20);
    assert.equal(list.rows, before);
    assert.equal(list.getSnapshot(), snapshot);
    assert.equal(calls, 0);
    server.write("messages", "patch", 2, { text: "changed" });
    await clock.advance(20);
    assert.notEqual(list.rows, before);
    assert.equal(before[1].text, "m2");
    assert.deepEqual([list.rows[0] === before[0], list.rows[1] === before[1]], [true, false]);
    assert.equal(calls, 1);
  }),
);

test(
  "a burst of events calls a subscriber once",
  talk(tables, async ({ server, clock, open }) => {
    const list = open().messages.live();
    await clock.advance(20);
    let calls = 0;
    list.subscribe(() => calls++);
    for (let i = 0; i < 100; i++) server.write("messages", "create", null, { room: 1 });
    await clock.advance(20);
    assert.deepEqual([calls, list.rows.length], [1, 104]);
  }),
);

test(
  "two that ask for the same share a subscription, which ends with the last",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const [a, b] = [
      api.messages.live({ query: { room: 1, by: "server" } }),
      api.messages.live({ query: { by: "server", room: 1 } }),
    ];
    const other = api.messages.live({ query: { room: 2 } });
    await clock.advance(20);
    const [link] = server.sockets;
    assert.equal(link.subs.size, 2);
    a.stop();
    await clock.advance(20);
    assert.deepEqual([link.subs.size, a.status, b.status], [2, "ended", "live"]);
    b.stop();
    const again = api.messages.live({ query: { room: 1, by: "server" } });
    await clock.advance(20);
    assert.deepEqual([link.subs.size, again.status], [2, "live"]);
    again.stop();
    other.stop();
    other.stop();
    await clock.advance(20);
    assert.equal(link.subs.size, 0);
  }),
);

test(
  "after a break only what has changed is sent",
  talk(tables, async ({ server, clock, open }) => {
    const list = open().messages.live({ query: { room: 1 } });
    await clock.advance(20);
    const kept = list.rows[2];
    server.cut();
    await clock.advance(5);
    assert.deepEqual([list.status, ids(list)], ["stale", [1, 2, 3]]);
    server.write("messages", "destroy", 2);
    server.write("messages", "create", null, { room: 1, text: "meanwhile" });
    const events = [];
    server.loses = ({ payload }, way) => (way === "down" && events.push(payload.action), false);
    await clock.advance(5_000);
    assert.deepEqual([list.status, ids(list)], ["live", [1, 3, 5]]);
    assert.deepEqual(events, ["ping", "subscribe", "delete", "create"]);
    assert.equal(list.rows[1], kept);
  }),
);

test(
  "a position that is worth nothing any more leads to a reset",
  talk(tables, async ({ server, clock, open }) => {
    const list = open().messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.cut();
    server.epoch++;
    server.write("messages", "destroy", 2);
    await clock.advance(5_000);
    assert.deepEqual([list.status, ids(list)], ["live", [1, 3]]);
  }),
);

test(
  "until the reset has come, rows are stale",
  story(async ({ start, sockets, clock }) => {
    const list = (await start()).messages.live();
    sockets.last.reply(asked(sockets), 201, { data: [{ id: 1 }], position: "a", resumed: false });
    sockets.last.end(1012);
    await clock.advance(1_000);
    sockets.last.accept();
    sockets.last.reply(asked(sockets), 201, { position: "-.b", resumed: false });
    await clock.advance(0);
    assert.deepEqual([list.status, ids(list)], ["stale", [1]]);
    const { request_id } = asked(sockets);
    sockets.last.receive("messages", {
      action: "reset",
      response_status: 205,
      request_id,
      data: [{ id: 2 }],
      position: "c",
      previous: "-.b",
    });
    await clock.advance(0);
    assert.deepEqual([list.status, ids(list)], ["live", [2]]);
  }),
);

test(
  "a subscription that waited to be sent when the line broke is asked for once",
  story(async ({ start, sockets, clock }) => {
    const api = await start({ limits: { inFlight: 1 } });
    const lists = [1, 2].map((room) => api.messages.live({ query: { room } }));
    sockets.last.end(1012);
    await clock.advance(1_000);
    sockets.last.accept();
    for (let i = 0; i < 2; i++)
      sockets.last.reply(asked(sockets), 201, { data: [], position: "a", resumed: false });
    await clock.advance(1_000);
    assert.deepEqual(
      sockets.last.frames("subscribe").map(({ query }) => query.room),
      [1, 2],
    );
    assert.ok(lists.every(({ status }) => status === "live"));
  }),
);

test(
  "a list that is stopped while it is asked for is not asked for again",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const lists = [3, 2, 1].map((window) => api.messages.live({ window }));
    await clock.advance(20);
    for (const list of lists) list.stop();
    await clock.advance(100);
    const [link] = server.sockets;
    assert.equal(link.subs.size, 0);
  }),
);

test(
  "a missing event is noticed by the next one",
  talk(tables, async ({ server, clock, open }) => {
    const list = open().messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.loses = ({ payload }) => payload.action === "delete";
    server.write("messages", "destroy", 2);
    server.loses = () => false;
    await clock.advance(20);
    assert.deepEqual(ids(list), [1, 2, 3]);
    server.write("messages", "create", null, { room: 1 });
    await clock.advance(20);
    assert.deepEqual(ids(list), [1, 3, 5]);
  }),
);

test(
  "a window shows the first rows, grows and shrinks",
  talk({ messages: rows(10) }, async ({ server, clock, open }) => {
    server.tables.messages.order = (a, b) => b.id - a.id;
    const list = open().messages.live({ window: 3 });
    await clock.advance(20);
    assert.deepEqual([ids(list), list.getSnapshot().hasMore], [[10, 9, 8], true]);
    server.write("messages", "create", null, { room: 1 });
    await clock.advance(20);
    assert.deepEqual(ids(list), [11, 10, 9]);
    const kept = list.rows[0];
    list.grow(2);
    await clock.advance(20);
    assert.deepEqual([ids(list), list.rows[0] === kept], [[11, 10, 9, 8, 7], true]);
    list.grow(-4);
    assert.deepEqual(ids(list), [11]);
    await clock.advance(20);
    list.grow(100);
    await clock.advance(20);
    assert.deepEqual([list.rows.length, list.getSnapshot().hasMore], [11, false]);
  }),
);

test(
  "while a window grows there may be more rows",
  talk({ messages: rows(5) }, async ({ clock, open }) => {
    const list = open().messages.live({ window: 4 });
    await clock.advance(20);
    list.grow(4);
    assert.equal(list.getSnapshot().hasMore, true);
    await clock.advance(20);
    assert.deepEqual([list.rows.length, list.getSnapshot().hasMore], [5, false]);
  }),
);

test(
  "a window that may not grow goes on at its former size, and says why",
  talk({ messages: rows(10) }, async ({ server, clock, open }) => {
    server.mostRows = 5;
    const list = open().messages.live({ window: 4 });
    await clock.advance(20);
    const seen = [];
    list.subscribe(() => seen.push([list.status, list.rows.length]));
    list.grow(4);
    server.write("messages", "destroy", 2); // its event comes while the answer is awaited
    await clock.advance(20);
    assert.deepEqual([list.status, list.window, ids(list)], ["live", 4, [1, 3, 4, 5]]);
    assert.deepEqual([list.error.status, list.error.codes], [400, ["too_many_rows"]]);
    assert.ok(
      seen.every(([status, shown]) => status === "live" && shown === 4),
      JSON.stringify(seen),
    );
    server.write("messages", "destroy", 3);
    await clock.advance(20);
    assert.deepEqual([list.status, ids(list)], ["live", [1, 4, 5, 6]]);
    list.grow(1);
    await clock.advance(20);
    assert.deepEqual([list.error, ids(list)], [null, [1, 4, 5, 6, 7]]);
  }),
);

test(
  "a list that is refused when it grows is ended on the server, and shows no further event",
  story(async ({ start, sockets, clock }) => {
    const list = (await start()).messages.live({ window: 1 });
    sockets.last.reply(asked(sockets), 201, { data: [{ id: 1 }], position: "a", resumed: false });
    list.grow(1);
    const { request_id } = asked(sockets);
    sockets.last.reply(asked(sockets), 403, { errors: ["No."] });
    const event = { action: "update", response_status: 200, request_id, previous: "a" };
    sockets.last.receive("messages", { ...event, data: { id: 1 }, position: "b" });
    await clock.advance(60_000);
    assert.deepEqual([list.status, list.rows, list.error.status], ["denied", [], 403]);
    const actions = sockets.all[0].frames().map(({ action }) => action);
    assert.deepEqual(actions, ["subscribe", "subscribe", "unsubscribe"]);
  }),
);

test(
  "a larger list of another component that is refused leaves the smaller one as it is",
  talk({ messages: rows(10) }, async ({ server, clock, open }) => {
    server.mostRows = 5;
    const api = open();
    const small = api.messages.live({ window: 4 });
    await clock.advance(20);
    const large = api.messages.live({ window: 8 });
    await clock.advance(20);
    assert.deepEqual([small.status, small.window, ids(small)], ["live", 4, [1, 2, 3, 4]]);
    assert.deepEqual([large.status, large.window, large.error.status], ["live", 4, 400]);
  }),
);

test(
  "windows of different size share the subscription of the largest",
  talk({ messages: rows(10) }, async ({ server, clock, open }) => {
    const api = open();
    const [small, large] = [api.messages.live({ window: 2 }), api.messages.live({ window: 5 })];
    await clock.advance(20);
    const [link] = server.sockets;
    assert.deepEqual([link.subs.size, ids(small), ids(large)], [1, [1, 2], [1, 2, 3, 4, 5]]);
    large.stop();
    await clock.advance(20);
    assert.deepEqual(
      [...link.subs.values()].map(({ window }) => window),
      [2],
    );
  }),
);

test(
  "a row that moves takes its place",
  talk(
    { cards: rows(4).map((row) => ({ ...row, place: row.id })) },
    async ({ server, clock, open }) => {
      server.tables.cards.order = (a, b) => a.place - b.place;
      const list = open().cards.live();
      await clock.advance(20);
      server.write("cards", "patch", 4, { place: 0 });
      await clock.advance(20);
      assert.deepEqual(ids(list), [4, 1, 2, 3]);
      server.write("cards", "patch", 1, { place: 9 });
      await clock.advance(20);
      assert.deepEqual(ids(list), [4, 2, 3, 1]);
    },
  ),
);

test(
  "a page that applies slowly is not flooded",
  talk(tables, async ({ server, clock, open }) => {
    const list = open().messages.live({ credit: 10 });
    await clock.advance(20);
    let events = 0;
    server.loses = ({ payload }, way) => (
      way === "down" && payload.action === "create" && events++,
      false
    );
    for (let i = 0; i < 50; i++) server.write("messages", "create", null, { room: 1 });
    assert.equal(events, 10);
    await clock.advance(200);
    assert.deepEqual([events, list.rows.length], [50, 54]);
  }),
);

test(
  "an async iterator yields the changes, all rows first",
  talk(tables, async ({ server, clock, open }) => {
    const list = open().messages.live({ query: { room: 1 } });
    const changes = [];
    const reading = (async () => {
      for await (const change of list) changes.push(change);
    })();
    await clock.advance(20);
    server.write("messages", "create", null, { room: 1, text: "new" });
    server.write("messages", "destroy", 1);
    await clock.advance(20);
    list.stop();
    await reading;
    assert.deepEqual(
      changes.map(({ type, key }) => [type, key]),
      [
        ["reset", undefined],
        ["create", 5],
        ["delete", 1],
      ],
    );
    assert.equal(changes[1].row.text, "new");
  }),
);

test(
  "a reader that is far behind receives all rows instead",
  talk(tables, async ({ server, clock, open }) => {
    const list = open().messages.live();
    const changes = list[Symbol.asyncIterator]();
    await clock.advance(20);
    for (let i = 0; i < 1100; i++) server.write("messages", "create", null, { room: 1 });
    await clock.advance(2_000);
    let read = await changes.next();
    let shown = 0;
    for (let i = 0; i < 1200 && read.value; i++) {
      if (read.value.type === "reset") shown = read.value.rows.length;
      else shown++;
      if (shown === 1104) break;
      read = await changes.next();
    }
    assert.equal(shown, 1104);
  }),
);

// Refusals

const asked = (sockets) => sockets.last.frames("subscribe").at(-1);

for (const [status, shown] of [
  [403, "denied"],
  [401, "denied"],
  [404, "denied"],
  [400, "ended"],
]) {
  test(
    `a subscription that is refused with ${status} is ${shown}`,
    story(async ({ start, sockets, clock }) => {
      const list = (await start()).messages.live();
      sockets.last.reply(asked(sockets), status, { errors: ["No."] });
      await clock.advance(0);
      assert.deepEqual(
        [list.status, list.error.status, list.error.errors],
        [shown, status, ["No."]],
      );
      await clock.advance(120_000);
      assert.equal(sockets.all[0].frames("subscribe").length, 1);
    }),
  );
}

for (const [status, shown] of [
  [403, "denied"],
  [400, "ended"],
]) {
  test(
    `revoke with ${status} drops all rows`,
    story(async ({ start, sockets, clock }) => {
      const list = (await start()).messages.live();
      const { request_id } = asked(sockets);
      sockets.last.reply(asked(sockets), 201, { data: [{ id: 1 }], position: "a", resumed: false });
      await clock.advance(0);
      sockets.last.receive("messages", {
        action: "revoke",
        response_status: status,
        request_id,
        errors: ["Permission revoked."],
      });
      await clock.advance(0);
      assert.deepEqual([list.rows, list.status, list.error.status], [[], shown, status]);
    }),
  );
}

test(
  "a list that was denied is asked for again on the next connection",
  story(async ({ start, sockets, clock }) => {
    const api = await start();
    const list = api.messages.live();
    sockets.last.reply(asked(sockets), 403, {});
    sockets.last.end(1012);
    await clock.advance(1_000);
    sockets.last.accept();
    sockets.last.reply(asked(sockets), 201, { data: [{ id: 1 }], position: "a", resumed: false });
    await clock.advance(0);
    assert.deepEqual([list.status, list.error], ["live", null]);
  }),
);

test(
  "429, 503 and revoke with 500 are tried again, later each time",
  story(async ({ start, sockets, clock }) => {
    const list = (await start()).messages.live();
    sockets.last.reply(asked(sockets), 503, { headers: { "Retry-After": "4" } });
    await clock.advance(3_999);
    assert.equal(sockets.last.frames("subscribe").length, 1);
    await clock.advance(2_001); // and half of as much again, by chance
    assert.equal(sockets.last.frames("subscribe").length, 2);
    sockets.last.reply(asked(sockets), 201, { data: [{ id: 1 }], position: "a", resumed: false });
    const { request_id } = asked(sockets);
    sockets.last.receive("messages", { action: "revoke", response_status: 500, request_id });
    await clock.advance(0);
    assert.deepEqual([list.status, list.rows.length], ["stale", 1]);
    sockets.last.receive("messages", { action: "alive", response_status: 200, request_id: null });
    await clock.advance(5_000);
    assert.deepEqual(
      [sockets.last.frames("subscribe").length, asked(sockets).since, asked(sockets).held],
      [3, "a", [1]],
    );
  }),
);

test(
  "events of a subscription that is being replaced do not count",
  story(async ({ start, sockets, clock }) => {
    const list = (await start()).messages.live({ window: 1 });
    sockets.last.reply(asked(sockets), 201, { data: [{ id: 1 }], position: "a", resumed: false });
    list.grow(1);
    const frame = asked(sockets);
    assert.deepEqual([frame.since, frame.held, frame.window, frame.ordered], ["a", [1], 2, true]);
    const event = { action: "create", response_status: 200, request_id: frame.request_id };
    sockets.last.receive("messages", {
      ...event,
      data: { id: 9 },
      after: null,
      position: "b",
      previous: "a",
    });
    sockets.last.reply(frame, 201, { position: "a", resumed: true });
    sockets.last.receive("messages", {
      ...event,
      data: { id: 2 },
      after: 1,
      position: "c",
      previous: "a",
    });
    await clock.advance(0);
    assert.deepEqual(ids(list), [1, 2]);
  }),
);

test(
  "a stream with an action `ack` of its own is followed without credit",
  story(async ({ start, sockets, clock }) => {
    const list = (await start()).messages.live();
    assert.equal(asked(sockets).credit, 256);
    sockets.last.reply(asked(sockets), 400, { errors: ["No 'credit' here."], codes: ["invalid"] });
    assert.equal(asked(sockets).credit, undefined);
    sockets.last.reply(asked(sockets), 201, { data: [], position: "a", resumed: false });
    await clock.advance(0);
    assert.equal(list.status, "live");
  }),
);

test(
  "one row is followed by its key, and may go",
  story(async ({ start, sockets, clock }) => {
    const one = (await start()).messages.live({ pk: 3 });
    const [frame] = sockets.last.frames("subscribe_instance");
    assert.deepEqual([frame.pk, frame.ordered, frame.window], [3, undefined, undefined]);
    sockets.last.reply(frame, 201, {
      data: { id: 3, text: "Hello" },
      position: "a",
      resumed: false,
    });
    await clock.advance(0);
    assert.equal(one.rows[0].text, "Hello");
    const { request_id } = frame;
    sockets.last.receive("messages", {
      action: "delete",
      response_status: 204,
      request_id,
      data: { pk: 3 },
      position: "b",
      previous: "a",
    });
    await clock.advance(0);
    assert.deepEqual([one.rows, one.status], [[], "live"]);
    one.stop();
    await clock.advance(0);
    assert.equal(sockets.last.frames("unsubscribe_instance").length, 1);
  }),
);

test(
  "many large lists resume within the server's bounds",
  story(async ({ start, sockets, clock }) => {
    const api = await start();
    const lists = Array.from({ length: 40 }, (_, room) => api.messages.live({ query: { room } }));
    let most = 0;
    let mostLong = 0;
    const answer = async (respond) => {
      for (let i = 0; i < 100; i++) {
        const waiting = sockets.last.frames("subscribe").slice(i);
        const isLong = (frame) => JSON.stringify(frame).length > 64 * 1024;
        most = Math.max(most, waiting.length);
        mostLong = Math.max(mostLong, waiting.filter(isLong).length);
        if (waiting.length === 0) return;
        respond(waiting[0]);
        await clock.advance(1);
      }
    };
    const data = Array.from({ length: 9800 }, (_, i) => ({ id: 100_000 + i }));
    await answer((frame) =>
      sockets.last.reply(frame, 201, { data, position: "a", resumed: false }),
    );
    sockets.last.end(1006);
    await clock.advance(2_500);
    sockets.last.accept();
    await answer((frame) => sockets.last.reply(frame, 201, { position: "a", resumed: true }));
    assert.ok(lists.every(({ status, rows }) => status === "live" && rows.length === 9800));
    assert.ok(most <= 16 && mostLong === 1, `${most} frames, ${mostLong} long ones`);
  }),
);

test(
  "rows with another key are kept by that",
  story(async ({ start, sockets, clock }) => {
    const api = await start({ keys: { rooms: "slug" } });
    const list = api.rooms.live();
    sockets.last.reply(asked(sockets), 201, {
      data: [{ slug: "hall" }, { slug: "attic" }],
      position: "a",
      resumed: false,
    });
    const { request_id } = asked(sockets);
    sockets.last.receive("rooms", {
      action: "delete",
      response_status: 204,
      request_id,
      data: { pk: "hall" },
      position: "b",
      previous: "a",
    });
    await clock.advance(0);
    assert.deepEqual([...list.byKey.keys()], ["attic"]);
  }),
);

test(
  "a subscriber that fails does not keep others from the change",
  talk(tables, async ({ clock, open }) => {
    const list = open().messages.live();
    const { error } = console;
    const reported = [];
    console.error = (...all) => reported.push(...all);
    let calls = 0;
    const stop = list.subscribe(() => {
      throw new Error("mine");
    });
    list.subscribe(() => calls++);
    await clock.advance(20);
    console.error = error;
    stop();
    assert.deepEqual([calls, reported.map(({ message }) => message)], [1, ["mine"]]);
  }),
);
