/*
 * The page. What is on it came as the answer to a frame; what is done on it goes as one.
 *
 * Text of users only ever becomes `textContent`, which nothing in it can escape.
 */

import { ConnectionLost, SIGNED_OUT, Socket } from "./socket.js";
import { showWire } from "./wire.js";

const $ = (id) => document.getElementById(id);
const socket = new Socket("/");

let me = null;
let rooms = [];
let room = null;
let older = null; // the query of the next page, null on the last one
let turn = 0; // counts what was asked to be listed: an answer that is no longer wanted is dropped

showWire(socket, { panel: $("frames"), toggle: $("wire-toggle"), template: $("frame-template") });

// Connected, and not

socket.addEventListener("open", () => {
  $("connection").hidden = true;
  attempt(enter);
});

socket.addEventListener("close", ({ detail: { code, delay } }) => {
  const [text, link] = $("connection").children;
  if (code === SIGNED_OUT) text.textContent = "You are signed out.";
  else if (delay === null) text.textContent = `The server ended the connection (${code}).`;
  else text.textContent = "Connection lost. Trying again…";
  link.hidden = code !== SIGNED_OUT;
  $("connection").hidden = false;
});

/** Ask for everything around the messages; then for the messages. */
async function enter() {
  const [user, people] = await Promise.all([
    socket.request("users", "me"),
    socket.request("users", "list"),
    socket.request("rooms", "list").then((list) => (rooms = list)),
  ]);
  me = user;
  $("me").replaceChildren(...person(me));
  $("people").replaceChildren(...people.map((user) => element("li", {}, ...person(user))));
  // Back after a break: an edit that is not saved yet is worth more than the newest list.
  if (document.querySelector(".editor") === null) await showRoom();
}

// Rooms

addEventListener("hashchange", () => attempt(showRoom));

/** Show the room that the address names after its `#`, the first one where it names none. */
async function showRoom() {
  const name = decodeURIComponent(location.hash.slice(1)) || rooms[0]?.name;
  room = rooms.find((room) => room.name === name) ?? null;
  $("rooms").replaceChildren(...rooms.map(roomLink));
  $("title").textContent = room?.title ?? "No such room";
  $("topic").textContent = room?.topic ?? "It does not exist, or it is not for you to see.";
  document.title = `${$("title").textContent} · multichat`;
  $("search").value = "";
  for (const control of [$("search"), $("refresh"), ...$("composer").elements]) {
    control.disabled = room === null;
  }
  $("messages").replaceChildren();
  $("older").hidden = $("empty").hidden = true;
  if (room !== null) await showNewest();
}

function roomLink({ name, title, staff_only }) {
  const link = element("a", { href: `#${name}` }, title);
  if (room?.name === name) link.setAttribute("aria-current", "page");
  if (staff_only) link.append(" ", element("small", { className: "badge" }, "staff only"));
  return element("li", {}, link);
}

// Messages, a page at a time, newest page first; on the page the newest is at the bottom

async function showNewest() {
  const query = { room: room.id };
  const search = $("search").value.trim();
  if (search) query.search = search;
  const results = await list(query);
  if (results === null) return;
  $("messages").replaceChildren(...results.map(messageItem));
  $("scroller").scrollTop = $("scroller").scrollHeight;
  $("empty").hidden = results.length > 0;
  $("empty").textContent = search
    ? `Nothing here mentions “${search}”.`
    : "Nobody has said anything yet. Begin!";
  const most = older === null ? "" : "the newest ";
  say(`${room.title}: ${most}${results.length} messages${search ? ` with “${search}”` : ""}`);
}

async function showOlder() {
  const results = await list(older);
  if (results === null) return;
  const scroller = $("scroller");
  const below = scroller.scrollHeight - scroller.scrollTop;
  $("messages").prepend(...results.map(messageItem));
  scroller.scrollTop = scroller.scrollHeight - below;
  if (older === null) scroller.focus(); // the button that had it is gone
  say(`${results.length} older messages`);
}

/** A page of messages, oldest first; null where something else was asked for meanwhile. */
async function list(query) {
  const mine = ++turn;
  const page = await socket.request("messages", "list", { query });
  if (mine !== turn) return null;
  // DRF gives the address of the next page: what is behind its question mark is the query.
  older = page.next && Object.fromEntries(new URL(page.next).searchParams);
  $("older").hidden = older === null;
  return page.results.reverse();
}

function messageItem(message) {
  const item = clone("message-template");
  const [edit, remove] = item.querySelectorAll("button");
  item.querySelector(".face").replaceWith(face(message.author));
  item.querySelector(".author").textContent = message.author;
  item.querySelector(".text").textContent = message.text;
  const time = item.querySelector("time");
  time.dateTime = message.created;
  time.textContent = when(new Date(message.created));
  // The server decides; the page only does not offer what would be refused.
  if (me.is_staff || message.author === me.username) {
    edit.setAttribute("aria-label", `Edit: ${message.text}`);
    remove.setAttribute("aria-label", `Delete: ${message.text}`);
    edit.onclick = () => editMessage(item, message);
    askTwice(remove, () => attempt(() => deleteMessage(item, message)));
  } else {
    item.querySelector(".actions").remove();
  }
  return item;
}

$("older").onclick = () => attempt(showOlder);
$("refresh").onclick = () => attempt(showNewest);
$("search").oninput = debounced(200, () => attempt(showNewest));

// Posting, editing, deleting

onSubmit($("composer"), async (text) => {
  await socket.request("messages", "create", { data: { room: room.id, text } });
  $("text").value = $("search").value = "";
  await showNewest();
  say("Posted");
});

function editMessage(item, message) {
  const form = clone("edit-template");
  const textarea = form.querySelector("textarea");
  const show = (message) => {
    const fresh = messageItem(message);
    item.replaceWith(fresh);
    fresh.querySelector(".edit").focus();
  };
  onSubmit(form, async (text) => {
    const data = { text };
    show(await socket.request("messages", "partial_update", { pk: message.id, data }));
    say("Saved");
  });
  form.querySelector(".cancel").onclick = () => show(message);
  form.onkeydown = ({ key }) => {
    if (key === "Escape") show(message);
  };
  item.querySelector(".text").replaceWith(form);
  item.querySelector(".actions").remove();
  textarea.value = message.text;
  textarea.focus();
}

async function deleteMessage(item, message) {
  await socket.request("messages", "destroy", { pk: message.id });
  const next = item.nextElementSibling ?? item.previousElementSibling;
  item.remove();
  (next?.querySelector("button") ?? $("text")).focus();
  say("Deleted");
}

/** Let `form` hand its text to `work`: by its button or Enter (Shift+Enter is a new line). */
function onSubmit(form, work) {
  const [textarea, button] = [form.querySelector("textarea"), form.querySelector(".primary")];
  const error = form.querySelector(".error");
  const complain = (text) => {
    error.textContent = text;
    textarea.setAttribute("aria-invalid", text !== "");
  };
  textarea.oninput = () => complain("");
  textarea.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  form.onsubmit = async (event) => {
    event.preventDefault();
    if (button.disabled) return;
    button.disabled = true;
    await attempt(() => work(textarea.value), complain);
    button.disabled = false;
    if (textarea.isConnected) textarea.focus();
  };
}

// What went wrong, kindly

/** Do `work`. Where the server finds its text wrong, `complain` says why; else the page does. */
async function attempt(work, complain) {
  $("trouble").hidden = true;
  try {
    await work();
  } catch (error) {
    const about = error.errors?.[0]?.text;
    if (about && complain) complain(about.join(" "));
    else explain(error);
  }
}

function explain(error) {
  const [text, close] = $("trouble").children;
  text.textContent = inWords(error);
  close.onclick = () => ($("trouble").hidden = true);
  $("trouble").hidden = false;
}

function inWords(error) {
  if (error instanceof ConnectionLost) {
    return error.wasSent
      ? "The connection broke before the answer came. Look first whether it was done."
      : "Not connected: nothing was sent, and nothing you wrote is lost.";
  }
  if (error.status === undefined) {
    console.error(error);
    return "Something on this page went wrong. Reloading it may help.";
  }
  if (error.status === 404) return "It is not there any more: somebody may have deleted it.";
  return error.errors.map(sentence).join(" ");
}

/** A message as it is; an object of fields as the words about them. */
function sentence(item) {
  return typeof item === "string" ? item : Object.values(item).flat().map(sentence).join(" ");
}

// Small things

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function clone(id) {
  return $(id).content.firstElementChild.cloneNode(true);
}

function person({ username, is_staff }) {
  const name = element("span", { className: "name" }, username);
  const badge = is_staff ? [element("small", { className: "badge" }, "staff")] : [];
  return [face(username), name, ...badge];
}

/** A round initial, the same colour for a name each time. */
function face(name) {
  const sum = Array.from(name, (char) => char.codePointAt(0)).reduce((a, b) => a * 31 + b, 0);
  const made = element("span", { className: "face", ariaHidden: "true" }, name[0].toUpperCase());
  made.style.setProperty("--hue", sum % 360);
  return made;
}

function when(date) {
  const isToday = date.toDateString() === new Date().toDateString();
  const day = isToday ? {} : { day: "numeric", month: "short" };
  return date.toLocaleString(undefined, { ...day, hour: "2-digit", minute: "2-digit" });
}

function say(text) {
  $("said").textContent = text;
}

/** Do `work` at the second click; whoever looks elsewhere meanwhile has changed their mind. */
function askTwice(button, work) {
  const label = button.textContent;
  const ariaLabel = button.ariaLabel;
  const reset = () => Object.assign(button, { textContent: label, ariaLabel, onclick: ask });
  const ask = () =>
    Object.assign(button, { textContent: "Really delete?", ariaLabel: null, onclick: work });
  button.onblur = reset;
  reset();
}

function debounced(delay, work) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, delay);
  };
}
