/* Requests, their replies and errors. */

import assert from "node:assert/strict";
import test from "node:test";
import { ApiError, ConnectionLost } from "rest-channels";
import { story } from "./support/sockets.js";

const message = { id: 3, room: 1, text: "Hello" };

test(
  "each method sends the frame of its action and resolves to the data",
  story(async ({ start, sockets }) => {
    const api = await start();
    const calls = [
      [api.messages.list({ room: 1 }), { action: "list", query: { room: 1 } }],
      [api.messages.retrieve(3), { action: "retrieve", pk: 3 }],
      [api.messages.create({ text: "Hello" }), { action: "create", data: { text: "Hello" } }],
      [api.messages.update(3, { text: "Hi" }), { action: "update", pk: 3, data: { text: "Hi" } }],
      [api.messages.patch(3, { text: "Hi" }), { action: "patch", pk: 3, data: { text: "Hi" } }],
      [api.messages.destroy(3), { action: "destroy", pk: 3 }],
      [api.messages.metadata(), { action: "metadata" }],
      [api.messages.pin({ pk: 3, data: true }), { action: "pin", pk: 3, data: true }],
      [api.messages.action("live", { pk: 3 }), { action: "live", pk: 3 }],
    ];
    const socket = sockets.last;
    for (const [i, [promise, expected]] of calls.entries()) {
      const { stream, request_id, idempotency_key, ...frame } = socket.frames()[i];
      assert.deepEqual(frame, expected);
      assert.equal(stream, "messages");
      socket.reply({ stream, request_id, action: frame.action }, 200, { data: message });
      assert.deepEqual(await promise, message);
    }
  }),
);

test(
  "only the four writes have an idempotency key",
  story(async ({ start, sockets }) => {
    const api = await start();
    const { messages } = api;
    for (const call of [
      messages.create({}),
      messages.update(1, {}),
      messages.patch(1, {}),
      messages.destroy(1),
    ])
      call.catch(() => {});
    for (const call of [messages.list(), messages.retrieve(1), messages.pin({ pk: 1 })])
      call.catch(() => {});
    const keys = sockets.last.frames().map(({ idempotency_key }) => idempotency_key);
    assert.equal(new Set(keys.slice(0, 4)).size, 4);
    assert.ok(keys.slice(0, 4).every((key) => key.length >= 16 && key.length <= 128));
    assert.deepEqual(keys.slice(4), [undefined, undefined, undefined]);
  }),
);

test(
  "replies in another order reach their own requests",
  story(async ({ start, sockets }) => {
    const api = await start();
    const [first, second] = [api.rooms.list(), api.messages.list()];
    const [a, b] = sockets.last.frames();
    sockets.last.reply(b, 200, { data: ["b"] });
    sockets.last.reply(a, 200, { data: ["a"] });
    assert.deepEqual([await first, await second], [["a"], ["b"]]);
  }),
);

test(
  "a refusal is an ApiError with DRF's status, fields and codes",
  story(async ({ start, sockets }) => {
    const api = await start();
    const refused = api.messages.create({});
    const errors = [{ text: ["This field is required."] }];
    sockets.last.reply(sockets.last.frames()[0], 400, { errors, codes: [{ text: ["required"] }] });
    const error = await refused.catch((error) => error);
    assert.ok(error instanceof ApiError);
    assert.equal(error.status, 400);
    assert.deepEqual(error.errors, errors);
    assert.deepEqual(error.fields, { text: ["This field is required."] });
    assert.deepEqual(error.codes, [{ text: ["required"] }]);
    assert.deepEqual(error.rolledBack, {
      stream: "messages",
      action: "create",
      key: error.rolledBack.key,
      data: {},
    });
  }),
);

test(
  "an aborted request is cancelled on the wire and rejects with the reason",
  story(async ({ start, sockets }) => {
    const api = await start();
    const controller = new AbortController();
    const aborted = api.messages.list({}, { signal: controller.signal });
    const [{ request_id }] = sockets.last.frames();
    controller.abort(new Error("enough"));
    await assert.rejects(aborted, /enough/);
    assert.deepEqual(sockets.last.frames("cancel"), [
      { stream: "messages", action: "cancel", data: { request_id } },
    ]);
  }),
);

test(
  "a request that was never sent is withdrawn without a frame",
  story(async ({ open, sockets, settle }) => {
    const api = open();
    const controller = new AbortController();
    const aborted = api.messages.list({}, { signal: controller.signal });
    controller.abort(new Error("enough"));
    await assert.rejects(aborted, /enough/);
    await settle();
    sockets.last.accept();
    assert.deepEqual(sockets.last.frames(), []);
  }),
);

test(
  "a signal that outlives its requests keeps no listener of them",
  story(async ({ start, sockets }) => {
    const api = await start();
    const { signal } = new AbortController();
    let listeners = 0;
    const { addEventListener, removeEventListener } = signal;
    signal.addEventListener = (...all) => (listeners++, addEventListener.apply(signal, all));
    signal.removeEventListener = (...all) => (listeners--, removeEventListener.apply(signal, all));
    const answered = api.messages.list({}, { signal });
    const lost = api.messages.pin({}, { signal });
    sockets.last.reply(sockets.last.frames()[0], 200, { data: [] });
    await answered;
    sockets.last.end(1006);
    await assert.rejects(lost, ConnectionLost);
    assert.equal(listeners, 0);
  }),
);

test(
  "a generator action is an async iterator over its items",
  story(async ({ start, sockets }) => {
    const api = await start();
    const items = [];
    const reading = (async () => {
      for await (const item of api.messages.export({ query: { room: 1 } })) items.push(item);
    })();
    const [frame] = sockets.last.frames();
    for (const data of ["one", "two", "three"]) sockets.last.reply(frame, 206, { data });
    sockets.last.reply(frame, 200);
    await reading;
    assert.deepEqual(items, ["one", "two", "three"]);
  }),
);

test(
  "leaving the loop cancels the generator action",
  story(async ({ start, sockets }) => {
    const api = await start();
    const reading = (async () => {
      for await (const item of api.messages.export()) return item;
    })();
    const [frame] = sockets.last.frames();
    sockets.last.reply(frame, 206, { data: "one" });
    assert.equal(await reading, "one");
    assert.deepEqual(sockets.last.frames("cancel")[0].data, { request_id: frame.request_id });
  }),
);

test(
  "an error of a generator action, and a lost connection, end the loop",
  story(async ({ start, sockets }) => {
    const api = await start();
    const read = async () => {
      const items = [];
      for await (const item of api.messages.export()) items.push(item);
    };
    const [failing, losing] = [read(), read()];
    const [a, b] = sockets.last.frames();
    sockets.last.reply(a, 206, { data: "one" });
    sockets.last.reply(a, 500, { errors: ["Server error"] });
    sockets.last.reply(b, 206, { data: "one" });
    await assert.rejects(failing, { status: 500 });
    sockets.last.end(1006);
    await assert.rejects(losing, { wasSent: true });
  }),
);

test(
  "headers, lookups and the handshake's query are sent",
  story(async ({ start, sockets }) => {
    const api = await start({ headers: { "accept-language": "de" }, query: { tenant: "a b" } });
    assert.equal(sockets.last.url, "wss://example.test/ws/?tenant=a+b");
    api.messages.list({}, { lookups: { room_pk: 1 } }).catch(() => {});
    const [frame] = sockets.last.frames();
    assert.deepEqual(frame.headers, { "accept-language": "de" });
    assert.equal(frame.room_pk, 1);
  }),
);

test(
  "at most as many frames are in flight as allowed; the others follow in order",
  story(async ({ start, sockets }) => {
    const api = await start({ limits: { inFlight: 3 } });
    const all = [1, 2, 3, 4, 5].map((pk) => api.messages.retrieve(pk));
    const pks = () => sockets.last.frames().map(({ pk }) => pk);
    assert.deepEqual(pks(), [1, 2, 3]);
    sockets.last.reply(sockets.last.frames()[1], 200, { data: "second" });
    assert.equal(await all[1], "second");
    assert.deepEqual(pks(), [1, 2, 3, 4]);
    for (const call of all) call.catch(() => {});
  }),
);

test(
  "no more frames a second are sent than allowed",
  story(async ({ start, sockets, clock }) => {
    const api = await start({ limits: { inFlight: 1000, rate: 10, burst: 5 } });
    for (let pk = 0; pk < 30; pk++) api.messages.retrieve(pk).catch(() => {});
    assert.equal(sockets.last.frames().length, 5);
    await clock.advance(1000);
    assert.equal(sockets.last.frames().length, 15);
    await clock.advance(1500);
    assert.equal(sockets.last.frames().length, 30);
  }),
);

test(
  "a 503 that did nothing is repeated after Retry-After, and given up in the end",
  story(async ({ start, sockets, clock }) => {
    const api = await start({ limits: { retryTimes: 3 } });
    const outcome = api.messages.create({ text: "Hello" }).catch((error) => error);
    for (const _ of [1, 2, 3]) {
      const frames = sockets.last.frames("create");
      sockets.last.reply(frames.at(-1), 503, {
        codes: ["unavailable"],
        headers: { "Retry-After": "7" },
      });
      assert.equal(sockets.last.frames("create").length, frames.length);
      await clock.advance(7_000);
    }
    assert.equal(sockets.last.frames("create").length, 3);
    assert.equal(
      new Set(sockets.last.frames("create").map(({ idempotency_key }) => idempotency_key)).size,
      1,
    );
    assert.equal((await outcome).status, 503);
  }),
);

test(
  "a call of an own action is repeated after a 503 only if it had not begun",
  story(async ({ start, sockets, clock }) => {
    const api = await start();
    const calls = [api.messages.pin({ pk: 1 }), api.messages.pin({ pk: 2 })];
    const [a, b] = sockets.last.frames();
    sockets.last.reply(a, 503, { codes: ["too_many_in_flight"] });
    sockets.last.reply(b, 503, { codes: ["unavailable"] });
    await assert.rejects(calls[1], { status: 503 });
    await clock.advance(2_000);
    assert.deepEqual(
      sockets.last.frames().map(({ pk }) => pk),
      [1, 2, 1],
    );
    calls[0].catch(() => {});
  }),
);

test(
  "more waiting requests than allowed are refused at once",
  story(async ({ open }) => {
    const api = open({ limits: { pending: 2 } });
    const calls = [1, 2, 3].map((pk) => api.messages.retrieve(pk));
    await assert.rejects(calls[2], { wasSent: false });
    for (const call of calls) call.catch(() => {});
  }),
);

test(
  "an API and its streams are not thenables, and streams are the same object each time",
  story(async ({ start }) => {
    const api = await start();
    assert.equal(await api, api);
    assert.equal(await api.messages, api.messages);
    assert.equal(api.stream("messages"), api.messages);
  }),
);
