/* The reply to the frame that was sent last. */

import { announce, brief, fill, find, make } from "./dom.js";
import { statusClass } from "./timeline.js";

/** @param {(name: string, texts: string[]) => boolean} complain puts errors beside a field, if it can */
export function createReplyView(complain) {
  const box = find("#reply");

  function show(stream, { reply, items, ms }) {
    const { action, response_status: status, errors, data, hints = [] } = reply;
    fill(
      find("#reply-title"),
      make("span", { class: `status ${statusClass(status)}` }, String(status)),
      ` ${action ?? ""}`,
      ms === undefined ? "" : make("span", { class: "ms" }, ` ${Math.round(ms)} ms`),
    );
    fill(
      find("#reply-errors"),
      others(errors).map((text) => make("p", { class: "field-error" }, text)),
      hints.map((text) => make("p", { class: "hint" }, text)),
    );
    const shown = items.length ? items : status >= 400 ? reply : data;
    fill(find("#reply-data"), JSON.stringify(shown, null, 2));
    box.hidden = false;
    const why = errors.length ? `. ${brief(errors, 200)}` : "";
    announce(`${stream} ${action}: ${status}${why}`);
  }

  /** Return the errors that belong to no field that is shown. */
  function others(errors) {
    return errors.flatMap((error) => {
      if (typeof error !== "object" || error === null) return [String(error)];
      return Object.entries(error).flatMap(([name, texts]) => {
        const words = [texts].flat().map(textOf);
        return complain(name, words) ? [] : [`${name}: ${words.join(" ")}`];
      });
    });
  }

  return {
    show,

    hide() {
      box.hidden = true;
    },

    /** Say why there is no reply. */
    lose(error) {
      const text = error.name === "AbortError" ? "Cancelled." : error.message;
      fill(find("#reply-title"), make("span", { class: "status broken" }, "no reply"));
      fill(find("#reply-errors"), make("p", { class: "field-error" }, text));
      fill(find("#reply-data"));
      box.hidden = false;
      announce(text);
    },
  };
}

const textOf = (value) => (typeof value === "string" ? value : JSON.stringify(value));
