/* The API of dcrf-client: each public call, as its users make it. */

import assert from "node:assert/strict";
import test from "node:test";
import dcrf, { DCRFClient } from "rest-channels/dcrf";
import { talk } from "./support/talk.js";

const tables = { things: [] };

/** Answer frames as the server does those of rows: subscriptions, and a generator action. */
function serve(server) {
  const rows = new Map(); // of subscriptions by request_id
  const link = () => [...server.sockets][0];
  server.frames = [];
  server.loses = (message, way) => (way === "up" && message.payload.action !== "ping" && server.frames.push(message), false);
  server.receive = (stream, payload, reply) => {
    const { action, request_id, pk, data, since } = payload;
    if (action === "subscribe_instance" || action === "subscribe_to_all") {
      if (pk === 404) return reply(404, { errors: ["Not found."], codes: ["not_found"] });
      rows.set(request_id, pk);
      reply(201, { position: "p", resumed: !!since });
      if (since) link().send(stream, { action: "update", response_status: 200, request_id, data: { id: pk, name: "missed" }, position: "q", previous: "p" });
    } else if (action.startsWith("unsubscribe")) reply(204, {}, rows.delete(request_id));
    else if (action === "count_to") {
      for (let i = 1; i <= data.n; i++) reply(206, { data: i });
      if (data.n < 9) reply(data.n ? 200 : 400, data.n ? {} : { errors: ["No."] });
    } else if (action === "list") reply(200, { data: server.list(stream) });
    else if (action === "retrieve") {
      const row = server.tables[stream].rows.get(pk);
      reply(row ? 200 : 404, row ? { data: row } : { errors: ["Not found."], codes: ["not_found"] });
    } else {
      const { status, ...keys } = server.perform(stream, { ...payload, action: action === "delete" ? "destroy" : action });
      reply(status, keys);
    }
  };
  return (action, data) => {
    for (const request_id of rows.keys()) link().send("things", { action, response_status: 200, request_id, data });
  };
}

/** Run a test with a client of the scripted server. */
const client = (play, options = {}) =>
  talk(tables, async ({ server, clock }) => {
    const tell = serve(server);
    const client = dcrf.createClient("/ws/", { websocket: { WebSocket: server.WebSocket }, ...options });
    client.initialize();
    const done = async (promise) => (await Promise.all([promise, clock.advance(50)]))[0];
    await play({ server, clock, client, tell, done, open: (more) => dcrf.connect("/ws/", { websocket: { WebSocket: server.WebSocket }, ...more }) });
    await done(client.close());
    assert.equal(server.sockets.size, 0);
  });

test("create, retrieve, update, patch, list and delete", client(async ({ client, done }) => {
  assert.deepEqual(await done(client.list("things")), []);
  const thing = await done(client.create("things", { name: "unique" }));
  assert.equal(thing.name, "unique");
  assert.deepEqual(await done(client.retrieve("things", thing.id)), thing);
  assert.equal((await done(client.update("things", thing.id, { name: "new" }))).name, "new");
  assert.equal((await done(client.patch("things", thing.id, { counter: 1 }))).counter, 1);
  assert.deepEqual((await done(client.list("things"))).map(({ name, counter }) => [name, counter]), [["new", 1]]);
  assert.equal(await done(client.delete("things", thing.id)), null);
  assert.deepEqual(await done(client.list("things")), []);
}));

test("a refused request rejects with the reply", client(async ({ client, done }) => {
  const error = await done(client.retrieve("things", 7, {}, "mine").catch((error) => error));
  const { response_status, errors, data, action, request_id } = error;
  assert.deepEqual([response_status, errors, data, action, request_id], [404, ["Not found."], null, "retrieve", "mine"]);
}));

test("a request is any payload; its request_id is the caller's or a new one", client(async ({ server, client, done }) => {
  await done(Promise.all([client.request("things", { action: "list", key: "unique" }, "mine"), client.request("things", { action: "list" })]));
  const [one, other] = server.frames;
  assert.deepEqual(one, { stream: "things", payload: { action: "list", key: "unique", request_id: "mine" } });
  assert.match(other.payload.request_id, /^dcrf-\d+$/);
}));

test("preprocessPayload and preprocessMessage change a request, or replace it", talk(tables, async ({ server, clock }) => {
  serve(server);
  const send = async (options) => {
    const client = dcrf.connect("/ws/", { websocket: { WebSocket: server.WebSocket }, ...options });
    await Promise.all([client.list("things", {}, "mine"), clock.advance(50)]);
    await client.close();
    return server.frames.at(-1);
  };
  const seen = [];
  const changed = await send({
    preprocessPayload: (stream, payload, requestId) => void (seen.push(stream, requestId), (payload.unique = "muffin")),
    preprocessMessage: (message) => void (message.payload.more = 1),
  });
  assert.deepEqual([changed.payload.unique, changed.payload.more, seen], ["muffin", 1, ["things", "mine"]]);
  const replaced = await send({
    preprocessPayload: (_, { request_id }) => ({ action: "list", request_id, mine: true }),
    preprocessMessage: ({ payload }) => ({ stream: "things", payload: { ...payload, also: true } }),
  });
  assert.deepEqual(replaced.payload, { action: "list", request_id: "mine", mine: true, also: true });
}));

test("requests wait for the connection, also before it is initialized", talk(tables, async ({ server, clock }) => {
  serve(server);
  const client = dcrf.createClient("/ws/", { websocket: { WebSocket: server.WebSocket } });
  assert.ok(client instanceof DCRFClient);
  const listed = client.list("things");
  await clock.advance(1000);
  assert.equal(server.sockets.size, 0);
  client.initialize();
  client.initialize();
  await clock.advance(50);
  assert.deepEqual([await listed, server.sockets.size], [[], 1]);
  await client.close();
}));

test("subscribe calls back on every update, until it is cancelled", client(async ({ server, client, clock, tell, done }) => {
  const calls = [];
  const subscription = client.subscribe("things", 1337, ({ val }, action) => calls.push([action, val]), "mine");
  assert.equal(await done(subscription), null);
  tell("update", { pk: 1337, val: "muffin" });
  tell("create", { pk: 1338, val: "not asked for" });
  tell("update", { pk: 1337, val: "taco" });
  await clock.advance(50);
  assert.deepEqual(calls, [["update", "muffin"], ["update", "taco"]]);
  const cancelled = subscription.cancel();
  tell("update", { pk: 1337, val: "late" });
  assert.deepEqual([await done(cancelled), await done(subscription.cancel())], [true, false]);
  tell("update", { pk: 1337, val: "later" });
  await clock.advance(50);
  assert.equal(calls.length, 2);
  const [ask, end] = server.frames.map(({ payload }) => payload);
  assert.deepEqual(ask, { action: "subscribe_instance", request_id: "mine", pk: 1337 });
  assert.deepEqual(end, { action: "unsubscribe_instance", request_id: "mine", pk: 1337 });
}));

for (const [options, expected] of [
  [{}, { pk: 1337 }],
  [{ pkField: "id" }, { id: 1337 }],
  [{ pkField: "id", ensurePkFieldInDeleteEvents: false }, { pk: 1337 }],
]) {
  test(`a delete names the row as ${JSON.stringify(options)} says`, client(async ({ client, clock, tell, done }) => {
    const calls = [];
    await done(client.subscribe("things", 1337, (...call) => calls.push(call)));
    tell("delete", { pk: 1337 });
    await clock.advance(50);
    assert.deepEqual(calls, [[expected, "delete"]]);
  }, options));
}

test("actions of the application's own, with arguments, and events create", client(async ({ server, client, clock, tell, done }) => {
  const calls = [];
  const options = { subscribeAction: "subscribe_to_all", unsubscribeAction: "unsubscribe_from_all", includeCreateEvents: true, requestId: "all" };
  await done(client.subscribe("things", { kind: "note" }, (data, action) => calls.push(action), options));
  await done(client.subscribe("things", 5, () => {}, { subscribeAction: "subscribe_to_all" }));
  tell("create", {});
  await clock.advance(50);
  assert.deepEqual(calls, ["create"]);
  assert.equal(await done(client.unsubscribeAll()), 2);
  const sent = server.frames.map(({ payload: { request_id, ...payload } }) => payload);
  assert.deepEqual(sent, [
    { action: "subscribe_to_all", kind: "note" },
    { action: "subscribe_to_all", id: 5 },
    { action: "unsubscribe_from_all", kind: "note" },
    { action: "unsubscribe_instance", id: 5 },
  ]);
}, { pkField: "id" }));

test("after a break it subscribes again, and receives what it missed", client(async ({ server, client, clock, done }) => {
  const calls = [];
  await done(client.subscribe("things", 3, ({ name }) => calls.push(name)));
  server.cut();
  await clock.advance(10_000);
  const [, again] = server.frames.filter(({ payload }) => payload.action === "subscribe_instance");
  assert.deepEqual([again.payload.since, again.payload.held, calls], ["p", [3], ["missed"]]);
}));

test("a refused subscription rejects with the reply; one without a callback is an error", client(async ({ client, done }) => {
  const error = await done(client.subscribe("things", 404, () => {}, "mine").catch((error) => error));
  assert.deepEqual([error.response_status, error.action, error.request_id], [404, "subscribe_instance", "mine"]);
  assert.throws(() => client.subscribe("things", 1), TypeError);
}));

test("streamingRequest calls back with each item, and with the error", client(async ({ server, client, clock, done }) => {
  const calls = [];
  const count = (n, requestId) => client.streamingRequest("things", { action: "count_to", data: { n } }, (error, item) => calls.push(error ? error.response_status : item), requestId);
  await done(count(3));
  await done(count(0));
  assert.deepEqual(calls.splice(0), [1, 2, 3, 400]);
  const endless = count(9, "mine");
  await clock.advance(50);
  assert.deepEqual(await done(Promise.all([endless.cancel(), endless.cancel()])), [true, false]);
  await done(endless);
  assert.deepEqual(calls, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(server.frames.at(-1).payload, { action: "cancel", data: { request_id: "mine" } });
}));

test("close ends the connection, and subscriptions unless told otherwise", client(async ({ server, client, done, open }) => {
  await done(client.subscribe("things", 1, () => {}));
  const other = open();
  await done(other.subscribe("things", 2, () => {}));
  await done(other.close(false));
  assert.equal(server.sockets.size, 1);
  await done(client.close());
  assert.equal(server.sockets.size, 0);
  assert.deepEqual([await done(other.unsubscribeAll()), await done(client.unsubscribeAll())], [1, 0]);
}));

test("options that this client has no part for are named", () => {
  for (const name of ["transport", "dispatcher", "queue", "serializer", "buildMultiplexedMessage"])
    assert.throws(() => dcrf.createClient("/ws/", { [name]: () => {} }), new RegExp(name));
});
