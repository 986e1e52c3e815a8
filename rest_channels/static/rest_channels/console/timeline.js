/* The timeline: every frame of both directions, newest first. */

import { brief, button, download, fill, find, make, sizeText, timeText } from "./dom.js";

const SHOWN = 250;
const QUIET = new Set(["ping", "ack", "alive", "sync"]);
const CHAINS = {
  start: ["●", "the chain begins"],
  resumed: ["●", "resumed at its position"],
  ok: ["│", "follows the event before"],
  gap: ["✕", "GAP: events are missing before this one"],
};

export function createTimeline(record, show) {
  const rows = find("#timeline");
  const gaps = find("#gaps");
  const words = find("#timeline-words");
  const direction = find("#timeline-direction");
  const errorsOnly = find("#timeline-errors");
  const quiet = find("#timeline-quiet");
  let isScheduled = false;
  const schedule = () => {
    if (isScheduled) return;
    isScheduled = true;
    requestAnimationFrame(draw);
  };
  record.subscribe(schedule);
  for (const input of [words, direction, errorsOnly, quiet])
    input.addEventListener("input", schedule);
  find("#timeline-clear").addEventListener("click", () => record.clear());
  find("#timeline-download").addEventListener("click", () =>
    download("frames.json", JSON.stringify(record.entries.filter(isWanted), null, 2)),
  );

  function isWanted(entry) {
    const { kind, payload, stream } = entry;
    if (direction.value && kind !== direction.value) return false;
    if (errorsOnly.checked && !isBad(entry)) return false;
    if (!quiet.checked && QUIET.has(payload?.action) && !isBad(entry)) return false;
    const text = words.value.trim().toLowerCase();
    return !text || JSON.stringify([stream, payload, entry.note]).toLowerCase().includes(text);
  }

  function draw() {
    isScheduled = false;
    const known = new Map([...rows.children].map((row) => [row.dataset.number, row]));
    const wanted = record.entries.filter(isWanted).slice(-SHOWN).reverse();
    // Rows that stay keep their element, so an opened one stays open.
    const elements = wanted.map((entry) => known.get(String(entry.number)) ?? line(entry));
    rows.replaceChildren(...elements);
    const count = record.entries.filter(({ chain }) => chain === "gap").length;
    gaps.hidden = !count;
    fill(gaps, `${count} ${count === 1 ? "gap" : "gaps"}`);
    find("#timeline-count").textContent =
      `${wanted.length} of ${record.entries.length + record.dropped}`;
  }

  function line(entry) {
    const { number, at, kind, stream, payload, bytes, ms, chain, note } = entry;
    if (kind === "note")
      return make(
        "li",
        { class: "entry note", "data-number": number },
        make("time", {}, timeText(at)),
        make("span", {}, note),
      );
    const status = payload?.response_status;
    const isEvent = payload?.previous !== undefined;
    const [sign, meaning] = CHAINS[chain] ?? [];
    const arrow = make(
      "span",
      { class: "arrow", title: kind === "out" ? "sent" : "received" },
      kind === "out" ? "→" : isEvent ? "⇠" : "←",
    );
    const summary = make(
      "summary",
      {},
      make("time", {}, timeText(at)),
      arrow,
      make(
        "span",
        { class: "hidden-text" },
        kind === "out" ? "sent" : isEvent ? "event" : "received",
      ),
      make(
        "span",
        { class: "what" },
        [stream, payload?.action].filter(Boolean).join(" · ") || "message",
      ),
      status === undefined
        ? ""
        : make("span", { class: `status ${statusClass(status)}` }, String(status)),
      ms === undefined
        ? ""
        : make("span", { class: "ms" }, `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`),
      make("span", { class: "size" }, sizeText(bytes)),
      sign
        ? make(
            "span",
            { class: `chain ${chain}`, title: meaning },
            sign,
            make("span", { class: "hidden-text" }, meaning),
          )
        : "",
    );
    const details = make("details", { class: `entry-details` }, summary);
    details.addEventListener("toggle", () => {
      if (!details.open || details.children.length > 1) return;
      const tools = make(
        "div",
        { class: "tools" },
        kind === "out" ? button("Fill in", () => show(stream, payload)) : "",
      );
      details.append(tools, make("pre", { tabIndex: 0 }, JSON.stringify(payload, null, 2)));
    });
    return make(
      "li",
      {
        class: `entry ${kind}${chain === "gap" ? " gap" : ""}${isBad(entry) ? " bad" : ""}`,
        "data-number": number,
        title: brief(payload, 300),
      },
      details,
    );
  }

  return { draw };
}

function isBad({ payload, chain, code }) {
  return (
    payload?.response_status >= 400 || chain === "gap" || (code !== undefined && code !== 1000)
  );
}

export function statusClass(status) {
  return status < 300 ? "good" : status < 400 ? "fair" : status < 500 ? "wrong" : "broken";
}
