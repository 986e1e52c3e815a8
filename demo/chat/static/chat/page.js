/*
 * The page. What is on it came through the socket, and stays as it is on the server: rooms, people
 * and messages are subscribed to (live.js), and who is in a room is told who else is (here.js).
 * What is done on it goes as a frame.
 *
 * Text of users only ever becomes `textContent`, which nothing in it can escape.
 */

import { showAsides, showCompany, showTyping } from "./company.js";
import { $, debounced, element, onSubmit, peopleItems, person, say } from "./dom.js";
import { Here } from "./here.js";
import { Live } from "./live.js";
import { MessageList } from "./messages.js";
import { SIGNED_OUT, Socket } from "./socket.js";
import { attempt, sentence } from "./trouble.js";
import { showWire } from "./wire.js";

const socket = new Socket("/");

let me = null;
let people = null;
let rooms = null;
let room = null;
let here = null; // what passes in the room
let messages = null; // those of the room that are shown
let older = null; // the query of the page before them, null where there is none
let turn = 0; // counts what was asked to be shown: an answer that is no longer wanted is dropped

const list = new MessageList({
  may: (message) => me.is_staff || message.author === me.username,
  save: (message, text) =>
    socket.request("messages", "partial_update", { pk: message.id, data: { text } }),
  remove: (message) => socket.request("messages", "destroy", { pk: message.id }),
  redraw: () => list.draw(messages?.rows ?? new Map()),
});

showWire(socket, { panel: $("frames"), toggle: $("wire-toggle"), template: $("frame-template") });

// Connected, and not

socket.addEventListener("open", () => {
  $("connection").hidden = true;
  $("live").hidden = false;
  attempt(enter);
});

socket.addEventListener("close", ({ detail: { code, delay } }) => {
  const [text, link] = $("connection").children;
  if (code === SIGNED_OUT) text.textContent = "You are signed out.";
  else if (delay === null) text.textContent = `The server ended the connection (${code}).`;
  else text.textContent = "Connection lost. Trying again…";
  link.hidden = code !== SIGNED_OUT;
  $("connection").hidden = false;
  $("live").hidden = true;
});

/** Ask who we are; and for the rest, where it is not subscribed to already. */
async function enter() {
  showMe(await socket.request("users", "me"));
  people ??= new Live(socket, "users", {}, { onChange: showPeople });
  rooms ??= new Live(socket, "rooms", {}, { onChange: showRooms });
  if (room !== null && messages?.query.search !== search()) await showNewest();
}

// A laptop that slept may have a dead connection and not know: an answer that fails to come tells.
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) socket.request("users", "me").then(showMe, () => {});
});

// People

function showMe(user) {
  me = user;
  $("me").replaceChildren(...person(me));
}

function showPeople(users) {
  $("people").replaceChildren(...peopleItems(users));
  if (users.has(me.id)) showMe(users.get(me.id));
}

// Rooms

addEventListener("hashchange", () => rooms && showRooms(rooms.rows));

/** Show the rooms; in the room that the address names after its `#`, or the first one. */
function showRooms(rows) {
  const sorted = [...rows.values()].sort((a, b) => a.id - b.id);
  const name = decodeURIComponent(location.hash.slice(1)) || sorted[0]?.name;
  const before = room;
  room = sorted.find((room) => room.name === name) ?? null;
  $("rooms").replaceChildren(...sorted.map(roomLink));
  $("title").textContent = room?.title ?? "No such room";
  $("topic").textContent = room?.topic ?? "It does not exist, or it is not for you to see.";
  document.title = `${$("title").textContent} · multichat`;
  for (const control of [$("search"), ...$("composer").elements]) control.disabled = room === null;
  if (room?.id !== before?.id || room === null) {
    leaveRoom();
    if (room !== null) enterRoom();
  }
}

function roomLink({ name, title, staff_only }) {
  const link = element("a", { href: `#${name}` }, title);
  if (room?.name === name) link.setAttribute("aria-current", "page");
  if (staff_only) link.append(" ", element("small", { className: "badge" }, "staff only"));
  return element("li", {}, link);
}

function enterRoom() {
  here = new Here(socket, room.id, {
    onCompany: (users, news) => showCompany(users, news, me),
    onTyping: (users) => showTyping(users, me),
    onAsides: showAsides,
  });
  attempt(showNewest);
}

function leaveRoom() {
  turn++;
  here?.leave();
  messages?.stop();
  here = messages = older = null;
  list.clear();
  showCompany(new Map());
  showTyping([]);
  showAsides([]);
  $("search").value = "";
  $("older").hidden = $("empty").hidden = true;
}

// Messages: those of a page and whatever is newer, live

function search() {
  return $("search").value.trim() || undefined;
}

async function showNewest() {
  const query = { room: room.id, search: search() };
  if (await showFrom(query, query)) list.restart();
}

async function showOlder() {
  const { first, ...query } = messages.query;
  await showFrom(older, query);
  if (older === null) $("scroller").focus(); // the button that had it is gone
}

/** Ask for a `page` of the list, and subscribe to what `query` finds from there on. */
async function showFrom(page, query) {
  const mine = ++turn;
  const { next, results } = await socket.request("messages", "list", { query: page });
  if (mine !== turn) return false;
  // DRF gives the address of the next page: what is behind its question mark is the query.
  older = next && Object.fromEntries(new URL(next).searchParams);
  $("older").hidden = older === null;
  messages?.stop();
  const first = older === null ? undefined : results.at(-1).id;
  const told = { onChange: showMessages, onEnd: closeRoom };
  messages = new Live(socket, "messages", { ...query, first }, told);
  return true;
}

function closeRoom(errors) {
  messages = null;
  $("older").hidden = true;
  $("empty").textContent = errors.map(sentence).join(" ");
}

function showMessages(rows) {
  list.draw(rows);
  const { search } = messages.query;
  $("empty").hidden = rows.size > 0;
  $("empty").textContent = search
    ? `Nothing here mentions “${search}”.`
    : "Nobody has said anything yet. Begin!";
}

$("older").onclick = () => attempt(showOlder);
$("search").oninput = debounced(200, () => attempt(showNewest));

$("text").addEventListener("input", () => here?.isTyping($("text").value !== ""));

onSubmit($("composer"), (text, complain, button) =>
  attempt(async () => {
    if (button === $("aside")) await here.say(text);
    else await post(text);
    $("text").value = "";
    here?.isTyping(false);
    say("Posted");
  }, complain),
);

async function post(text) {
  await socket.request("messages", "create", { data: { room: room.id, text } });
  const wasSearching = $("search").value !== "";
  $("search").value = "";
  if (wasSearching) await showNewest();
}
