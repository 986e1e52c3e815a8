/* The extension of htmx, in versions 4 and 2. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { JSDOM } from "jsdom";
import { apiAt, extend } from "rest-channels/htmx";
import { Clock } from "./support/clock.js";
import { example } from "./support/guide.js";
import { Server } from "./support/server.js";

const tables = { messages: [1, 1, 2].map((room, i) => ({ id: i + 1, room, text: `m${i + 1}` })) };
const source = (name) => readFileSync(new URL(`../node_modules/${name}/dist/htmx.js`, import.meta.url), "utf8");
const versions = { 4: source("htmx.org"), 2: source("htmx2") };

/** The requests of a page, answered by `render(url)`: a status and a fragment. */
function answer(window, render) {
  const requests = [];
  const reply = (url) => (requests.push(url), render(url));
  window.fetch = async (url) => {
    const [status, body] = reply(url);
    return new Response(body, { status });
  };
  window.XMLHttpRequest = class {
    upload = new window.EventTarget();
    getAllResponseHeaders = () => "";
    getResponseHeader = () => null;
    setRequestHeader() {}
    overrideMimeType() {}
    addEventListener() {}
    open(_, url) {
      this.url = url;
      this.responseURL = new URL(url, window.document.baseURI).href;
    }
    send() {
      queueMicrotask(() => {
        [this.status, this.response] = reply(this.url);
        this.responseText = this.response;
        this.onload();
      });
    }
  };
  return requests;
}

let pages = 0;
/** Run a test in a page with htmx that shows `html`, for each version. Its fragments show the messages of the server. */
function page(name, html, play) {
  for (const [version, code] of Object.entries(versions)) {
    test(`${name}, in htmx ${version}`, async () => {
      const clock = new Clock().install();
      const server = new Server(structuredClone(tables));
      const src = `/ws/${++pages}/`;
      server.requests = [];
      server.loses = ({ payload: { action } }, way) => (way === "up" && action !== "ping" && server.requests.push(action), false);
      const { window } = new JSDOM(`<body>${html.replaceAll("live-stream", `live-src="${src}" live-stream`)}</body>`, {
        ...{ url: "https://example.test/board/", runScripts: "outside-only" },
      });
      const { document } = window;
      for (const key of ["document", "location", "CustomEvent", "AbortController"])
        Object.defineProperty(globalThis, key, { value: window[key], configurable: true });
      globalThis.addEventListener = window.addEventListener.bind(window);
      globalThis.WebSocket = server.WebSocket;
      const draw = () => server.list("messages", { room: 1 }).map(({ text }) => `<li>${text}</li>`).join("");
      const state = { render: () => [200, draw()] };
      const requests = answer(window, (url) => state.render(url));
      const { evaluate } = window.XPathExpression.prototype; // jsdom lacks its default, and CSS
      window.XPathExpression.prototype.evaluate = function (node, type = 0) {
        return evaluate.call(this, node, type);
      };
      window.CSS = { escape: (name) => name.replaceAll(":", "\\:") };
      window.eval(code);
      extend(window.htmx);
      const until = async (condition) => {
        for (let i = 0; i < 2000 && !condition(); i++) await clock.advance(10);
        assert.ok(condition(), `${condition}: ${document.body.innerHTML}`);
      };
      const texts = () => [...document.querySelectorAll("li")].map(({ textContent }) => textContent).join();
      try {
        await play({ server, clock, document, window, requests, until, texts, state, src, htmx: window.htmx });
        document.body.innerHTML = "";
        server.write("messages", "create", null, { room: 1, text: "last" });
        server.write("messages", "create", null, { room: 2, text: "last" });
        await clock.advance(100);
        for (const { subs } of server.sockets) assert.equal(subs.size, 0); // nothing leaks
      } finally {
        apiAt(src).close();
        await clock.advance(10);
        window.close();
        clock.uninstall();
      }
    });
  }
}

const list = `<ul hx-get="/messages/" hx-trigger="live" live-stream="messages" live-query='{"room": 1}'><li>old</li></ul>`;

page("a fragment is fetched again when its list changes, and only then", list, async ({ server, clock, document, requests, until, texts, htmx }) => {
  assert.equal(texts(), "old");
  await until(() => texts() === "m1,m2"); // the page was older than the list
  server.write("messages", "patch", 2, { text: "changed" });
  await until(() => texts() === "m1,changed");
  server.write("messages", "create", null, { room: 2, text: "elsewhere" });
  await clock.advance(500);
  assert.deepEqual([requests.length, server.requests], [2, ["subscribe"]]);
  server.cut();
  await clock.advance(10_000);
  assert.equal(requests.length, 2);
  server.cut();
  server.write("messages", "destroy", 1);
  await clock.advance(10_000);
  assert.deepEqual([requests.length, texts()], [3, "changed"]);
  htmx.process(document.body);
  htmx.trigger(document.body, "htmx:load");
  await clock.advance(500);
  assert.equal(requests.length, 3);
});

page("an element shows the answer of a watch, as text", `<p live-stream="messages" live-watch="count" title="{count} in all"><b data-text="count">?</b></p>`, async ({ server, document, until, requests }) => {
  await until(() => document.body.textContent === "3");
  assert.equal(document.querySelector("p").title, "3 in all");
  server.write("messages", "destroy", 1);
  await until(() => document.body.textContent === "2");
  const [link] = server.sockets;
  link.send("messages", { action: "revoke", response_status: 403, request_id: [...link.subs.keys()][0] });
  await until(() => document.body.textContent === "");
  server.cut();
  await until(() => document.body.textContent === "2");
  assert.deepEqual(requests, []);
});

page("a fragment may depend on a watch", list.replace("live-query", `live-watch="count" live-query`), async ({ server, until, texts, clock, requests }) => {
  await until(() => texts() === "m1,m2");
  server.write("messages", "patch", 1, { text: "as many as before" });
  await clock.advance(500);
  assert.deepEqual([requests.length, server.requests], [1, ["watch"]]);
  server.write("messages", "destroy", 1);
  await until(() => texts() === "m2");
});

page("what the user may no longer see disappears, and comes back with the permission", list, async ({ server, until, texts, state, requests }) => {
  await until(() => texts() === "m1,m2");
  state.render = () => assert.fail("nothing is fetched");
  const [link] = server.sockets;
  link.send("messages", { action: "revoke", response_status: 404, request_id: [...link.subs.keys()][0] });
  await until(() => texts() === "");
  state.render = () => [200, "<li>again</li>"];
  server.cut();
  await until(() => texts() === "again");
  assert.equal(requests.length, 2);
});

page("content that htmx adds is followed, and left when it is replaced", `<main><a hx-get="/first/">Open</a></main>`, async ({ server, document, until, texts, state, src, htmx, clock }) => {
  const fragment = (room) => list.replace("live-stream", `live-src="${src}" live-stream`).replace(`"room": 1`, `"room": ${room}`);
  const shown = { "/first/": fragment(1), "/second/": fragment(2) };
  state.render = (url) => [200, shown[url] ?? "<li>new</li>"];
  await clock.advance(50);
  await htmx.ajax("GET", "/first/", { target: "main" });
  await until(() => server.requests.length === 1 && texts() === "new");
  await htmx.ajax("GET", "/second/", { target: "main" });
  await until(() => server.requests.length === 3);
  assert.deepEqual(server.requests.toSorted(), ["subscribe", "subscribe", "unsubscribe"]);
  document.querySelector("ul").setAttribute("live-query", `{"room": 1}`);
  htmx.process(document.body);
  htmx.trigger(document.body, "htmx:load");
  await until(() => server.requests.length === 5);
  assert.deepEqual(server.requests.slice(3).toSorted(), ["subscribe", "unsubscribe"]);
});

page("the guide's example runs", example("htmx", "html").replace(/<script[^]*?<\/script>/g, ""), async ({ document, until, texts, server, state }) => {
  state.render = (url) => [200, url === "/messages/?room=1" ? "<li>m1</li><li>m2</li>" : ""];
  await until(() => texts() === "m1,m2" && document.querySelector("b").textContent === "2");
  server.write("messages", "destroy", 1);
  await until(() => document.querySelector("b").textContent === "1");
});
