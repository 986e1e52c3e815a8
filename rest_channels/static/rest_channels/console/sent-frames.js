/* The frames that were sent before, to be filled in or sent again. In memory alone. */

import { brief, button, fill, find, make, timeText } from "./dom.js";
import { statusClass } from "./timeline.js";

const MOST = 50;

/** @param {(kept: { stream: string, frame: any }, isSent: boolean) => void} open */
export function createSentFrames(open) {
  let frames = [];

  function draw() {
    find("#history-box").hidden = !frames.length;
    fill(find("#history"), frames.map(line));
  }

  function line(kept) {
    const { action, headers, ...rest } = kept.frame;
    const { status } = kept;
    const kind = typeof status === "number" ? statusClass(status) : "broken";
    return make(
      "li",
      {},
      make("time", {}, timeText(kept.at)),
      make("span", { class: "what" }, `${kept.stream} · ${action}`),
      status === null ? "" : make("span", { class: `status ${kind}` }, String(status)),
      make("code", {}, brief(rest, 80)),
      button("Fill in", () => open(kept, false)),
      button("Send again", () => open(kept, true)),
    );
  }

  return {
    draw,

    /** Keep a frame; return its line, whose `status` is set later. */
    add(stream, frame) {
      const kept = { stream, frame: structuredClone(frame), at: Date.now(), status: null };
      frames = [kept, ...frames].slice(0, MOST);
      return kept;
    },
  };
}
