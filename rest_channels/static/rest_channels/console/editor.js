/* One frame, as a form or as JSON; its reply; the frames that were sent before. */

import { complete } from "./completion.js";
import { announce, brief, button, fill, find, make, timeText } from "./dom.js";
import { writeLink } from "./link.js";
import { choicesOf, fieldsOf, makeField, resolve, typeText } from "./schema-fields.js";
import { snippets } from "./snippets.js";
import { statusClass } from "./timeline.js";

const OPTIONS = {
  pk: "the row",
  data: "the body",
  query: "filters, search, order, page",
  headers: "authorization, accept, accept-language",
  method: "one of the action's verbs",
  fence: "true: reply after the events of the write",
  idempotency_key: "a write with it happens once",
  request_id: "echoed in the reply",
};
const SUBSCRIBES = { snapshot: "true: with the rows", since: "resume here", held: "keys of rows held", credit: "events unacknowledged", ordered: "events say where rows go", window: "the first rows" };
const MOST_KEPT = 50;

/**
 * @param {{ send(stream: string, frame: any, signal: AbortSignal): Promise<{ reply: any, items: any[], ms?: number }>, follow(stream: string, frame: any): void, chose(stream: string, action: string): void }} owner
 */
export function createEditor(owner) {
  let description = { components: {} };
  let socket = null;
  let stream = null;
  let action = null;
  let frame = {};
  let fields = [];
  let isJson = false;
  let running = null;
  const history = [];
  const json = find("#frame-json");
  const jsonError = find("#json-error");

  find("#as-form").addEventListener("click", () => setMode(false));
  find("#as-json").addEventListener("click", () => setMode(true));
  find("#send").addEventListener("click", send);
  find("#cancel").addEventListener("click", () => running?.abort());
  find("#follow").addEventListener("click", () => read() && owner.follow(stream.name, subscribing()));
  find("#watch").addEventListener("click", () => read() && owner.follow(stream.name, watching()));
  find("#copy").addEventListener("change", ({ target }) => copy(target));
  find("#frame").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) send();
  });
  json.addEventListener("input", () => fill(jsonError, ""));
  complete(json, find("#completions"), suggest);

  /** Show an action; `given` is what its frame has already. */
  function open(streamName, actionName, given = {}) {
    stream = socket.streams.find(({ name }) => name === streamName) ?? { name: streamName, kind: "unknown", doc: "", actions: [] };
    action = known(actionName);
    const { request_id, ...rest } = given;
    frame = { ...rest, action: actionName ?? "" };
    find("#frame").hidden = false;
    find("#welcome").hidden = true;
    find("#reply").hidden = true;
    head();
    drawForm();
    json.value = JSON.stringify(frame, null, 2);
    owner.chose(stream.name, action.name);
  }

  const known = (word) => stream.actions.find(({ name, aliases }) => name === word || aliases.includes(word)) ?? unknown(word);

  /** The text may name another action than the one that was chosen. */
  function change(word) {
    if (word === action.name || action.aliases.includes(word)) return;
    action = known(word);
    head();
    owner.chose(stream.name, action.name);
  }

  function head() {
    fill(find("#frame-title"), make("span", {}, stream.name), make("span", { class: "dot" }, " · "), make("span", {}, action.name));
    const chips = [
      ...action.verbs.map((verb) => chip(verb.toUpperCase(), `verb ${action.isSafe ? "safe" : "unsafe"}`)),
      ...(action.isLive ? [chip("LIVE", "verb live")] : []),
      ...action.permissions.map((name) => chip(name, "permission", "permission")),
      ...action.aliases.map((name) => chip(`also ${name}`, "alias")),
    ];
    fill(find("#frame-chips"), chips);
    fill(find("#frame-doc"), paragraphs(action.doc || stream.doc));
    find("#follow").hidden = !(action.isLive || action.subscription);
    find("#watch").hidden = !action.isWatchable;
    find("#copy").replaceChildren(
      make("option", { value: "" }, "Copy as…"),
      ...snippets(copied()).map(([title]) => make("option", { value: title }, title)),
      make("option", { value: "link" }, "Link, filled in"),
    );
  }

  function drawForm() {
    fields = [];
    const sections = [];
    const section = (title, made) => made.length && sections.push(make("fieldset", {}, make("legend", {}, title), made));
    section("Row", lookups());
    section("Query", query());
    section("Data", data());
    section("Options", options());
    fill(find("#form-fields"), sections.length ? sections : make("p", { class: "quiet" }, "This action takes nothing."));
    showValues();
  }

  function field(path, name, schema, isRequired = false, doc = "") {
    const made = makeField(name, schema, {
      ...{ isRequired, doc, components: description.components },
      change: (value) => put(path, value),
    });
    fields.push({ ...made, path });
    return made.element;
  }

  const lookups = () => action.lookups.map(({ name, schema, doc }) => field([name], name, schema, true, doc));

  const query = () => {
    const known = action.query.map(({ name, schema, doc, isRequired }) => field(["query", name], name, schema ?? {}, isRequired, doc));
    const extra = Object.keys(frame.query ?? {}).filter((name) => !action.query.some((item) => item.name === name));
    const more = action.isSafe ? [adder((name) => addQuery(name))] : [];
    return [...known, ...extra.map((name) => field(["query", name], name, {})), ...more];
  };

  function adder(add) {
    const input = make("input", { placeholder: "another parameter", "aria-label": "Name of another parameter", autocomplete: "off" });
    return make("div", { class: "adder" }, input, button("Add", () => input.value.trim() && add(input.value.trim())));
  }

  function addQuery(name) {
    if (Object.hasOwn(frame.query ?? {}, name)) return;
    frame.query = { ...frame.query, [name]: "" };
    drawForm();
    fields.find(({ path }) => path[0] === "query" && path[1] === name)?.focus();
  }

  const subscribing = () => ({ ...frame, action: action.subscription ?? action.name });
  const watching = () => ({ ...frame, action: "watch", of: action.name });

  const data = () => {
    // A handler of class-based consumers takes a message, not the body of a request.
    if (action.message) return messageFields().map(([name, schema, isRequired]) => field([name], name, schema, isRequired));
    if (!action.request) return [];
    const known = fieldsOf(action.request, description.components);
    if (!known.length) return [field(["data"], "data", action.request)];
    const isPartial = action.name === "partial_update";
    return known.map(([name, schema, isRequired]) => field(["data", name], name, schema, isRequired && !isPartial));
  };

  const messageFields = () => fieldsOf(action.message, description.components).filter(([name]) => !["action", "request_id"].includes(name));

  const options = () => {
    const made = [];
    if (action.message) return made;
    if (action.isWindowed) made.push(field(["window"], "window", { type: "integer" }, false, "only the first rows"));
    if (!action.isSafe) made.push(field(["fence"], "fence", { type: "boolean" }, false, OPTIONS.fence));
    if (action.verbs.length > 1) made.push(field(["method"], "method", { enum: action.verbs.map((verb) => verb.toUpperCase()) }));
    return made;
  };

  const watchable = () => stream.actions.filter(({ isWatchable }) => isWatchable).map(({ name }) => name);

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

  function showValues() {
    for (const { path, show } of fields) show(path.reduce((value, name) => value?.[name], frame));
  }

  function setMode(toJson) {
    if (toJson === isJson || (isJson && !read())) return;
    isJson = toJson;
    find("#as-form").setAttribute("aria-selected", String(!isJson));
    find("#as-json").setAttribute("aria-selected", String(isJson));
    find("#form-fields").hidden = isJson;
    find("#json-box").hidden = !isJson;
    if (isJson) json.value = JSON.stringify(frame, null, 2);
    else drawForm();
  }

  /** Take the frame from the text, if that is shown; return whether it is one. */
  function read() {
    if (!isJson) return true;
    try {
      const value = JSON.parse(json.value);
      if (value === null || typeof value !== "object" || Array.isArray(value)) throw new SyntaxError("A frame is an object.");
      frame = value;
      change(String(value.action ?? ""));
      return true;
    } catch (error) {
      fill(jsonError, error.message);
      json.focus();
      return false;
    }
  }

  function suggest(path, isKey) {
    const [first, second] = path;
    const written = json.value.match(/"action"\s*:\s*"(\w+)"/)?.[1];
    if (written && first !== "action") change(written);
    const inData = () => fieldsOf(action.request ?? {}, description.components);
    if (isKey) {
      if (!path.length) return Object.entries({ action: "the operation", ...Object.fromEntries(action.lookups.map(({ name }) => [name, "lookup"])), ...OPTIONS, ...(action.isLive ? SUBSCRIBES : {}), ...Object.fromEntries(action.message ? messageFields().map(([name, schema]) => [name, typeText(schema, description.components)]) : []) });
      if (first === "data" && path.length === 1) return inData().map(([name, schema]) => [name, typeText(schema, description.components)]);
      if (first === "query") return action.query.map(({ name, doc }) => [name, doc]);
      if (first === "headers") return [["authorization"], ["accept"], ["accept-language"]];
      return [];
    }
    if (first === "action") return stream.actions.map(({ name, doc }) => [name, brief(doc, 60)]);
    if (first === "of") return watchable().map((name) => [name]);
    const schema = first === "data" ? inData().find(([name]) => name === second)?.[1] : action.query.find(({ name }) => name === second)?.schema;
    const choices = schema && choicesOf(resolve(schema, description.components), description.components);
    return (choices ?? []).filter((value) => typeof value === "string").map((value) => [value]);
  }

  async function send() {
    if (running || !read()) return;
    const kept = { stream: stream.name, frame: structuredClone(frame), at: Date.now(), status: null };
    history.unshift(kept);
    history.length = Math.min(history.length, MOST_KEPT);
    running = new AbortController();
    busy(true);
    for (const { complain } of fields) complain([]);
    try {
      const { reply, items, ms } = await owner.send(stream.name, frame, running.signal);
      kept.status = reply.response_status;
      kept.ms = ms;
      show(reply, items, ms);
    } catch (error) {
      kept.status = "lost";
      showLost(error);
    } finally {
      running = null;
      busy(false);
      drawHistory();
    }
  }

  function busy(isBusy) {
    find("#send").disabled = isBusy;
    find("#cancel").hidden = !isBusy;
    find("#frame").setAttribute("aria-busy", String(isBusy));
  }

  function show(reply, items, ms) {
    const { response_status: status, errors, data, hints } = reply;
    const title = find("#reply-title");
    fill(title, make("span", { class: `status ${statusClass(status)}` }, String(status)), ` ${reply.action ?? ""}`, ms === undefined ? "" : make("span", { class: "ms" }, ` ${Math.round(ms)} ms`));
    const others = complain(errors);
    fill(
      find("#reply-errors"),
      others.map((text) => make("p", { class: "field-error" }, text)),
      (hints ?? []).map((text) => make("p", { class: "hint" }, text)),
    );
    const shown = items.length ? items : status >= 400 ? reply : data;
    fill(find("#reply-data"), JSON.stringify(shown, null, 2));
    find("#reply").hidden = false;
    announce(`${stream.name} ${reply.action}: ${status}${errors.length ? `. ${brief(errors, 200)}` : ""}`);
    if (errors.length) focusWrong();
  }

  /** Put errors beside their fields; return those that belong to none that is shown. */
  function complain(errors) {
    const others = [];
    for (const error of errors) {
      if (typeof error !== "object" || error === null) {
        others.push(String(error));
        continue;
      }
      for (const [name, texts] of Object.entries(error)) {
        const place = fields.find(({ path }) => path.at(-1) === name);
        const words = [texts].flat().map((text) => (typeof text === "string" ? text : JSON.stringify(text)));
        if (place && !isJson) place.complain(words);
        else others.push(`${name}: ${words.join(" ")}`);
      }
    }
    return others;
  }

  function focusWrong() {
    find('#form-fields [aria-invalid="true"]')?.focus();
  }

  function showLost(error) {
    const text = error.name === "AbortError" ? "Cancelled." : error.message;
    fill(find("#reply-title"), make("span", { class: "status broken" }, "no reply"));
    fill(find("#reply-errors"), make("p", { class: "field-error" }, text));
    fill(find("#reply-data"));
    find("#reply").hidden = false;
    announce(text);
  }

  function drawHistory() {
    find("#history-box").hidden = !history.length;
    fill(
      find("#history"),
      history.map((kept) =>
        make(
          "li",
          {},
          make("time", {}, timeText(kept.at)),
          make("span", { class: "what" }, `${kept.stream} · ${kept.frame.action}`),
          kept.status === null ? "" : make("span", { class: `status ${typeof kept.status === "number" ? statusClass(kept.status) : "broken"}` }, String(kept.status)),
          make("code", {}, brief(without(kept.frame), 80)),
          button("Fill in", () => open(kept.stream, kept.frame.action, kept.frame)),
          button("Send again", () => {
            open(kept.stream, kept.frame.action, kept.frame);
            send();
          }),
        ),
      ),
    );
  }

  const copied = () => ({
    ...{ stream: stream.name, frame, url: socketUrl(socket.path), isRoot: socket.isRoot, origin: location.origin },
    http: httpOf(action, frame),
  });

  async function copy(select) {
    const title = select.value;
    select.value = "";
    if (!title || !read()) return;
    const link = new URL(writeLink(stream.name, frame, socket.path), location.href).href;
    const text = title === "link" ? link : snippets(copied()).find(([name]) => name === title)?.[1];
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
    send,
    get isOpen() {
      return stream !== null;
    },
    /** @param {any} given @param {any} opened */
    use(given, opened) {
      description = given;
      socket = opened;
    },
  };
}

const unknown = (name) => ({ name: name ?? "", aliases: [], verbs: [], doc: "", permissions: [], lookups: [], query: [], request: null, message: null, isSafe: true, isLive: false, http: null });

const chip = (text, kind, title) => make("li", { class: `chip ${kind}`, title }, text);

const paragraphs = (text) => text.split(/\n\s*\n/).filter(Boolean).map((part) => make("p", {}, part.replace(/\s+/g, " ")));

function without({ action, headers, ...rest }) {
  return rest;
}

export function socketUrl(path) {
  const address = new URL(path, location.href);
  address.protocol = address.protocol.replace("http", "ws");
  return address.href;
}

/** Return the verb and the path of the same request over HTTP, or null. */
function httpOf({ http, verbs }, frame) {
  if (!http) return null;
  const path = http.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(frame[name] ?? frame.pk ?? `<${name}>`));
  return { verb: (frame.method ?? verbs[0] ?? "GET").toUpperCase(), path };
}
