/*
 * The page. One websocket delivers all its content and keeps it up to date: rooms, people and
 * messages as live lists, presence in a room as a room. Each action of the user is a call.
 *
 * Text of users only ever becomes `textContent`, from which no markup can escape.
 */

import { connect } from "../rest_channels/client.js";
import { newcomers, showAsides, showCompany, showTyping } from "./company.js";
import { $, announce, debounced, element, onSubmit, peopleItems, person, say } from "./dom.js";
import { MessageList } from "./messages.js";
import { attempt, sentence } from "./trouble.js";
import { recorder, showWire } from "./wire.js";

// Messages of a room that are shown at first, and added by a click.
const PAGE = 20;
// The server keeps as many asides.
const ASIDES = 20;

const frames = new EventTarget();
const api = connect("/", {
  WebSocket: recorder(frames),
  // Notice a server that hangs within ten seconds.
  limits: { silenceSeconds: 3, pongSeconds: 4 },
});

let me = null;
let rooms = null;
let room = null;
let here = null; // the users, typing notices and asides of the room
let messages = null; // the newest of the room, or of a search
let oldest = null; // the id of the first message that is shown, null until there are any

const list = new MessageList({
  me: () => me,
  save: (message, text) => api.messages.patch(message.id, { text }),
  remove: (message) => api.messages.destroy(message.id),
  announce: (messages) =>
    announce(messages.filter(({ author = me.username }) => author !== me.username)),
  redraw: () => drawMessages(),
});

showWire(frames, { panel: $("frames"), toggle: $("wire-toggle"), template: $("frame-template") });

// The address names a room after its `#`, so that links can lead there.
$("skip").onclick = (event) => {
  event.preventDefault();
  $("scroller").focus();
};

// The connection

let wasConnected = false;

api.subscribe(() => {
  const { name, code } = api.state;
  const isConnected = name === "connected";
  wasConnected ||= isConnected;
  const [text, link] = $("connection").children;
  if (name === "signed-out") text.textContent = "You are signed out.";
  else if (code === 4403) text.textContent = "This account may not use the chat.";
  else if (name === "closed") text.textContent = `The server ended the connection (${code}).`;
  else text.textContent = "Connection lost. Trying again…";
  link.hidden = name !== "signed-out" && code !== 4403;
  const isOver = name === "signed-out" || name === "closed";
  $("connection").hidden = isConnected || !(wasConnected || isOver || name === "waiting");
  $("live").hidden = !isConnected;
});

attempt(async () => {
  showMe(await api.users.me());
  const people = api.users.live();
  people.subscribe(() => showPeople(people.rows));
  rooms = api.rooms.live();
  rooms.subscribe(showRooms);
});

// People

function showMe(user) {
  me = user;
  $("me").replaceChildren(...person(me));
}

function showPeople(users) {
  $("people").replaceChildren(...peopleItems(users));
  const now = users.find(({ id }) => id === me.id);
  if (now) showMe(now);
}

// Rooms

addEventListener("hashchange", () => rooms && showRooms());

/** Show the rooms; in the room that the address names after its `#`, or the first one. */
function showRooms() {
  if (rooms.status === "connecting") return;
  const name = decodeURIComponent(location.hash.slice(1)) || rooms.rows[0]?.name;
  const before = room;
  room = rooms.rows.find((room) => room.name === name) ?? null;
  $("rooms").replaceChildren(...rooms.rows.map(roomLink));
  $("title").textContent = room?.title ?? "No such room";
  $("topic").textContent = room?.topic ?? "It does not exist, or you may not see it.";
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
  const joined = (here = api.here.join(room.id));
  let before = null; // those who were here, once it is known
  joined.subscribe(() => {
    if (joined !== here) return;
    showCompany(joined.users, before && newcomers(before, joined.users), me);
    if (joined.status === "live") before = joined.users;
    showTyping(joined.typing, me);
    showAsides(joined.messages.slice(-ASIDES));
  });
  showNewest();
}

function leaveRoom() {
  here?.leave();
  messages?.stop();
  here = messages = null;
  list.clear();
  showCompany([], null, me);
  showTyping([], me);
  showAsides([]);
  $("search").value = "";
  $("older").hidden = $("empty").hidden = true;
}

// Messages: a window of the newest ones, which has two pages more than are shown

function search() {
  return $("search").value.trim() || undefined;
}

function showNewest() {
  messages?.stop();
  oldest = null;
  const query = { room: room.id, search: search() };
  const searched = (messages = api.messages.live({ query, window: 3 * PAGE }));
  list.restart();
  searched.subscribe(() => searched === messages && drawMessages());
  if (searched.status !== "connecting") drawMessages();
}

function drawMessages() {
  const { rows, status, error, hasMore } = messages?.getSnapshot() ?? { rows: [] };
  if (status === "connecting") return;
  // The newest come first. A short list is shown whole.
  oldest ??= rows[PAGE - 1]?.id ?? (rows.length > 0 ? 0 : null);
  const shown = visible(rows);
  const drawn = shown.toReversed().map((row) => [messages.keyOf(row), row]);
  list.draw(new Map(drawn), (row) => messages.isPending(row));
  $("older").hidden = rows.length === shown.length && !hasMore;
  $("empty").hidden = rows.length > 0;
  $("empty").textContent = error
    ? error.errors.map(sentence).join(" ")
    : search()
      ? `Nothing here mentions “${search()}”.`
      : "There are no messages yet. Write the first!";
  // A new message pushes the last one out of the window: never one that is shown. And the next page
  // is here before the user asks for it.
  const isFull = rows.length >= messages?.window;
  if (isFull && rows.length - shown.length < 2 * PAGE) messages.grow(PAGE);
}

/** Return those not older than the first that is shown; one that was just sent has no number yet. */
function visible(rows) {
  return rows.filter(({ id }) => typeof id === "string" || id >= oldest);
}

function showOlder() {
  const { rows } = messages;
  oldest = rows[visible(rows).length + PAGE - 1]?.id ?? 0;
  drawMessages();
  if ($("older").hidden) $("scroller").focus(); // the button that had it is gone
}

$("older").onclick = showOlder;
$("search").oninput = debounced(200, () => room && showNewest());

$("text").addEventListener("input", () => here?.setTyping($("text").value !== ""));

onSubmit($("composer"), (text, complain, button) =>
  attempt(async () => {
    here?.setTyping(false);
    $("text").value = "";
    try {
      await (button === $("aside") ? here.say({ text }) : post(text));
    } catch (error) {
      $("text").value ||= text;
      throw error;
    }
    say("Posted");
  }, complain),
);

/** The message is shown at once, and rolled back if the server refuses it. */
function post(text) {
  const wasSearching = $("search").value !== "";
  $("search").value = "";
  if (wasSearching) showNewest();
  return api.messages.create({ room: room.id, text });
}
