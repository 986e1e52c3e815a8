/* The API of dcrf-client on a real server. */

import assert from "node:assert/strict";
import test, { after, before } from "node:test";
import dcrf from "rest-channels/dcrf";
import { Demo } from "../support/demo.js";

let demo;
let client;

before(async () => {
  demo = await new Demo().start();
  client = dcrf.connect(demo.url, { pkField: "id", websocket: await demo.signIn("bob") });
});

after(async () => {
  await client.close();
  await demo.stop();
});

const note = (text) => ({ room: 1, text });

test("rows are created, retrieved, listed, changed and deleted", async () => {
  const message = await client.create("messages", note("unique"));
  assert.deepEqual(await client.retrieve("messages", message.id), message);
  assert.ok((await client.list("messages")).results.some(({ id }) => id === message.id));
  assert.equal((await client.update("messages", message.id, note("new"))).text, "new");
  assert.equal((await client.patch("messages", message.id, { text: "newer" })).text, "newer");
  assert.equal(await client.delete("messages", message.id), null);
  await assert.rejects(client.retrieve("messages", message.id), { response_status: 404, action: "retrieve" });
  await assert.rejects(client.create("messages", {}), ({ errors: [{ text }] }) => text.length === 1);
});

test("a subscriber is called back on change and on delete", async () => {
  const { id } = await client.create("messages", note("unique"));
  const calls = [];
  let called = () => {};
  const next = () => new Promise((resolve) => (called = resolve));
  const subscription = client.subscribe("messages", id, (row, action) => (calls.push([action, row.id, row.text]), called()));
  await subscription;
  let call = next();
  await client.update("messages", id, note("new"));
  await call;
  await demo.kill();
  await demo.start();
  call = next();
  await client.delete("messages", id);
  await call;
  assert.deepEqual(calls, [["update", id, "new"], ["delete", id, undefined]]);
  assert.equal(await subscription.cancel(), true);
});

test("a refusal is the server's, and a request is any frame", async () => {
  await assert.rejects(client.subscribe("messages", 987654, () => {}), { response_status: 404 });
  assert.equal((await client.request("users", { action: "me" })).username, "bob");
});
