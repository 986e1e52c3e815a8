/* The Svelte stores. */

import { browse } from "./support/browser.js";
import assert from "node:assert/strict";
import test from "node:test";
import { compile } from "svelte/compiler";
import { derived, get } from "svelte/store";
import { connectionStore, liveStore, roomStore, watchStore } from "rest-channels/svelte";
import { example } from "./support/guide.js";

const tables = { messages: [1, 1, 2].map((room, i) => ({ id: i + 1, room, text: `m${i + 1}` })) };

test("a list is open while it has subscribers, and followed", browse(tables, async ({ server, clock, open }) => {
  const list = liveStore(open().messages, { query: { room: 1 }, window: 1 });
  await clock.advance(20);
  assert.deepEqual(server.requests, []);
  const seen = [];
  const end = derived(list, ({ status, rows }) => `${status} ${rows.map(({ text }) => text)}`).subscribe((text) => seen.push(text));
  const other = list.subscribe(() => {});
  await clock.advance(20);
  list.grow(1);
  await clock.advance(20);
  server.write("messages", "patch", 2, { text: "changed" });
  await clock.advance(20);
  assert.deepEqual(seen, ["connecting ", "live m1", "live m1,m2", "live m1,changed"]);
  assert.equal(list.keyOf(get(list).rows[0]), 1);
  end();
  end();
  await clock.advance(20);
  assert.equal(server.requests.includes("unsubscribe"), false);
  other();
  await clock.advance(20);
  assert.equal(server.requests.at(-1), "unsubscribe");
}));

test("watches, rooms and the connection are stores", browse(tables, async ({ server, clock, open }) => {
  const api = open();
  server.receive = (stream, { action }, reply) =>
    reply(200, action === "join" ? { data: { room: "3", users: [{ id: 1 }], messages: [], position: "1-a" } } : {});
  const [count, hall, state] = [watchStore(api.messages, "count"), roomStore(api.here, 3), connectionStore(api)];
  const names = [];
  const ends = [count.subscribe(() => {}), hall.subscribe(() => {}), state.subscribe(({ name }) => names.push(name))];
  await clock.advance(20);
  assert.deepEqual([get(count).data, get(hall).users, names[0], names.at(-1)], [{ count: 3 }, [{ id: 1 }], "connecting", "connected"]);
  hall.say("Hi");
  await clock.advance(20);
  for (const end of ends) end();
  await clock.advance(20);
  assert.deepEqual(server.requests.slice(-3), ["send", "unwatch", "leave"]);
}));

test("null subscribes to nothing", browse(tables, async ({ server, clock, open }) => {
  const api = open();
  const [list, count, hall] = [liveStore(api.messages, null), watchStore(api.messages, "count", null), roomStore(api.here, null)];
  const ends = [list, count, hall].map((store) => store.subscribe(() => {}));
  await clock.advance(20);
  assert.deepEqual([get(list).rows, get(count).data, get(hall).users], [[], undefined, []]);
  assert.throws(() => list.grow(1), { message: "grow() requires a subscription: pass a value other than null." });
  assert.throws(() => hall.say("Hi"), { message: "say() requires a subscription: pass a value other than null." });
  for (const end of ends) end();
  await clock.advance(20);
  assert.deepEqual(server.requests, []);
}));

test("the guide's example compiles without a warning", () => {
  const { js, warnings } = compile(example("Svelte", "svelte"), { generate: "client" });
  assert.deepEqual(warnings, []);
  assert.match(js.code, /store_get/);
});
