// A subscription of the unmodified dcrf-client, for longer than its server lives.
//
// Writes "subscribed", and then waits for the server to be killed and started again.
"use strict";

const assert = require("node:assert/strict");
const dcrf = require("dcrf-client").default;
const WebSocket = require("ws");

const [path] = process.argv.slice(2);
const withoutEnvelope = {
  serialize: ({ payload }) => JSON.stringify(payload),
  deserialize: (text) => ({ stream: "rooms", payload: JSON.parse(text) }),
};

const client = dcrf.connect(process.env.SOCKET_URL + path, {
  pkField: "id",
  serializer: path === "/" ? undefined : withoutEnvelope,
  websocket: { WebSocket, minReconnectionDelay: 50, maxReconnectionDelay: 200 },
});

async function story() {
  const { id } = await client.create("rooms", { name: "lobby" });
  const heard = new Promise((resolve) => client.subscribe("rooms", id, resolve, "mine"));
  const acknowledged = () =>
    new Promise((resolve) => {
      const reply = { payload: { action: "subscribe_instance", response_status: 201 } };
      client.dispatcher.once(reply, resolve);
    });
  await acknowledged();
  const again = acknowledged();
  console.log("subscribed");
  assert.equal((await again).payload.request_id, "mine");
  await client.patch("rooms", id, { name: "hall" });
  assert.deepEqual(await heard, { id, name: "hall", is_staff_only: false });
  client.close();
}

story();
