/* The custom element. */

import { browse } from "./support/browser.js";
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { apiAt } from "rest-channels/live-list";
import { example } from "./support/guide.js";

const names = ["one", "two", "three"];
const tables = { messages: names.map((text, i) => ({ id: i + 1, room: 1, text, kind: "note", author: { id: 7, name: "Ann" } })) };
const html = (attributes = "", template = `<p data-text="text"></p>`) =>
  `<live-list stream="messages" query='{"room": 1}' ${attributes}><template>${template}</template></live-list>`;

let pages = 0;
/** Run a test whose elements talk to the server, each on a connection of its own. */
const page = (play) =>
  browse(tables, async ({ server, clock, body, ...rest }) => {
    const src = `/ws/${++pages}/`;
    globalThis.WebSocket = server.WebSocket;
    const show = async (text) => {
      body.innerHTML = text.replace("<live-list", `<live-list src="${src}"`);
      await clock.advance(20);
      return body.querySelector("live-list");
    };
    const items = () => [...body.querySelectorAll("live-list > p")];
    const texts = () => items().map(({ textContent }) => textContent.trim());
    await play({ server, clock, body, show, items, texts, src, ...rest });
    body.innerHTML = "";
    await clock.advance(20);
    for (const { subs } of server.sockets) assert.equal(subs.size, 0); // nothing leaks
    apiAt(src).close();
  });

test("it shows rows by its template, and follows the list", page(async ({ server, clock, show, texts }) => {
  const element = await show(html());
  assert.deepEqual(texts(), names);
  assert.equal(element.getAttribute("status"), "live");
  server.write("messages", "patch", 2, { text: "changed" });
  server.write("messages", "create", null, { room: 1, text: "new" });
  server.write("messages", "destroy", 1);
  await clock.advance(20);
  assert.deepEqual(texts(), ["changed", "three", "new"]);
  server.cut();
  await clock.advance(5);
  assert.deepEqual([element.getAttribute("status"), texts().length], ["stale", 3]);
}));

test("elements are kept: only what has changed is touched", page(async ({ server, clock, show, items, body, texts }) => {
  await show(html());
  const [first, second, third] = items();
  const touched = [];
  const note = (records) => touched.push(...records.flatMap(({ target, addedNodes }) => [target, ...addedNodes]));
  const observer = new MutationObserver(note);
  observer.observe(body.firstChild, { childList: true, subtree: true, characterData: true });
  server.write("messages", "patch", 2, { text: "changed" });
  await clock.advance(20);
  assert.deepEqual(items(), [first, second, third]);
  const isOf = (item) => touched.some((node) => item.contains(node));
  assert.deepEqual([isOf(first), isOf(second), isOf(third)], [false, true, false]);
  touched.length = 0;
  // The first moves to the end; the others stay on the page.
  server.tables.messages.order = (a, b) => (a.id === 1) - (b.id === 1) || a.id - b.id;
  server.write("messages", "patch", 1, { text: "last" });
  await clock.advance(20);
  assert.deepEqual([texts(), items()], [["changed", "three", "last"], [second, third, first]]);
  assert.deepEqual([isOf(first), isOf(second), isOf(third)], [true, false, false]);
  touched.length = 0;
  // And back to the front.
  server.tables.messages.order = (a, b) => a.id - b.id;
  server.write("messages", "patch", 1, { text: "first" });
  await clock.advance(20);
  assert.deepEqual([texts(), items()], [["first", "changed", "three"], [first, second, third]]);
  assert.deepEqual([isOf(first), isOf(second), isOf(third)], [true, false, false]);
  observer.disconnect();
}));

test("every order can follow every other", page(async ({ server, clock, show, texts }) => {
  for (let id = 4; id <= 9; id++) server.write("messages", "create", null, { room: 1, text: `${id}` });
  await show(html());
  let seed = 1;
  const chance = () => (seed = (seed * 16807) % 2147483647);
  for (let i = 0; i < 40; i++) {
    const places = new Map([...Array(12).keys()].map((id) => [id, chance()]));
    server.tables.messages.order = (a, b) => places.get(a.id) - places.get(b.id);
    const { rows } = server.tables.messages;
    const ids = [...rows.keys()];
    for (const id of ids) server.write("messages", "patch", id, { at: i });
    await clock.advance(20);
    assert.deepEqual(texts(), server.list("messages").map(({ text }) => text));
  }
}));

test("a value of a row never becomes HTML, an address or code of its own", page(async ({ server, clock, show, items }) => {
  const evil = `"><img src=x onerror=alert(1)>'*alert(1)*'`;
  server.write("messages", "patch", 1, { text: evil, kind: "javascript:alert(1)" });
  await show(html("", `<p title="{text}"><a href="{kind}" onclick="f('{text}')" data-text="text"></a><a href="/{text}/{none}"></a></p>`));
  const [item] = items();
  assert.equal(item.title, evil);
  assert.equal(item.querySelector("img"), null);
  const [link, other] = item.querySelectorAll("a");
  assert.equal(link.textContent, evil);
  assert.equal(link.protocol, "https:");
  assert.equal(link.getAttribute("onclick"), "f('{text}')");
  assert.equal(other.getAttribute("href"), `/${encodeURIComponent(evil)}/`);
}));

test("a new row keeps its element when it gets its real key", page(async ({ clock, show, items, texts, src }) => {
  await show(html());
  const created = apiAt(src).messages.create({ room: 1, text: "mine" });
  await clock.advance(0);
  const item = items()[3];
  assert.equal(item?.textContent, "mine");
  await clock.advance(20);
  assert.equal((await created).id, 4);
  assert.deepEqual([items()[3], texts()[3]], [item, "mine"]);
}));

test("rows that the server has drawn give way in the frame in which the list is live", page(async ({ server, clock, body, items, texts }) => {
  body.innerHTML = html(`src="/ws/${pages}/"`).replace("<template>", `<p data-key="1">one</p><p>Heading</p><template>`);
  assert.deepEqual(texts(), ["one", "Heading"]);
  const counts = new Set();
  const observer = new MutationObserver(() => counts.add(items().length));
  observer.observe(body.firstChild, { childList: true });
  await clock.advance(20);
  assert.deepEqual([texts(), [...counts]], [["Heading", ...names], [4]]);
  observer.disconnect();
}));

test("a changed attribute changes the list, and a button shows more", page(async ({ server, clock, show, body, texts }) => {
  const element = await show(html(`window="1"`).replace("</live-list>", `<button data-grow="1"><i>More</i></button></live-list>`));
  const button = body.querySelector("button");
  assert.deepEqual([texts(), button.hidden], [["one"], false]);
  body.querySelector("i").click();
  await clock.advance(20);
  assert.deepEqual(texts(), ["one", "two"]);
  element.setAttribute("window", "4");
  await clock.advance(20);
  assert.deepEqual([texts(), button.hidden], [names, true]);
  element.setAttribute("query", `{"room": 2}`);
  await clock.advance(20);
  assert.deepEqual(texts(), []);
  assert.deepEqual(server.requests.at(-1), "unsubscribe");
}));

test("an element that moves keeps its subscription; one that is removed ends it", page(async ({ server, clock, show, body, texts }) => {
  const element = await show(html());
  body.appendChild(document.createElement("main")).appendChild(element);
  await clock.advance(20);
  assert.deepEqual([texts(), server.requests], [names, ["subscribe"]]);
  element.remove();
  await clock.advance(20);
  assert.deepEqual(server.requests, ["subscribe", "unsubscribe"]);
}));

test("rows disappear when the user may no longer see them", page(async ({ server, clock, show, texts }) => {
  const element = await show(html());
  server.cut(4401);
  await clock.advance(20);
  assert.deepEqual([texts(), element.getAttribute("status")], [[], "denied"]);
}));

test("what is missing or wrong is named", page(async ({ show, clock, body }) => {
  const errors = [];
  const note = (event) => (event.preventDefault(), errors.push(event.error.message));
  window.addEventListener("error", note);
  await show(`<live-list stream="messages"></live-list>`);
  await show(html().replace(`{"room": 1}`, `{room: 1}`));
  window.removeEventListener("error", note);
  assert.deepEqual(errors, [
    "<live-list> requires a <template> with an element.",
    "query='{room: 1}' must be JSON: put names and strings in double quotes.",
  ]);
}));

test("the guide's example runs", page(async ({ show, items, body }) => {
  await show(example("Pages without a framework", "html").replace(/<script.*<\/script>/, ""));
  const [item] = items();
  const text = item.textContent.replace(/\s+/g, " ").trim();
  assert.deepEqual([item.className, text], ["message note", "Ann one"]);
  assert.equal(item.querySelector("a").getAttribute("href"), "/users/7/");
  assert.equal(body.querySelector("button").hidden, true);
}));

test("no module of it needs what a strict policy forbids", () => {
  for (const name of ["live-list", "template", "shared"]) {
    const source = readFileSync(new URL(`../dist/${name}.js`, import.meta.url), "utf8");
    assert.doesNotMatch(source, /innerHTML|outerHTML|insertAdjacentHTML|eval\(|Function\(|\.style\b|setAttribute\("style/);
  }
});
