/* The React hooks. */

import { browse } from "./support/browser.js";
import assert from "node:assert/strict";
import test from "node:test";
import { Component, StrictMode, Suspense, act, createElement as h, useState } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { example, run } from "./support/guide.js";
import { useConnection, useLive, useRoom, useWatch } from "rest-channels/react";

globalThis.IS_REACT_ACT_ENVIRONMENT = true;

const rows = (n, room) => Array.from({ length: n }, (_, i) => ({ id: 10 * room + i, room, text: `${room}.${i}` }));
const tables = { messages: [...rows(3, 1), ...rows(2, 2)] };

/** Run a test in which React draws, also while time passes. */
const page = (play) =>
  browse(tables, async (browser) => {
    const roots = [];
    const draw = async (element, { isStrict = true } = {}) => {
      const root = createRoot(browser.body.appendChild(document.createElement("div")));
      roots.push(root);
      const redraw = (next) => act(async () => root.render(isStrict ? h(StrictMode, null, next) : next));
      await redraw(element);
      return { redraw, unmount: () => act(async () => root.unmount()) };
    };
    const pass = (ms) => act(async () => browser.clock.advance(ms));
    const text = () => browser.body.textContent;
    await play({ ...browser, draw, pass, text });
    await act(async () => roots.forEach((root) => root.unmount()));
    await pass(20_000);
    for (const { subs } of browser.server.sockets) assert.equal(subs.size, 0); // nothing leaks
    assert.equal(browser.body.textContent, "");
  });

/** A component that uses its options inline, as users write them. */
function Messages({ api, room = 1, window, onRender = () => {} }) {
  const { rows, status, keyOf, grow, hasMore, isPending } = useLive(api.messages, { query: { room }, window });
  onRender(rows);
  const item = (row) => h("li", { key: keyOf(row) }, row.text, isPending(row) ? "*" : "");
  return h("div", { onClick: () => grow(1) }, `${status}:`, rows.map(item), hasMore ? "+" : "");
}

test("useLive shows a list and follows it, with one subscription in StrictMode", page(async ({ server, open, draw, pass, text }) => {
  await draw(h(Messages, { api: open() }));
  assert.equal(text(), "connecting:");
  await pass(20);
  assert.equal(text(), "live:1.01.11.2");
  server.write("messages", "patch", 11, { text: "changed" });
  await pass(20);
  assert.equal(text(), "live:1.0changed1.2");
  assert.deepEqual(server.requests, ["subscribe"]);
}));

test("options are compared by value: new objects do not subscribe again, new values do", page(async ({ server, open, draw, pass, text }) => {
  const api = open();
  let renders = 0;
  const onRender = () => renders++;
  const { redraw } = await draw(h(Messages, { api, onRender }), { isStrict: false });
  await pass(20);
  for (let i = 0; i < 5; i++) await redraw(h(Messages, { api, onRender }));
  await pass(20);
  assert.deepEqual(server.requests, ["subscribe"]);
  renders = 0;
  server.write("messages", "patch", 20, { text: "in another room" });
  await pass(20);
  assert.equal(renders, 0);
  await redraw(h(Messages, { api, room: 2 }));
  await pass(20);
  assert.equal(text(), "live:in another room2.1");
  assert.deepEqual(server.requests, ["subscribe", "subscribe", "unsubscribe"]);
}));

test("a component that shows a list which is open already has its rows at once", page(async ({ server, open, draw, pass, text }) => {
  const api = open();
  await draw(h(Messages, { api }));
  await pass(20);
  const seen = [];
  await draw(h(Messages, { api, onRender: (rows) => seen.push(rows.length) }));
  assert.equal(text(), "live:1.01.11.2live:1.01.11.2");
  assert.ok(seen.every((n) => n === 3), `${seen}`);
  assert.deepEqual(server.requests, ["subscribe"]);
}));

test("a window that grows keeps the rows on the page", page(async ({ open, draw, pass, text, body }) => {
  const api = open();
  const counts = [];
  const onRender = (rows) => counts.push(rows.length);
  const { redraw } = await draw(h(Messages, { api, window: 1, onRender }));
  await pass(20);
  assert.equal(text(), "live:1.0+");
  await act(async () => body.querySelector("div div").click());
  await pass(20);
  assert.equal(text(), "live:1.01.1+");
  counts.length = 0;
  await redraw(h(Messages, { api, window: 3, onRender }));
  await pass(20);
  assert.equal(text(), "live:1.01.11.2+");
  assert.ok(!counts.includes(0), `${counts}`);
}));

test("an optimistic row keeps its element when its real key comes", page(async ({ open, draw, pass, text, body }) => {
  const api = open();
  await draw(h(Messages, { api }));
  await pass(20);
  let created;
  await act(async () => void (created = api.messages.create({ room: 1, text: "new" })));
  const item = body.querySelector("li:last-child");
  assert.equal(item.textContent, "new*");
  await pass(20);
  assert.equal((await created).id, 22);
  assert.equal(text(), "live:1.01.11.2new");
  assert.equal(body.querySelector("li:last-child"), item);
}));

test("null subscribes to nothing", page(async ({ server, open, draw, pass, text }) => {
  const api = open();
  let grow;
  const Maybe = ({ room }) => {
    const list = useLive(api.messages, room ? { query: { room } } : null);
    grow = list.grow;
    return list.rows.map(({ text }) => text).join();
  };
  const { redraw } = await draw(h(Maybe, {}));
  await pass(20);
  assert.deepEqual([text(), server.requests], ["", []]);
  assert.throws(() => grow(1), { message: "grow() requires a subscription: pass a value other than null." });
  await redraw(h(Maybe, { room: 2 }));
  await pass(20);
  assert.equal(text(), "2.0,2.1");
  await redraw(h(Maybe, {}));
  await pass(20);
  assert.deepEqual([text(), server.requests.at(-1)], ["", "unsubscribe"]);
}));

test("with suspense the component waits for its rows", page(async ({ server, open, draw, pass, text }) => {
  const api = open();
  server.latency = () => 2_400;
  const List = () => useLive(api.messages, { query: { room: 2 }, suspense: true }).rows.map(({ text }) => text).join();
  await draw(h(Suspense, { fallback: "Please wait." }, h(List)));
  for (let i = 0; i < 3; i++) {
    assert.equal(text(), "Please wait.");
    await pass(3_500);
  }
  assert.equal(text(), "2.0,2.1");
  assert.deepEqual(server.requests, ["subscribe"]);
}));

test("a component that is given up while it is suspended leaves no subscription", page(async ({ server, open, draw, pass }) => {
  const api = open();
  server.latency = () => 1_000;
  const List = () => useLive(api.messages, { suspense: true }).rows.length;
  const { unmount } = await draw(h(Suspense, { fallback: "Please wait." }, h(List)));
  await unmount();
  await pass(20_000);
  assert.deepEqual(server.requests, ["subscribe", "unsubscribe"]);
}));

test("a render that throws leaves no subscription", page(async ({ server, open, draw, pass, text }) => {
  const api = open();
  const Broken = () => {
    useLive(api.messages);
    throw new Error("broken");
  };
  class Boundary extends Component {
    static getDerivedStateFromError = () => ({ isBroken: true });
    state = {};
    render = () => (this.state.isBroken ? "Broken." : this.props.children);
  }
  const { error } = console;
  console.error = () => {};
  await draw(h(Boundary, null, h(Broken)));
  console.error = error;
  assert.equal(text(), "Broken.");
  await pass(20_000);
  assert.equal(server.requests.at(-1), "unsubscribe");
}));

test("a page drawn by a server has no rows, opens nothing, and goes on in the browser", page(async ({ server, open, pass, text, body }) => {
  const api = open();
  const element = h(Messages, { api });
  const html = renderToString(element);
  await pass(20);
  assert.deepEqual([html, server.requests], ["<div>connecting:</div>", []]);
  body.innerHTML = `<main>${html}</main>`;
  let root;
  await act(async () => (root = hydrateRoot(body.firstChild, element, { onRecoverableError: assert.fail })));
  await pass(20);
  assert.equal(text(), "live:1.01.11.2");
  await act(async () => root.unmount());
}));

test("useWatch shows an answer and follows it", page(async ({ server, open, draw, pass, text }) => {
  const api = open();
  const Count = ({ room }) => {
    const { data, status } = useWatch(api.messages, "count", { query: { room } });
    return `${status} ${data?.count}`;
  };
  const { redraw } = await draw(h(Count, { room: 1 }));
  await pass(20);
  assert.equal(text(), "live 3");
  server.write("messages", "destroy", 10);
  await pass(20);
  assert.equal(text(), "live 2");
  await redraw(h(Count, { room: 2 }));
  await pass(20);
  assert.deepEqual([text(), server.requests], ["live 2", ["watch", "watch", "unwatch"]]);
}));

test("useConnection shows the state of the connection", page(async ({ server, open, draw, pass, text }) => {
  const api = open();
  const State = () => useConnection(api).name;
  await draw(h(State));
  assert.equal(text(), "connecting");
  await pass(20);
  assert.equal(text(), "connected");
  await act(async () => server.cut(4401));
  assert.equal(text(), "signed-out");
}));

test("useRoom joins a room while the component is shown", page(async ({ server, open, draw, pass, text }) => {
  const api = open();
  const sent = [];
  server.receive = (stream, payload, reply) => {
    sent.push([stream, payload.action, payload.room, payload.data]);
    if (payload.action === "join") reply(200, { data: { room: "3", users: [{ id: 1, name: "Ann" }], messages: [], position: "1-a" } });
    else reply(200, {});
  };
  let say;
  const Hall = () => {
    const [room, setRoom] = useState(3);
    const { users, ...hall } = useRoom(api.here, room);
    say = hall.say;
    return h("button", { onClick: () => setRoom(null) }, users.map(({ name }) => name));
  };
  await draw(h(Hall));
  await pass(20);
  assert.equal(text(), "Ann");
  await act(async () => void say({ text: "Hi" }));
  await pass(20);
  await act(async () => document.querySelector("button").click());
  await pass(20);
  assert.equal(text(), "");
  assert.throws(() => say({ text: "Hi" }), { message: "say() requires a subscription: pass a value other than null." });
  const actions = sent.filter(([stream]) => stream === "here");
  assert.deepEqual(actions, [["here", "join", "3", undefined], ["here", "send", "3", { text: "Hi" }], ["here", "leave", "3", undefined]]);
}));

test("the guide's example runs", page(async ({ server, open, draw, pass, text, body }) => {
  const { Messages: Example } = await run("react", example("React", "jsx"), open(), { loader: "jsx" });
  await draw(h(Example, { room: 1 }));
  await pass(20);
  assert.equal(text(), "1.01.11.23 messages");
  await act(async () => body.querySelector("li").click());
  await pass(20);
  assert.equal(text(), "1.11.22 messages");
  await act(async () => server.cut());
  await pass(5);
  assert.equal(text(), "1.11.22 messagesOffline");
  await pass(5_000);
}));
