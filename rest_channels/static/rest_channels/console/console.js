/* The console: what DRF's browsable API is to HTTP. This module connects the parts of the page. */

import { createAccount } from "./account.js";
import { createCatalogue, openable } from "./catalogue.js";
import { announce, button, fill, find, make } from "./dom.js";
import { createEditor, socketUrl } from "./editor.js";
import { readLink } from "./link.js";
import { CREDIT, createLiveViews } from "./live-view.js";
import { createProcess } from "./process.js";
import { createRecord } from "./record.js";
import { createSession } from "./session.js";
import { createTabs } from "./tabs.js";
import { createTimeline } from "./timeline.js";

const page = document.body.dataset;
const record = createRecord();
const tabs = createTabs();
let sockets = [];

const session = createSession(record, {
  changed: drawState,
  replaced: (api) => live.reopen(api),
});
const live = createLiveViews(() => session.api);
const catalogue = createCatalogue((stream, action) => {
  editor.open(stream, action);
  tabs.show("frame");
});
const editor = createEditor({
  send: session.send,
  follow(stream, frame) {
    live.follow(
      stream,
      frame,
      session.socket.streams.find(({ name }) => name === stream)?.key ?? "id",
    );
    tabs.show("live");
  },
  chose: catalogue.mark,
});
createTimeline(record, (stream, frame) => {
  editor.open(stream, frame.action, frame);
  tabs.show("frame");
});
createAccount(page, session);
if (page.process) createProcess(page.process, tabs);

find("#expire")?.addEventListener("click", async () => {
  const answer = await fetch(page.lease, { method: "POST", headers: { [page.csrfHeader]: page.csrf } });
  record.note(
    answer.ok
      ? "Lease expired: the session and its user are read again"
      : `The lease could not be expired: ${answer.status}`,
  );
});

find("#cut").addEventListener("click", () => {
  session.tap.cut();
  announce("The line is cut until you reconnect.");
});
find("#reconnect").addEventListener("click", () => {
  session.tap.mend();
  session.api.reconnect();
});
find("#pause").addEventListener("click", () => {
  const { tap } = session;
  if (tap.isPaused) tap.resume();
  else tap.pause();
  announce(tap.isPaused ? "Events are held: none is acknowledged." : "Events are read again.");
  drawHeld();
});
record.subscribe(drawHeld);

function drawHeld() {
  const { tap } = session;
  if (!tap) return;
  const toggle = find("#pause");
  toggle.setAttribute("aria-pressed", String(tap.isPaused));
  fill(toggle, tap.isPaused ? "Read on" : "Pause reading");
  find("#held").hidden = !tap.isPaused;
  const isSpent = tap.held >= CREDIT;
  fill(
    find("#held"),
    `${tap.held} of ${CREDIT} held here${isSpent ? ": the server merges what follows" : ""}`,
  );
}

function drawState() {
  const { name, code, retryAt } = session.api?.state ?? { name: "connecting" };
  const state = find("#state");
  state.dataset.state = name;
  fill(state, TEXTS[name] ?? name, code && name !== "connected" ? ` (${code})` : "");
  find("#reconnect").hidden = !["waiting", "signed-out", "closed"].includes(name);
  find("#cut").disabled = name !== "connected";
  state.title = retryAt
    ? `The next attempt is in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s.`
    : "";
}

const TEXTS = {
  connecting: "connecting",
  connected: "connected",
  waiting: "line lost",
  "signed-out": "signed out",
  closed: "closed",
};

function chooseSocket(socket) {
  session.choose(socket, socketUrl(socket.path));
  catalogue.show(socket);
  editor.use(description, socket);
}

/** Fill in what the address asks for. It is never sent from here. */
function followLink() {
  const link = readLink(location.hash);
  const refusal = find("#link-refusal");
  refusal.hidden = !link?.refusal;
  if (!link) return;
  if (link.refusal) {
    fill(refusal, link.refusal);
    // A token is not left in the address and in the history.
    history.replaceState(null, "", location.pathname);
    return;
  }
  const socket =
    sockets.find(({ path }) => path === link.socket) ??
    sockets.find(({ streams }) => streams.some(({ name }) => name === link.stream));
  if (!socket || !socket.streams.some(({ name }) => name === link.stream)) {
    refusal.hidden = false;
    fill(refusal, "The link names a stream that is not here.");
    return;
  }
  if (socket !== session.socket) chooseSocket(socket);
  editor.open(link.stream, String(link.frame.action ?? "list"), link.frame);
  tabs.show("frame");
  announce("A link filled in this frame. It is not sent.");
}

let description;

async function start() {
  const answer = await fetch(page.description, { headers: { accept: "application/json" } });
  if (!answer.ok && answer.status !== 503)
    throw new Error(`The description of the sockets could not be read: ${answer.status}.`);
  description = await answer.json();
  if (!answer.ok) throw new Error(description.detail);
  sockets = openable(description);
  if (!sockets.length) throw new Error("No sockets were found in ASGI_APPLICATION.");
  const choice = find("#socket");
  fill(
    choice,
    sockets.map(({ path }, at) => make("option", { value: String(at) }, path)),
  );
  find("#socket-box").hidden = sockets.length < 2;
  choice.addEventListener("change", () => chooseSocket(sockets[Number(choice.value)]));
  chooseSocket(sockets[0]);
  followLink();
  addEventListener("hashchange", followLink);
}

start().catch((error) => {
  find("#link-refusal").hidden = false;
  fill(
    find("#link-refusal"),
    error.message,
    " ",
    button("Try again", () => location.reload()),
  );
});
