/* The streams and actions, as the server's description names them, and the search in them. */

import { fill, find, make } from "./dom.js";

/** Return the sockets that a page can open: roots, and sockets of viewsets that no root has. */
export function openable({ sockets }) {
  const roots = sockets.filter(({ isRoot }) => isRoot);
  const known = new Set(roots.flatMap(({ streams }) => streams.map(({ name }) => name)));
  const single = ({ isRoot, isRow, streams }) =>
    !isRoot && !isRow && streams.some(({ name }) => !known.has(name));
  return [...roots, ...sockets.filter(single)].filter(({ path }) => !/[{}()<>\\]/.test(path));
}

export function createCatalogue(choose) {
  const list = find("#streams");
  const search = find("#search");
  const count = find("#search-count");
  let streams = [];
  let chosen = null;
  const open = new Set();

  search.addEventListener("input", draw);
  search.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "Enter") {
      list.querySelector("button.action")?.[event.key === "Enter" ? "click" : "focus"]();
      event.preventDefault();
    }
  });
  list.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const buttons = [...list.querySelectorAll("button")];
    const next = buttons[buttons.indexOf(document.activeElement) + step];
    (next ?? search).focus();
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement?.tagName ?? "");
    if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey) return;
    search.focus();
    event.preventDefault();
  });

  function draw() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    const elements = streams.flatMap((stream) => {
      const actions = stream.actions.filter((action) =>
        words.every((word) => textOf(stream, action).includes(word)),
      );
      if (!actions.length && words.length) return [];
      found += actions.length;
      const isOpen = words.length > 0 || open.has(stream.name) || chosen?.stream === stream.name;
      const head = make(
        "button",
        {
          type: "button",
          class: "stream",
          "aria-expanded": String(isOpen),
          on: { click: () => toggle(stream.name) },
        },
        make("span", {}, stream.name),
        make("span", { class: "kind" }, KINDS[stream.kind] ?? stream.kind),
      );
      const items = actions.map((action) => {
        const isChosen = chosen?.stream === stream.name && chosen.action === action.name;
        return make(
          "li",
          {},
          make(
            "button",
            {
              type: "button",
              class: "action",
              "aria-current": isChosen ? "true" : null,
              on: { click: () => choose(stream.name, action.name) },
            },
            make("span", { class: `verb ${action.isSafe ? "safe" : "unsafe"}` }, verbOf(action)),
            make("span", { class: "name" }, action.name),
          ),
        );
      });
      return [
        make("li", { class: "group" }, head, isOpen ? make("ul", { class: "actions" }, items) : ""),
      ];
    });
    fill(list, elements);
    fill(count, words.length ? `${found} ${found === 1 ? "action" : "actions"}` : "");
  }

  function toggle(name) {
    if (!open.delete(name)) open.add(name);
    draw();
    const heads = [...list.querySelectorAll("button.stream")];
    heads.find((head) => head.firstChild.textContent === name)?.focus();
  }

  return {
    show(socket) {
      streams = socket.streams;
      if (streams.length < 4) for (const { name } of streams) open.add(name);
      draw();
    },
    mark(stream, action) {
      chosen = { stream, action };
      draw();
    },
  };
}

const KINDS = { viewset: "viewset", consumers: "consumers", hosted: "hosted", rooms: "rooms" };

export const verbOf = ({ verbs, isLive }) =>
  isLive ? "LIVE" : (verbs[0] ?? "").toUpperCase() || "CALL";

function textOf(stream, action) {
  const parts = [
    stream.name,
    stream.doc,
    action.name,
    ...action.aliases,
    action.doc,
    ...action.verbs,
    ...action.permissions,
  ];
  return parts.join(" ").toLowerCase();
}
