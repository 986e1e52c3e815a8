/* One frame, as a form or as JSON: it is filled in here, sent, followed and copied. */

import { complete } from "./completion.js";
import { announce, brief, fill, find, make } from "./dom.js";
import { createForm, messageFields } from "./frame-form.js";
import { writeLink } from "./link.js";
import { createReplyView } from "./reply-view.js";
import { choicesOf, fieldsOf, resolve, typeText } from "./schema-fields.js";
import { createSentFrames } from "./sent-frames.js";
import { snippets } from "./snippets.js";

const KEYS = {
  action: "the operation",
  pk: "the row",
  data: "the body",
  query: "filters, search, order, page",
  headers: "authorization, accept, accept-language, x-request-id ...",
  method: "one of the action's verbs",
  fence: "true: reply after the events of the write",
  idempotency_key: "a write with it happens once",
  request_id: "echoed in the reply",
};
const SUBSCRIPTION_KEYS = {
  snapshot: "true: with the rows",
  since: "resume here",
  held: "keys of rows held",
  credit: "events unacknowledged",
  ordered: "events say where rows go",
  window: "the first rows",
};
const HEADERS = [
  ...["authorization", "accept", "accept-language"],
  ...["traceparent", "tracestate", "x-request-id"],
];
const LINK = "Link, filled in";

/** An action that the description does not name. */
const unknown = (name = "") => ({
  ...{ name, aliases: [], verbs: [], doc: "", permissions: [], lookups: [], query: [] },
  ...{ request: null, message: null, subscription: null, http: null },
  ...{ isSafe: true, isLive: false, isWatchable: false, isWindowed: false },
});

/**
 * @param {{ send(stream: string, frame: any, signal: AbortSignal): Promise<{ reply: any, items: any[], ms?: number }>, follow(stream: string, frame: any): void, chose(stream: string, action: string): void }} owner
 */
export function createEditor(owner) {
  let components = {};
  let socket = null;
  let stream = null;
  let action = unknown();
  let frame = {};
  let isJson = false;
  let running = null;
  const json = find("#frame-json");
  const jsonError = find("#json-error");
  const form = createForm(put);
  const reply = createReplyView((name, texts) => !isJson && form.complain(name, texts));
  const sent = createSentFrames((kept, isSent) => {
    open(kept.stream, kept.frame.action, kept.frame);
    if (isSent) send();
  });

  find("#as-form").addEventListener("click", () => setMode(false));
  find("#as-json").addEventListener("click", () => setMode(true));
  find("#send").addEventListener("click", send);
  find("#cancel").addEventListener("click", () => running?.abort());
  find("#follow").addEventListener("click", () =>
    follow({ action: action.subscription ?? action.name }),
  );
  find("#watch").addEventListener("click", () => follow({ action: "watch", of: action.name }));
  find("#copy").addEventListener("change", ({ target }) => copy(target));
  find("#frame").addEventListener("keydown", ({ key, ctrlKey, metaKey }) => {
    if (key === "Enter" && (ctrlKey || metaKey)) send();
  });
  json.addEventListener("input", () => fill(jsonError, ""));
  complete(json, find("#completions"), suggest);

  const known = (word) =>
    stream.actions.find(({ name, aliases }) => name === word || aliases.includes(word)) ??
    unknown(word);

  /** Show an action; `given` is what its frame has already. */
  function open(streamName, actionName, given = {}) {
    const found = socket.streams.find(({ name }) => name === streamName);
    stream = found ?? { name: streamName, doc: "", actions: [] };
    action = known(actionName);
    const { request_id, ...rest } = given;
    frame = { ...rest, action: actionName ?? "" };
    find("#frame").hidden = false;
    find("#welcome").hidden = true;
    reply.hide();
    drawHead();
    form.draw(action, frame, components);
    json.value = JSON.stringify(frame, null, 2);
  }

  function drawHead() {
    const dot = make("span", { class: "dot" }, " · ");
    fill(find("#frame-title"), make("span", {}, stream.name), dot, make("span", {}, action.name));
    fill(find("#frame-chips"), chips(action));
    fill(find("#frame-doc"), paragraphs(action.doc || stream.doc));
    // A table requires rows with a key; without one, the timeline alone has the events.
    find("#follow").hidden = !stream.key || !(action.isLive || action.subscription);
    find("#watch").hidden = !action.isWatchable;
    const titles = [...snippets(copied()).map(([title]) => title), LINK];
    const options = titles.map((title) => make("option", { value: title }, title));
    fill(find("#copy"), make("option", { value: "" }, "Copy as…"), options);
    owner.chose(stream.name, action.name);
  }

  /** Take a value of the form; undefined leaves it out. */
  function put([first, second], value) {
    const next = { ...frame };
    if (second === undefined) next[first] = value;
    else {
      const { [second]: _, ...rest } = next[first] ?? {};
      next[first] = value === undefined ? rest : { ...next[first], [second]: value };
      if (first === "query" && !Object.keys(next.query).length) delete next.query;
    }
    if (next[first] === undefined) delete next[first];
    frame = next;
  }

  function setMode(toJson) {
    if (toJson === isJson || (isJson && !read())) return;
    isJson = toJson;
    find("#as-form").setAttribute("aria-selected", String(!isJson));
    find("#as-json").setAttribute("aria-selected", String(isJson));
    find("#form-fields").hidden = isJson;
    find("#json-box").hidden = !isJson;
    if (isJson) json.value = JSON.stringify(frame, null, 2);
    else form.draw(action, frame, components);
  }

  /** Take the frame from the text, if that is shown; return whether it is one. */
  function read() {
    if (!isJson) return true;
    try {
      const value = JSON.parse(json.value);
      if (value === null || typeof value !== "object" || Array.isArray(value))
        throw new SyntaxError("A frame is an object.");
      frame = value;
      change(String(value.action ?? ""));
      return true;
    } catch (error) {
      fill(jsonError, error.message);
      json.focus();
      return false;
    }
  }

  /** The text may name another action than the one that was chosen. */
  function change(word) {
    if (word === action.name || action.aliases.includes(word)) return;
    action = known(word);
    drawHead();
  }

  /** Return the words that may stand at a place of the text, with their meanings. */
  function suggest(path, isKey) {
    const written = json.value.match(/"action"\s*:\s*"(\w+)"/)?.[1];
    if (written && path[0] !== "action") change(written);
    return isKey ? keysAt(path) : valuesAt(path);
  }

  const dataFields = () => fieldsOf(action.request ?? {}, components);
  const meaning = ([name, schema]) => [name, typeText(schema, components)];

  function keysAt([first, second]) {
    if (first === undefined)
      return [
        ...Object.entries(KEYS),
        ...action.lookups.map(({ name }) => [name, "the row"]),
        ...Object.entries(action.isLive ? SUBSCRIPTION_KEYS : {}),
        ...messageFields(action, components).map(meaning),
      ];
    if (second !== undefined) return [];
    if (first === "data") return dataFields().map(meaning);
    if (first === "query") return action.query.map(({ name, doc }) => [name, doc]);
    return first === "headers" ? HEADERS.map((name) => [name]) : [];
  }

  function valuesAt([first, second]) {
    if (first === "action") return stream.actions.map(({ name, doc }) => [name, brief(doc, 60)]);
    const watchable = stream.actions.filter(({ isWatchable }) => isWatchable);
    if (first === "of") return watchable.map(({ name }) => [name]);
    const schema =
      first === "data"
        ? dataFields().find(([name]) => name === second)?.[1]
        : action.query.find(({ name }) => name === second)?.schema;
    const choices = schema && choicesOf(resolve(schema, components), components);
    return (choices ?? []).filter((value) => typeof value === "string").map((value) => [value]);
  }

  async function send() {
    if (running || !read()) return;
    const kept = sent.add(stream.name, frame);
    running = new AbortController();
    busy(true);
    form.forgive();
    try {
      const answer = await owner.send(stream.name, frame, running.signal);
      kept.status = answer.reply.response_status;
      reply.show(stream.name, answer);
      if (answer.reply.errors.length) form.focusWrong();
    } catch (error) {
      kept.status = "lost";
      reply.lose(error);
    } finally {
      running = null;
      busy(false);
      sent.draw();
    }
  }

  function follow(asks) {
    if (read()) owner.follow(stream.name, { ...frame, ...asks });
  }

  function busy(isBusy) {
    find("#send").disabled = isBusy;
    find("#cancel").hidden = !isBusy;
    find("#frame").setAttribute("aria-busy", String(isBusy));
  }

  const copied = () => ({
    ...{ stream: stream.name, frame, url: socketUrl(socket.path), isRoot: socket.isRoot },
    ...{ origin: location.origin, http: httpOf(action, frame) },
  });

  async function copy(select) {
    const title = select.value;
    select.value = "";
    if (!title || !read()) return;
    const link = new URL(writeLink(stream.name, frame, socket.path), location.href).href;
    const text = title === LINK ? link : snippets(copied()).find(([name]) => name === title)?.[1];
    if (text === undefined) return;
    fill(find("#copied"), text);
    find("#copied-box").hidden = false;
    try {
      await navigator.clipboard.writeText(text);
      announce(`Copied as ${title}.`);
    } catch {
      // Pages without https have no clipboard: the text is shown, and selected.
      getSelection().selectAllChildren(find("#copied"));
      announce("Press Control and C to copy.");
    }
  }

  return {
    open,

    /** Edit frames of this socket from now on. */
    use(description, opened) {
      components = description.components;
      socket = opened;
    },
  };
}

function chips(action) {
  const chip = (text, kind, title) => make("li", { class: `chip ${kind}`, title }, text);
  const safety = action.isSafe ? "safe" : "unsafe";
  return [
    ...action.verbs.map((verb) => chip(verb.toUpperCase(), `verb ${safety}`)),
    ...(action.isLive ? [chip("LIVE", "verb live")] : []),
    ...action.permissions.map((name) => chip(name, "permission", "permission")),
    ...action.aliases.map((name) => chip(`also ${name}`, "alias")),
  ];
}

function paragraphs(text) {
  const parts = text.split(/\n\s*\n/).filter(Boolean);
  return parts.map((part) => make("p", {}, part.replace(/\s+/g, " ")));
}

/** Return the address of a socket of this host. */
export function socketUrl(path) {
  const address = new URL(path, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  return address.href;
}

/** Return the verb and the path of the same request over HTTP, or null. */
function httpOf({ http, verbs }, frame) {
  if (!http) return null;
  const value = (name) => frame[name] ?? frame.pk ?? `<${name}>`;
  const path = http.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(value(name)));
  return { verb: (frame.method ?? verbs[0] ?? "GET").toUpperCase(), path };
}
