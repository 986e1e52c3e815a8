/* The client and the demo on a real server, which is killed and started again. */

import assert from "node:assert/strict";
import test, { after, afterEach, before } from "node:test";
import { connect } from "rest-channels";
import { Demo, hall, live, texts, until } from "../support/demo.js";

let demo;

before(async () => {
  demo = await new Demo().start();
});

afterEach(() => demo.leave());

after(() => demo.stop());

const open = (username) => demo.open(username);

test("requests and errors are DRF's", async () => {
  const api = await open("bob");
  assert.equal((await api.users.me()).username, "bob");
  const { results } = await api.messages.list();
  assert.ok(results.length > 0);
  await assert.rejects(api.messages.create({ room: 99 }), ({ status, fields, codes }) => {
    assert.deepEqual(
      [status, Object.keys(fields), codes[0].text],
      [400, ["room", "text"], ["required"]],
    );
    return true;
  });
  await assert.rejects(api.nothing.list(), { status: 404, codes: ["not_found"] });
});

test("two users see each other's messages; what one writes it sees at once, and never twice", async () => {
  const [ann, bob] = [await open("ann"), await open("bob")];
  const [a, b] = [await hall(ann), await hall(bob)];
  const seen = [];
  a.list.subscribe(() => seen.push(a.list.rows.filter(({ text }) => text === "Hello, Bob").length));
  const created = ann.messages.create({ room: a.room, text: "Hello, Bob" });
  assert.equal(texts(a.list)[0], "Hello, Bob");
  const key = a.list.keyOf(a.list.rows[0]);
  const { id } = await created;
  await until(b.list, (list) => texts(list)[0] === "Hello, Bob");
  await until(a.list, (list) => !list.isPending(list.byKey.get(id)));
  assert.equal(a.list.keyOf(a.list.byKey.get(id)), key);
  assert.ok(
    seen.every((times) => times === 1),
    String(seen),
  );
  await ann.messages.patch(id, { text: "Hello again" });
  await until(b.list, (list) => texts(list)[0] === "Hello again");
  await ann.messages.destroy(id);
  await until(b.list, (list) => !list.byKey.has(id));
  await until(a.list, (list) => !list.byKey.has(id));
  const refused = bob.messages
    .destroy(b.list.rows.find(({ author }) => author === "ann").id)
    .catch((error) => error);
  const before = b.list.rows.length;
  assert.equal((await refused).status, 403);
  assert.equal(b.list.rows.length, before + 1);
});

test("a watch follows the answer of an action, and a write's promise waits for it", async () => {
  const [ann, bob] = [await open("ann"), await open("bob")];
  const { room } = await hall(ann);
  const page = bob.messages.watch("list", { query: { room } });
  const own = ann.messages.watch("list", { query: { room } });
  await Promise.all([
    until(page, ({ status }) => status === "live"),
    until(own, ({ status }) => status === "live"),
  ]);
  const { id } = await ann.messages.create({ room, text: "Watch this" });
  assert.equal(own.data.results[0].id, id);
  await until(page, ({ data }) => data.results[0].text === "Watch this");
  await ann.messages.destroy(id);
  await until(page, ({ data }) => data.results[0].id !== id);
});

test("a room shows who is there and what is said", async () => {
  const [ann, bob] = [await open("ann"), await open("bob")];
  const { room } = await hall(ann);
  const [a, b] = [ann.here.join(room), bob.here.join(room)];
  await until(a, ({ users }) => users.length === 2);
  b.setTyping();
  await until(a, ({ typing }) => typing.length === 1 && typing[0].username === "bob");
  await b.say({ text: "Brb" });
  await until(a, ({ messages, typing }) => messages.at(-1)?.text === "Brb" && typing.length === 0);
  b.leave();
  await until(a, ({ users }) => users.length === 1);
});

test("after the server was killed lists resume, and what was written meanwhile is sent once", async () => {
  const [ann, bob] = [await open("ann"), await open("bob")];
  const [a, b] = [await hall(ann), await hall(bob)];
  for (let round = 0; round < 3; round++) {
    await demo.kill();
    await until(ann, ({ state }) => state.name === "waiting");
    const created = ann.messages.create({ room: a.room, text: `offline ${round}` });
    assert.equal(ann.pending.length, 1);
    await demo.start();
    ann.reconnect();
    bob.reconnect();
    await created;
    assert.deepEqual(ann.pending, []);
    await until(
      b.list,
      (list) => list.status === "live" && texts(list).includes(`offline ${round}`),
    );
  }
  await until(a.list, ({ status }) => status === "live");
  const fresh = await hall(await open("ann"));
  await until(a.list, (list) => JSON.stringify(list.rows) === JSON.stringify(fresh.list.rows));
  await until(b.list, (list) => JSON.stringify(list.rows) === JSON.stringify(fresh.list.rows));
  assert.equal(texts(a.list).filter((text) => text.startsWith("offline")).length, 3);
});

test("a stranger is signed out, and stays so", async () => {
  const { WebSocket } = await demo.signIn("ann");
  const Stranger = class extends Object.getPrototypeOf(WebSocket) {};
  const api = connect(demo.url, { WebSocket: Stranger });
  demo.apis.push(api);
  await until(api, ({ state }) => state.name === "signed-out");
  assert.equal(api.state.code, 4401);
  await assert.rejects(api.messages.list(), { wasSent: false });
});
