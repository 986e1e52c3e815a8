/* Live results in the cache of TanStack Query. */

import { browse } from "./support/browser.js";
import assert from "node:assert/strict";
import test from "node:test";
import { QueryClient, QueryObserver } from "@tanstack/query-core";
import { QueryClientProvider } from "@tanstack/react-query";
import { StrictMode, act, createElement as h } from "react";
import { createRoot } from "react-dom/client";
import { liveOptions, watchOptions } from "rest-channels/query";
import { example, run } from "./support/guide.js";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

const tables = { messages: [1, 1, 2].map((room, i) => ({ id: i + 1, room, text: `m${i + 1}` })) };
const texts = ({ data }) => data?.map(({ text }) => text);

/** Run a test with a cache of queries; after it, nothing is subscribed to. */
const cached = (play) =>
  browse(tables, async (browser) => {
    const client = new QueryClient();
    client.mount();
    const observe = (options) => {
      const observer = new QueryObserver(client, options);
      const end = observer.subscribe(() => {});
      return { observer, end, result: () => observer.getCurrentResult() };
    };
    await play({ client, observe, ...browser });
    client.clear();
    client.unmount();
    await browser.clock.advance(20);
    for (const { subs } of browser.server.sockets) assert.equal(subs.size, 0);
  });

test("a query has the rows of a list, and follows it while it is observed", cached(async ({ server, clock, open, observe }) => {
  const { result, end } = observe(liveOptions(open().messages, { query: { room: 1 } }));
  assert.equal(result().status, "pending");
  await clock.advance(20);
  assert.deepEqual([result().status, texts(result())], ["success", ["m1", "m2"]]);
  const [first] = result().data;
  server.write("messages", "patch", 2, { text: "changed" });
  await clock.advance(20);
  assert.deepEqual([texts(result()), result().data[0] === first], [["m1", "changed"], true]);
  end();
  await clock.advance(20);
  assert.deepEqual(server.requests, ["subscribe", "unsubscribe"]);
}));

test("equal options share a query; one that is observed again shows the last rows first", cached(async ({ server, clock, open, observe }) => {
  const { messages } = open();
  const [one, other] = [1, 1].map((room) => observe(liveOptions(messages, { query: { room } })));
  await clock.advance(20);
  assert.deepEqual([texts(one.result()), one.result().data], [["m1", "m2"], other.result().data]);
  const late = observe(liveOptions(messages, { query: { room: 1 } }));
  assert.deepEqual([late.result().isStale, late.result().isFetching], [false, false]);
  late.end();
  one.end();
  await clock.advance(20);
  assert.deepEqual(server.requests, ["subscribe"]);
  other.end();
  await clock.advance(20);
  server.write("messages", "destroy", 1);
  const again = observe(liveOptions(messages, { query: { room: 1 } }));
  assert.deepEqual(texts(again.result()), ["m1", "m2"]);
  await clock.advance(20);
  assert.deepEqual([texts(again.result()), server.requests], [["m2"], ["subscribe", "unsubscribe", "subscribe"]]);
  again.observer.setOptions(liveOptions(messages, { query: { room: 2 } }));
  await clock.advance(20);
  assert.deepEqual([texts(again.result()), server.requests.at(-1)], [["m3"], "unsubscribe"]);
  server.write("messages", "destroy", 2);
  again.observer.setOptions(liveOptions(messages, { query: { room: 1 } }));
  await clock.advance(20);
  assert.deepEqual(texts(again.result()), []);
  again.end();
}));

test("a query that is left before the first answer, is removed or fetched again leaves nothing behind", cached(async ({ server, clock, open, client, observe }) => {
  const options = liveOptions(open().messages);
  observe(options).end();
  await clock.advance(20);
  assert.deepEqual([server.requests, client.getQueryData(options.queryKey)], [[], undefined]);
  const left = observe(options);
  await clock.advance(2);
  left.end();
  await clock.advance(20);
  assert.equal(server.requests.at(-1), "unsubscribe");
  assert.equal((await Promise.all([client.fetchQuery(options), clock.advance(20)]))[0].length, 3);
  server.requests.length = 0;
  await client.invalidateQueries({ refetchType: "all" });
  await clock.advance(20);
  server.write("messages", "destroy", 1);
  await clock.advance(20);
  assert.deepEqual([server.requests, client.getQueryData(options.queryKey).length], [[], 2]);
  client.removeQueries();
  await clock.advance(20);
  assert.deepEqual(server.requests, ["unsubscribe"]);
}));

test("a fetch that is cancelled is not followed", cached(async ({ server, clock, open, client, observe }) => {
  const options = liveOptions(open().messages);
  const { result, end } = observe(options);
  await clock.advance(2);
  await client.cancelQueries();
  await clock.advance(20);
  assert.deepEqual([server.requests, result().data], [["subscribe", "unsubscribe"], undefined]);
  end();
}));

test("data that was fetched elsewhere is followed once it is observed", cached(async ({ server, clock, open, client, observe }) => {
  const options = liveOptions(open().messages);
  client.setQueryData(options.queryKey, []);
  const { result, end } = observe(options);
  assert.deepEqual(texts(result()), []);
  await clock.advance(20);
  assert.deepEqual([texts(result()), server.requests], [["m1", "m2", "m3"], ["subscribe"]]);
  end();
}));

test("a watch, and a write that shows at once", cached(async ({ server, clock, open, observe }) => {
  const { messages } = open();
  const count = observe(watchOptions(messages, "count", { query: { room: 1 } }));
  const list = observe(liveOptions(messages, { query: { room: 1 } }));
  await clock.advance(20);
  assert.deepEqual(count.result().data, { count: 2 });
  const created = messages.create({ room: 1, text: "mine" });
  await clock.advance(0);
  assert.deepEqual([texts(list.result()), count.result().data], [["m1", "m2", "mine"], { count: 2 }]);
  await clock.advance(20);
  assert.deepEqual([(await created).id, list.result().data[2].id, count.result().data], [4, 4, { count: 3 }]);
  count.end();
  list.end();
  await clock.advance(20);
  assert.deepEqual(server.requests.slice(-2).sort(), ["unsubscribe", "unwatch"]);
}));

test("what the user may no longer see is not shown, and comes back with the permission", cached(async ({ server, clock, open, observe }) => {
  const { result, end } = observe(liveOptions(open().messages));
  await clock.advance(20);
  const [link] = server.sockets;
  link.send("messages", { action: "revoke", response_status: 403, request_id: [...link.subs.keys()][0] });
  await clock.advance(20);
  assert.deepEqual([result().status, result().error.status, result().data], ["error", 403, undefined]);
  server.cut();
  await clock.advance(5000);
  assert.deepEqual([result().status, result().error, texts(result())], ["success", null, ["m1", "m2", "m3"]]);
  end();
}));

test("a refusal from the start is the query's error, without an attempt of the cache's own", cached(async ({ server, clock, open, observe }) => {
  server.handshake = () => 4403;
  const { result, end } = observe(liveOptions(open().messages));
  await clock.advance(20_000);
  assert.deepEqual([result().status, result().failureCount], ["error", 1]);
  assert.match(result().error.message, /^messages.* is denied\.$/);
  end();
}));

test("a second connection has queries of its own", cached(async ({ open }) => {
  const [one, other] = [open(), open()];
  const keyOf = ({ rooms }) => liveOptions(rooms, { query: { a: 1 } }).queryKey;
  assert.deepEqual(keyOf(one), ["rooms", "live", { query: { a: 1 } }]);
  assert.deepEqual([keyOf(other)[0], keyOf(one)[0]], ["rooms 2", "rooms"]);
}));

test("what changes while the first answer is taken in is not lost", cached(async ({ open, client }) => {
  let notify;
  const handle = { rows: [1], subscribe: (call) => ((notify = call), () => {}), getSnapshot: () => ({ status: "live", rows: handle.rows }), stop: () => {} };
  const stream = { live: () => handle, [Symbol.toStringTag]: "numbers" };
  const options = liveOptions(stream);
  const fetched = client.fetchQuery(options);
  handle.rows = [1, 2];
  notify();
  await fetched;
  assert.deepEqual(client.getQueryData(options.queryKey), [1, 2]);
}));

test("the guide's example runs", cached(async ({ server, clock, open, client, body }) => {
  const { Messages } = await run("query", example("TanStack Query", "jsx"), open(), { loader: "jsx" });
  const pass = (ms) => act(async () => clock.advance(ms));
  const root = createRoot(body.appendChild(document.createElement("div")));
  await act(async () => root.render(h(StrictMode, null, h(QueryClientProvider, { client }, h(Messages, { room: 1 })))));
  assert.equal(body.textContent, "Loading");
  await pass(50);
  assert.equal(body.textContent, "m1m22 messages");
  server.write("messages", "destroy", 1);
  await pass(50);
  assert.equal(body.textContent, "m21 messages");
  assert.deepEqual(server.requests.sort(), ["subscribe", "watch"]);
  await act(async () => root.unmount());
}));
