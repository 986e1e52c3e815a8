/* The Vue composables. */

import { browse } from "./support/browser.js";
import assert from "node:assert/strict";
import test from "node:test";
import { effectScope, nextTick, ref } from "vue";
import { useConnection, useLive, useRoom, useWatch } from "rest-channels/vue";
import { example, run } from "./support/guide.js";

for (const name of ["SVGElement", "MathMLElement", "ShadowRoot"]) globalThis[name] ??= window[name] ?? class {};
const { createApp } = await import("vue");

const tables = { messages: [1, 1, 2].map((room, i) => ({ id: i + 1, room, text: `m${i + 1}` })) };
const texts = ({ rows }) => rows.value.map(({ text }) => text);

/** Run a test in a scope of Vue; after it, nothing is subscribed to. */
const scoped = (play) =>
  browse(tables, async ({ clock, server, ...browser }) => {
    const scope = effectScope();
    const pass = async (ms) => (await nextTick(), clock.advance(ms));
    await play({ server, pass, setup: (call) => scope.run(call), ...browser });
    scope.stop();
    await pass(20);
    for (const { subs } of server.sockets) assert.equal(subs.size, 0);
  });

test("useLive shows a list and follows it", scoped(async ({ server, open, pass, setup }) => {
  const list = setup(() => useLive(open().messages, { query: { room: 1 }, window: 1 }));
  assert.deepEqual([list.status.value, texts(list)], ["connecting", []]);
  await pass(20);
  assert.deepEqual([list.status.value, texts(list), list.hasMore.value], ["live", ["m1"], true]);
  list.grow(2);
  server.write("messages", "patch", 2, { text: "changed" });
  await pass(20);
  assert.deepEqual([texts(list), list.keyOf(list.rows.value[0])], [["m1", "changed"], 1]);
}));

test("options that change in value subscribe again, equal ones do not", scoped(async ({ server, open, pass, setup }) => {
  const [room, other] = [ref(1), ref(0)];
  const options = () => (other.value, room.value && { query: { room: room.value } });
  const list = setup(() => useLive(open().messages, options));
  await pass(20);
  other.value++;
  await pass(20);
  assert.deepEqual([texts(list), server.requests], [["m1", "m2"], ["subscribe"]]);
  room.value = 2;
  await pass(20);
  assert.deepEqual([texts(list), server.requests], [["m3"], ["subscribe", "subscribe", "unsubscribe"]]);
  room.value = null;
  await pass(20);
  assert.deepEqual([texts(list), server.requests.at(-1)], [[], "unsubscribe"]);
  assert.throws(() => list.grow(1), { message: "grow() requires a subscription: pass a value other than null." });
  const hall = setup(() => useRoom(open().here, null));
  assert.throws(() => hall.say("Hi"), { message: "say() requires a subscription: pass a value other than null." });
}));

test("useWatch, useRoom and useConnection", scoped(async ({ server, open, pass, setup }) => {
  const api = open();
  server.receive = (stream, { action }, reply) =>
    reply(200, action === "join" ? { data: { room: "3", users: [{ id: 1 }], messages: [], position: "1-a" } } : {});
  const count = setup(() => useWatch(api.messages, "count"));
  const hall = setup(() => useRoom(api.here, 3));
  const state = setup(() => useConnection(api));
  assert.equal(state.value.name, "connecting");
  await pass(20);
  assert.deepEqual([count.data.value, hall.users.value, state.value.name], [{ count: 3 }, [{ id: 1 }], "connected"]);
  hall.say("Hi");
  server.write("messages", "destroy", 1);
  await pass(20);
  assert.deepEqual([count.data.value, server.requests.includes("send")], [{ count: 2 }, true]);
}));

test("the guide's example runs", scoped(async ({ open, pass, body, server }) => {
  const { Messages } = await run("vue", example("Vue", "js"), open());
  const app = createApp(Messages, { room: 1 });
  app.mount(body.appendChild(document.createElement("div")));
  await pass(20);
  await nextTick();
  assert.equal(body.textContent, "m1m22 messages, connected");
  server.write("messages", "destroy", 1);
  await pass(20);
  await nextTick();
  assert.equal(body.textContent, "m21 messages, connected");
  app.unmount();
}));
