/* Writes: shown at once, confirmed by the fence, rolled back on errors, sent once. */

import assert from "node:assert/strict";
import test from "node:test";
import { ApiError, ConnectionLost } from "rest-channels";
import { settle } from "./support/clock.js";
import { talk } from "./support/talk.js";

const tables = {
  messages: [
    { id: 1, room: 1, text: "one" },
    { id: 2, room: 1, text: "two" },
    { id: 3, room: 2, text: "three" },
  ],
};
const texts = ({ rows }) => rows.map(({ text }) => text);
const keys = (list) => list.rows.map((row) => list.keyOf(row));

/** Note every state that subscribers of a list see. */
function watchTexts(list) {
  const seen = [texts(list)];
  list.subscribe(() => seen.push(texts(list)));
  return seen;
}

test(
  "a create is shown at once and keeps its key, without a moment with two or none",
  talk(tables, async ({ clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    const other = api.messages.live({ query: { room: 2 } });
    await clock.advance(20);
    const seen = watchTexts(list);
    const created = api.messages.create({ room: 1, text: "new" });
    assert.deepEqual(texts(list), ["one", "two", "new"]);
    assert.deepEqual([list.isPending(list.rows[2]), list.isPending(list.rows[0])], [true, false]);
    assert.deepEqual(texts(other), ["three"]);
    const [, , key] = keys(list);
    await clock.advance(20);
    const row = await created;
    assert.deepEqual([row.id, list.rows[2]], [4, { id: 4, by: "server", room: 1, text: "new" }]);
    assert.deepEqual([keys(list)[2], list.isPending(list.rows[2])], [key, false]);
    assert.ok(
      seen.slice(1).every((state) => state.length === 3),
      JSON.stringify(seen),
    );
  }),
);

test(
  "the list shows a write when its promise resolves",
  talk(tables, async ({ server, clock, open }) => {
    const api = open({ optimistic: false });
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.latency = () => 5;
    const created = api.messages.create({ room: 1, text: "new" }).then(() => texts(list));
    assert.deepEqual(texts(list), ["one", "two"]);
    await clock.advance(20);
    assert.deepEqual(await created, ["one", "two", "new"]);
  }),
);

test(
  "a create whose reply was lost is not shown twice when the rows come again",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    const seen = watchTexts(list);
    server.loses = (_, way) => way === "down";
    const created = api.messages.create({ room: 1, text: "new" });
    await clock.advance(20);
    server.loses = () => false;
    let latency = 50;
    server.latency = () => latency++; // rows and the repeated reply come one after the other
    server.epoch++; // its positions mean nothing any more: all rows come
    server.cut();
    await clock.advance(20_000);
    assert.deepEqual([(await created).id, texts(list)], [4, ["one", "two", "new"]]);
    assert.ok(seen.slice(1).every((state) => state.length === 3), JSON.stringify(seen));
  }),
);

test(
  "patch, update and destroy are shown at once",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    const seen = watchTexts(list);
    const all = [
      api.messages.patch(1, { text: "uno" }),
      api.messages.update(2, { room: 1, text: "dos" }),
      api.messages.destroy(1),
    ];
    assert.deepEqual(seen, [["one", "two"], ["uno", "two"], ["uno", "dos"], ["dos"]]);
    await clock.advance(20);
    await Promise.all(all);
    assert.deepEqual(texts(list), ["dos"]);
    assert.ok(
      seen.slice(4).every((state) => state.join() === "dos"),
      JSON.stringify(seen),
    );
    assert.deepEqual(server.list("messages", { room: 1 }), list.rows);
  }),
);

test(
  "a change that moves a row out of one list and into another does both",
  talk(tables, async ({ clock, open }) => {
    const api = open();
    const [first, second] = [1, 2].map((room) => api.messages.live({ query: { room } }));
    await clock.advance(20);
    const moved = api.messages.patch(1, { room: 2 });
    assert.deepEqual([texts(first), texts(second)], [["two"], ["three", "one"]]);
    await clock.advance(20);
    await moved;
    assert.deepEqual([texts(first), texts(second)], [["two"], ["one", "three"]]);
  }),
);

test(
  "a refused write disappears, and the error says what was rolled back",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.refuses = () => ({
      status: 400,
      errors: [{ text: ["Too rude."] }],
      codes: [{ text: ["rude"] }],
    });
    const all = [
      api.messages.create({ room: 1, text: "#$!" }),
      api.messages.patch(1, { text: "#!" }),
      api.messages.destroy(2),
    ];
    const errors = Promise.all(all.map((call) => call.catch((error) => error)));
    assert.deepEqual(texts(list), ["#!", "#$!"]);
    await clock.advance(20);
    const [created, patched, destroyed] = await errors;
    assert.deepEqual(texts(list), ["one", "two"]);
    assert.ok(created instanceof ApiError);
    assert.deepEqual(created.fields, { text: ["Too rude."] });
    assert.deepEqual(created.rolledBack.data, { room: 1, text: "#$!" });
    assert.deepEqual(patched.rolledBack, {
      stream: "messages",
      action: "patch",
      key: 1,
      data: { text: "#!" },
    });
    assert.deepEqual([destroyed.rolledBack.action, destroyed.rolledBack.key], ["destroy", 2]);
  }),
);

test(
  "an event of another user does not undo a write that waits",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.latency = () => 100;
    const patched = api.messages.patch(1, { text: "mine" });
    server.write("messages", "patch", 1, { text: "theirs", by: "ben" });
    await clock.advance(110);
    assert.deepEqual(list.rows[0], { id: 1, room: 1, text: "mine", by: "ben" });
    await clock.advance(200);
    await patched;
    assert.deepEqual(texts(list), ["mine", "two"]);
  }),
);

test(
  "without a fence a write is shown until its event comes",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    const seen = watchTexts(list);
    server.fences = () => false; // its events come 50 ms later
    const all = [
      api.messages.create({ room: 1, text: "new" }),
      api.messages.patch(1, { text: "uno" }),
      api.messages.destroy(2),
    ];
    const key = keys(list).at(-1);
    await clock.advance(20);
    await Promise.all(all);
    assert.deepEqual([texts(list), keys(list).at(-1)], [["uno", "new"], key]);
    await clock.advance(200);
    assert.deepEqual([texts(list), keys(list).at(-1)], [["uno", "new"], key]);
    assert.ok(
      seen.slice(3).every((state) => state.join() === "uno,new"),
      JSON.stringify(seen),
    );
    server.write("messages", "patch", 1, { text: "later" });
    await clock.advance(20);
    assert.deepEqual(texts(list), ["later", "new"]);
  }),
);

test(
  "a write that the list never shows is dropped after a while",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 }, matches: () => true });
    await clock.advance(20);
    server.fences = () => false;
    const created = api.messages.create({ room: 2, text: "elsewhere" });
    await clock.advance(1_000);
    await created;
    assert.deepEqual(texts(list), ["one", "two", "elsewhere"]);
    await clock.advance(10_000);
    assert.deepEqual(texts(list), ["one", "two"]);
  }),
);

test(
  "a row with a temporary key can be changed and deleted before the server has it",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    const created = api.messages.create({ room: 1, text: "draft" });
    const { id } = list.rows[2];
    const patched = api.messages.patch(id, { text: "final" });
    assert.deepEqual(texts(list), ["one", "two", "final"]);
    await clock.advance(20);
    await created;
    await clock.advance(20);
    assert.equal((await patched).id, 4);
    assert.deepEqual(
      server.list("messages", { room: 1 }).map(({ text }) => text),
      ["one", "two", "final"],
    );
    assert.deepEqual(texts(list), ["one", "two", "final"]);
    const destroyed = api.messages.destroy(id);
    assert.deepEqual(server.list("messages", { room: 1 }).length, 3);
    await clock.advance(20);
    await destroyed;
    assert.deepEqual(texts(list), ["one", "two"]);
  }),
);

test(
  "a change of a row whose create was refused fails with the same error",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.refuses = () => ({ status: 400, errors: ["No."] });
    const created = api.messages.create({ room: 1, text: "draft" }).catch((error) => error);
    const patched = api.messages.patch(list.rows[2].id, { text: "final" }).catch((error) => error);
    await clock.advance(20);
    assert.equal(await created, await patched);
    assert.deepEqual(texts(list), ["one", "two"]);
  }),
);

test(
  "a row of another user that looks the same is kept apart",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.latency = () => 50;
    const created = api.messages.create({ room: 1, text: "hi" });
    const key = keys(list)[2];
    server.write("messages", "create", null, { room: 1, text: "hi" });
    await clock.advance(300);
    const { id } = await created;
    assert.deepEqual(texts(list), ["one", "two", "hi", "hi"]);
    assert.equal(new Set(keys(list)).size, 4);
    assert.equal(list.keyOf(list.byKey.get(id)), key);
  }),
);

test(
  "optimistic rows take the place that the order suggests, and no place behind a full window",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    server.tables.messages.order = (a, b) => b.id - a.id;
    const newest = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    const sorted = api.messages.live({ compare: (a, b) => (a.text < b.text ? -1 : 1) });
    server.tables.messages.order = (a, b) => (a.text < b.text ? -1 : 1);
    await clock.advance(20);
    const created = api.messages.create({ room: 1, text: "ozone" });
    assert.deepEqual(texts(newest), ["ozone", "two", "one"]);
    assert.deepEqual(texts(sorted), ["one", "ozone", "three", "two"]);
    await clock.advance(20);
    await created;
    assert.deepEqual(texts(sorted), ["one", "ozone", "three", "two"]);
    server.tables.messages.order = (a, b) => a.id - b.id;
    sorted.stop();
    await clock.advance(20);
    const oldest = api.messages.live({ window: 2 });
    await clock.advance(20);
    api.messages.create({ room: 1, text: "last" }).catch(() => {});
    assert.deepEqual(texts(oldest), ["one", "two"]);
  }),
);

test(
  "optimistic: false, of a call or of all, shows nothing early",
  talk(tables, async ({ clock, open }) => {
    for (const [options, how] of [
      [{}, { optimistic: false }],
      [{ optimistic: false }, {}],
    ]) {
      const api = open(options);
      const list = api.messages.live({ query: { room: 1 } });
      await clock.advance(20);
      const destroyed = api.messages.destroy(list.rows[0].id, how);
      assert.equal(list.isPending(list.rows[0]), false);
      const before = list.rows.length;
      await clock.advance(20);
      await destroyed;
      assert.equal(list.rows.length, before - 1);
    }
  }),
);

test(
  "fields beside the data are shown, and not sent",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.latency = () => 5;
    const created = api.messages.create({ text: "new" }, { optimistic: { room: 1, by: "me" } });
    assert.deepEqual([list.rows[2].text, list.rows[2].by], ["new", "me"]);
    const changed = api.messages.patch(1, { text: "uno" }, { optimistic: { by: "me" } });
    assert.deepEqual([list.rows[0].text, list.rows[0].by], ["uno", "me"]);
    await clock.advance(20);
    assert.equal((await created).room, undefined);
    assert.equal((await changed).by, "server");
  }),
);

// Once

test(
  "a write whose reply is lost is repeated and happens once",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    const seen = watchTexts(list);
    server.loses = ({ payload }, way) =>
      way === "down" && payload.action === "create" && payload.response_status === 201;
    const created = api.messages.create({ room: 1, text: "new" });
    await clock.advance(20);
    server.cut();
    server.loses = () => false;
    await clock.advance(5_000);
    assert.equal((await created).id, 4);
    assert.deepEqual([server.writes.length, texts(list)], [1, ["one", "two", "new"]]);
    assert.ok(
      seen.slice(1).every((state) => state.join() === "one,two,new"),
      JSON.stringify(seen),
    );
  }),
);

test(
  "a write made while offline is shown, listed as pending, and sent later",
  talk(tables, async ({ server, clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.cut();
    const created = api.messages.create({ room: 1, text: "offline" });
    assert.deepEqual(
      [texts(list), api.pending.length, api.pending[0].wasSent],
      [["one", "two", "offline"], 1, false],
    );
    await clock.advance(5_000);
    await created;
    assert.deepEqual([server.list("messages", { room: 1 }).length, api.pending], [3, []]);
  }),
);

test(
  "a write that is given up is rolled back",
  talk(tables, async ({ server, clock, open }) => {
    const api = open({ limits: { retrySeconds: 30 } });
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    server.handshake = () => 1013;
    server.cut();
    const created = api.messages.create({ room: 1, text: "never" }).catch((error) => error);
    await clock.advance(31_000);
    const error = await created;
    assert.ok(error instanceof ConnectionLost);
    assert.equal(error.rolledBack.data.text, "never");
    assert.deepEqual([texts(list), server.writes], [["one", "two"], []]);
  }),
);

test(
  "aborting a write rolls it back",
  talk(tables, async ({ clock, open }) => {
    const api = open();
    const list = api.messages.live({ query: { room: 1 } });
    await clock.advance(20);
    const controller = new AbortController();
    const destroyed = api.messages.destroy(1, { signal: controller.signal });
    assert.deepEqual(texts(list), ["two"]);
    controller.abort(new Error("changed my mind"));
    await assert.rejects(destroyed, /changed my mind/);
    await settle();
    assert.deepEqual(texts(list), ["one", "two"]);
  }),
);
