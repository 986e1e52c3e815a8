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
const withoutEnvelope = (stream) => ({
  serializer: {
    serialize: ({ payload }) => JSON.stringify(payload),
    deserialize: (text) => ({ stream, payload: JSON.parse(text) }),
  },
});

/** Called with what comes; `next` waits for as many as were not yet waited for. */
function inbox() {
  const come = [];
  let wake = () => {};
  const receive = (...what) => (come.push(what), wake());
  receive.next = async () => {
    while (come.length === 0) await new Promise((resolve) => (wake = resolve));
    return come.shift();
  };
  receive.isEmpty = () => come.length === 0;
  return receive;
}

after(() => clients.forEach((client) => client.close()));

for (const [mode, path, followed, options] of [
  ["the root socket", "/", "/", () => ({})],
  ["single-stream mode", "/rooms/", "/followed/", withoutEnvelope],
]) {
  const connectTo = (stream) => connect(stream === "rooms" ? path : followed, options(stream));

  test(`create, retrieve, list, update, patch and delete on ${mode}`, async () => {
    const client = connectTo("rooms");
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
    const client = connectTo("rooms");
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
    const client = connectTo("rooms");
    assert.equal(await client.request("rooms", { action: "count" }, "my-id"), 0);
  });

  test(`many requests at once on ${mode}`, async () => {
    const client = connectTo("rooms");
    const counts = await Promise.all(
      Array.from({ length: 10 }, () => client.request("rooms", { action: "count" })),
    );
    assert.deepEqual(counts, Array(10).fill(0));
  });

  test(`a subscription to a row on ${mode}`, async () => {
    const client = connectTo("rooms");
    const { id } = await client.create("rooms", { name: "lobby" });
    const told = inbox();
    const subscription = client.subscribe("rooms", id, told);
    assert.equal(await subscription, null);
    await client.patch("rooms", id, { name: "hall" });
    assert.deepEqual(await told.next(), [{ id, name: "hall", is_staff_only: false }, "update"]);
    await client.delete("rooms", id);
    assert.deepEqual(await told.next(), [{ id }, "delete"]);
    assert.equal(subscription.cancel(), true);
  });

  test(`no subscription to a row that is not there on ${mode}`, async () => {
    const subscription = connectTo("rooms").subscribe("rooms", 0, assert.fail);
    await assert.rejects(subscription, { response_status: 404 });
  });

  test(`unsubscribing on ${mode}`, async () => {
    const client = connectTo("rooms");
    const { id } = await client.create("rooms", { name: "lobby" });
    const [told, others, wire] = [inbox(), inbox(), inbox()];
    const subscription = client.subscribe("rooms", id, told, "mine");
    await subscription;
    await client.subscribe("rooms", id, others);
    await client.patch("rooms", id, { name: "hall" });
    await told.next();
    await others.next();
    // `cancel` is dcrf-client's own affair; the server learns of it by a request.
    assert.equal(subscription.cancel(), true);
    assert.equal(await client.request("rooms", { action: "unsubscribe_instance", pk: id }, "mine"), null);
    client.dispatcher.listen({ payload: { request_id: "mine" } }, wire);
    await client.patch("rooms", id, { name: "attic" });
    assert.equal((await others.next())[0].name, "attic");
    assert.ok(told.isEmpty() && wire.isEmpty());
    await client.delete("rooms", id);
    await others.next();
    assert.ok(told.isEmpty() && wire.isEmpty());
  });

  test(`an action that subscribes to many on ${mode}`, async () => {
    const client = connectTo("followed");
    const told = inbox();
    const listener = client.dispatcher.listen({ stream: "followed", payload: { request_id: "all" } }, told);
    const next = async () => {
      const [{ payload }] = await told.next();
      return [payload.action, payload.response_status, payload.data];
    };
    const vault = await client.create("followed", { name: "vault", is_staff_only: true });
    const query = { is_staff_only: false };
    assert.deepEqual(await client.request("followed", { action: "follow", query, snapshot: true }, "all"), []);
    assert.deepEqual(await next(), ["follow", 201, []]);
    const lobby = await client.create("followed", { name: "lobby" });
    assert.deepEqual(await next(), ["create", 200, lobby]);
    const opened = await client.patch("followed", vault.id, { is_staff_only: false });
    assert.deepEqual(await next(), ["create", 200, opened]);
    const renamed = await client.patch("followed", lobby.id, { name: "hall" });
    assert.deepEqual(await next(), ["update", 200, renamed]);
    await client.patch("followed", vault.id, { is_staff_only: true });
    assert.deepEqual(await next(), ["delete", 204, { pk: vault.id }]);
    await client.delete("followed", vault.id);
    await client.delete("followed", lobby.id);
    assert.deepEqual(await next(), ["delete", 204, { pk: lobby.id }]);
    assert.equal(await client.request("followed", { action: "unsubscribe" }, "all"), null);
    client.dispatcher.cancel(listener);
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
