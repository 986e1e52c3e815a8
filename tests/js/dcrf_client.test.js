// The unmodified dcrf-client against a real server, whose address is in the environment.
"use strict";

const assert = require("node:assert/strict");
const { after, test } = require("node:test");
const dcrf = require("dcrf-client").default;
const WebSocket = require("ws");

const clients = [];

function connect(path, options = {}) {
  const client = dcrf.connect(process.env.SOCKET_URL + path, {
    pkField: "id",
    websocket: { WebSocket },
    ...options,
  });
  clients.push(client);
  return client;
}

// dcrf-client's own option for a socket without envelopes: they are put on and taken off here.
const withoutEnvelope = {
  serializer: {
    serialize: ({ payload }) => JSON.stringify(payload),
    deserialize: (text) => ({ stream: "rooms", payload: JSON.parse(text) }),
  },
};

after(() => clients.forEach((client) => client.close()));

for (const [mode, path, options] of [
  ["the root socket", "/", {}],
  ["single-stream mode", "/rooms/", withoutEnvelope],
]) {
  test(`create, retrieve, list, update, patch and delete on ${mode}`, async () => {
    const client = connect(path, options);
    const made = await client.create("rooms", { name: "lobby" });
    assert.equal(made.name, "lobby");
    assert.deepEqual(await client.retrieve("rooms", made.id), made);
    assert.deepEqual(await client.list("rooms"), [made]);
    const updated = await client.update("rooms", made.id, { name: "attic", is_staff_only: true });
    assert.deepEqual(updated, { id: made.id, name: "attic", is_staff_only: true });
    const patched = await client.patch("rooms", made.id, { name: "hall" });
    assert.deepEqual(patched, { id: made.id, name: "hall", is_staff_only: true });
    assert.equal(await client.delete("rooms", made.id), null);
    assert.deepEqual(await client.list("rooms"), []);
  });

  test(`errors reject on ${mode}`, async () => {
    const client = connect(path, options);
    await assert.rejects(client.retrieve("rooms", 0), (reply) => {
      assert.equal(reply.response_status, 404);
      assert.equal(reply.data, null);
      return true;
    });
    await assert.rejects(client.create("rooms", {}), (reply) => {
      assert.equal(reply.response_status, 400);
      assert.deepEqual(reply.errors, [{ name: ["This field is required."] }]);
      assert.deepEqual(reply.codes, [{ name: ["required"] }]);
      return true;
    });
    await assert.rejects(client.delete("rooms", 0), { response_status: 404 });
    await assert.rejects(client.request("rooms", { action: "nonsense" }), { response_status: 405 });
  });

  test(`an @action with an id of the caller's on ${mode}`, async () => {
    const client = connect(path, options);
    assert.equal(await client.request("rooms", { action: "count" }, "my-id"), 0);
  });

  test(`many requests at once on ${mode}`, async () => {
    const client = connect(path, options);
    const counts = await Promise.all(
      Array.from({ length: 10 }, () => client.request("rooms", { action: "count" })),
    );
    assert.deepEqual(counts, Array(10).fill(0));
  });
}

test("keys of pages, as DCRF has them, at the top level", async () => {
  const client = connect("/");
  for (const name of ["one", "two", "three"]) await client.create("pages", { name });
  const page = await client.request("pages", { action: "list", limit: 2, offset: 1 });
  assert.equal(page.count, 3);
  assert.deepEqual(page.results.map(({ name }) => name), ["two", "three"]);
  for (const { id } of await client.list("rooms")) await client.delete("rooms", id);
});

test("an unknown stream rejects", async () => {
  await assert.rejects(connect("/").list("nowhere"), { response_status: 404 });
});

test("a subscription to a row, by a hosted consumer", async () => {
  const client = connect("/");
  const door = await client.create("sensors", { name: "door" });
  let tell;
  const events = [];
  const told = () => new Promise((resolve) => (tell = resolve));
  await client.subscribe("live-sensors", door.id, (data, action) => {
    events.push([action, data]);
    tell();
  });
  let event = told();
  await client.update("sensors", door.id, { name: "gate" });
  await event;
  event = told();
  await client.delete("sensors", door.id);
  await event;
  assert.deepEqual(events, [
    ["update", { id: door.id, name: "gate" }],
    ["delete", { id: door.id }],
  ]);
});
