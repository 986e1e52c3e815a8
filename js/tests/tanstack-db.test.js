/* Collections of TanStack DB. */

import assert from "node:assert/strict";
import test from "node:test";
import { createCollection } from "@tanstack/db";
import { ApiError } from "rest-channels";
import { restChannelsCollectionOptions } from "rest-channels/tanstack-db";
import { example, run } from "./support/guide.js";
import { talk } from "./support/talk.js";

const tables = { messages: [1, 1, 2].map((room, i) => ({ id: i + 1, room, text: `m${i + 1}` })) };
const texts = (collection) => collection.toArray.map(({ text }) => text);

/** Run a test with a collection, and a note of each change that it reports. */
const collected = (play, options = { query: { room: 1 } }) =>
  talk(tables, async ({ server, clock, open, ...rest }) => {
    server.frames = [];
    server.loses = ({ payload }, way) => (way === "up" && payload.action !== "ping" && server.frames.push(payload), false);
    const api = open();
    const messages = createCollection(restChannelsCollectionOptions(api.messages, options));
    const seen = [];
    const notes = messages.subscribeChanges((changes) => {
      for (const { type, value } of changes) seen.push(`${type} ${value.text}`);
    });
    await clock.advance(20);
    await play({ server, clock, api, messages, seen: () => seen.splice(0), ...rest });
    notes.unsubscribe();
    await messages.cleanup();
    await clock.advance(20);
    for (const { subs } of server.sockets) assert.equal(subs.size, 0); // nothing leaks
  });

test("a collection has the rows of a list, and follows it", collected(async ({ server, clock, messages, seen }) => {
  assert.deepEqual([messages.status, texts(messages), seen()], ["ready", ["m1", "m2"], ["insert m1", "insert m2"]]);
  server.write("messages", "patch", 2, { text: "changed" });
  server.write("messages", "create", null, { room: 1, text: "new" });
  server.write("messages", "create", null, { room: 2, text: "elsewhere" });
  server.write("messages", "destroy", 1);
  await clock.advance(20);
  assert.deepEqual(texts(messages), ["changed", "new"]);
  assert.deepEqual(seen().sort(), ["delete m1", "insert new", "update changed"]);
}));

test("an insert is pending until the fence: no row disappears or is there twice", collected(async ({ server, clock, messages }) => {
  const shown = [];
  messages.subscribeChanges(() => shown.push(texts(messages).filter((text) => text === "mine").length));
  server.latency = () => 10;
  const insert = messages.insert({ id: "mine", room: 1, text: "mine" });
  assert.deepEqual([insert.state, texts(messages)], ["persisting", ["m1", "m2", "mine"]]);
  await clock.advance(50);
  await insert.isPersisted.promise;
  assert.deepEqual([insert.state, messages.get(4).by, messages.has("mine")], ["completed", "server", false]);
  assert.deepEqual(new Set(shown), new Set([1]));
  const [frame] = server.frames.filter(({ action }) => action === "create");
  assert.deepEqual([frame.fence, typeof frame.idempotency_key], [true, "string"]);
}));

test("a created row keeps the key of its element when it gets its real key", collected(async ({ server, clock, messages }) => {
  const { keyOf } = messages.utils;
  const shown = new Set();
  messages.subscribeChanges(() => {
    for (const row of messages.toArray) if (row.text === "mine") shown.add(keyOf(row));
  });
  server.latency = () => 10;
  const insert = messages.insert({ id: "temporary", room: 1, text: "mine" });
  await clock.advance(50);
  await insert.isPersisted.promise;
  assert.deepEqual([messages.get(4).text, keyOf(messages.get(4)), keyOf(messages.get(1))], ["mine", "temporary", 1]);
  assert.deepEqual([...shown], ["temporary"]);
  server.write("messages", "destroy", 4);
  await clock.advance(50);
  assert.equal(keyOf({ id: 4 }), 4); // another row may get the key
}));

test("updates send what has changed, deletes the key; both are done at the fence", collected(async ({ server, clock, messages, seen }) => {
  seen();
  const update = messages.update(1, (row) => void (row.text = "mine"));
  const removal = messages.delete(2);
  assert.deepEqual(texts(messages), ["mine"]);
  await clock.advance(20);
  await Promise.all([update.isPersisted.promise, removal.isPersisted.promise]);
  assert.deepEqual(texts(messages), ["mine"]);
  assert.deepEqual(server.writes.map(({ action, id, data }) => [action, id, data]), [
    ["patch", 1, { text: "mine" }],
    ["destroy", 2, undefined],
  ]);
  assert.equal(messages.get(1).by, "server");
  assert.ok(!seen().includes("update m1")); // the former text never comes back
}));

test("a row may be changed and deleted while it is created", collected(async ({ server, clock, messages }) => {
  messages.insert({ id: "mine", room: 1, text: "mine" });
  messages.update("mine", (row) => void (row.text = "changed"));
  await clock.advance(20);
  assert.deepEqual(server.writes.map(({ action, id }) => [action, id]), [["create", 4], ["patch", 4]]);
  assert.deepEqual(texts(messages), ["m1", "m2", "changed"]);
}));

test("what the server refuses is rolled back, with what depends on it", collected(async ({ server, clock, messages }) => {
  server.refuses = ({ action }) => action === "create" && { status: 400, errors: [{ text: ["No."] }], codes: [{ text: ["invalid"] }] };
  const insert = messages.insert({ id: "mine", room: 1, text: "mine" });
  const update = messages.update("mine", (row) => void (row.text = "changed"));
  const other = messages.insert({ id: "other", room: 1, text: "other" });
  const refused = [insert, update, other].map(({ isPersisted }) => isPersisted.promise.catch((error) => error));
  await clock.advance(20);
  const [error] = await Promise.all(refused);
  assert.ok(error instanceof ApiError && error.fields.text[0] === "No.");
  assert.deepEqual([insert.state, update.state, other.state, texts(messages)], ["failed", "failed", "failed", ["m1", "m2"]]);
  assert.deepEqual(server.frames.map(({ action }) => action), ["subscribe", "create", "create"]);
}));

test("after a break only what has changed is touched", collected(async ({ server, clock, messages, seen }) => {
  seen();
  server.cut();
  server.write("messages", "patch", 2, { text: "meanwhile" });
  await clock.advance(10_000);
  assert.deepEqual([texts(messages), seen()], [["m1", "meanwhile"], ["update meanwhile"]]);
}));

test("rows disappear when the user may no longer see them, also while a write is pending", collected(async ({ server, clock, api, messages }) => {
  server.latency = () => 1000;
  server.refuses = () => ({ status: 403, errors: ["No."], codes: ["permission_denied"] });
  const update = messages.update(1, (row) => void (row.text = "mine"));
  const failed = assert.rejects(update.isPersisted.promise, { status: 403 });
  await clock.advance(20);
  server.latency = () => 1;
  const [link] = server.sockets;
  link.send("messages", { action: "revoke", response_status: 403, request_id: [...link.subs.keys()][0] });
  await clock.advance(20);
  assert.deepEqual([messages.status, texts(messages)], ["error", ["mine"]]); // what this user has just written
  await clock.advance(2000);
  await failed;
  assert.deepEqual(texts(messages), []);
  server.cut();
  await clock.advance(5000);
  assert.deepEqual([messages.status, texts(messages)], ["ready", ["m1", "m2"]]);
}));

test("rows disappear at sign-out", collected(async ({ server, clock, messages }) => {
  server.cut(4401);
  await clock.advance(200);
  assert.deepEqual([messages.status, texts(messages)], ["error", []]);
}));

test("a list that is refused from the start is an error of the collection", talk(tables, async ({ server, clock, open }) => {
  server.handshake = () => 4403;
  const messages = createCollection(restChannelsCollectionOptions(open().messages));
  const failed = assert.rejects(messages.preload(), /denied/);
  await clock.advance(200);
  await failed;
  assert.equal(messages.status, "error");
  await messages.cleanup();
}));

const deleted = [];
test("windows, and the collection's own options", collected(async ({ server, clock, messages }) => {
  assert.deepEqual([messages.id, [...messages.keys()]], ["newest", [1]]);
  server.write("messages", "destroy", 1);
  await clock.advance(20);
  assert.deepEqual([...messages.keys()], [2]);
  messages.delete(2);
  await clock.advance(20);
  assert.deepEqual([deleted, server.writes.length], [[2], 1]);
  messages.insert({ id: "mine", room: 1, text: "mine" });
  await clock.advance(20);
  for (const action of ["subscribe", "create"]) {
    const { headers, room_pk } = server.frames.find((frame) => frame.action === action);
    assert.deepEqual([headers, room_pk], [{ "accept-language": "fr" }, 1]);
  }
}, { window: 1, headers: { "accept-language": "fr" }, lookups: { room_pk: 1 }, id: "newest", onDelete: async ({ transaction }) => deleted.push(transaction.mutations[0].key) }));

test("the guide's example runs", talk(tables, async ({ server, clock, open }) => {
  const { messages, send } = await run("tanstack-db", example("TanStack DB", "js"), open());
  messages.startSyncImmediate();
  await clock.advance(20);
  const sent = send("Hello");
  assert.deepEqual(texts(messages), ["m1", "m2", "Hello"]);
  await clock.advance(20);
  await sent;
  assert.deepEqual([texts(messages), server.writes.length], [["m1", "m2", "Hello"], 1]);
  await messages.cleanup();
}));
