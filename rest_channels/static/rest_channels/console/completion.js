/* Completion of the frame's JSON: names of keys, and values of choices, at the caret. */

import { fill, make } from "./dom.js";

/**
 * Return where the caret stands: the keys that lead there, the text typed so far, and whether that is
 * a key or a value. Null outside of a string.
 */
export function placeOf(text, caret) {
  const path = [];
  const levels = [];
  let isKey = false;
  for (let at = 0; at < caret; at++) {
    const sign = text[at];
    if (sign === '"') {
      const end = endOfString(text, at);
      if (end >= caret)
        return {
          path: [
            ...path.slice(0, levels.length - 1),
            ...(isKey ? [] : path.slice(levels.length - 1)),
          ],
          typed: text.slice(at + 1, caret),
          start: at + 1,
          isKey,
        };
      if (isKey) path[levels.length - 1] = text.slice(at + 1, end);
      at = end;
    } else if (sign === "{" || sign === "[") {
      levels.push(sign);
      isKey = sign === "{";
      path.length = levels.length - 1;
    } else if (sign === "}" || sign === "]") {
      levels.pop();
      path.length = levels.length;
    } else if (sign === ":") isKey = false;
    else if (sign === ",") isKey = levels.at(-1) === "{";
  }
  return null;
}

function endOfString(text, start) {
  for (let at = start + 1; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === '"' || text[at] === "\n") return at;
  }
  return text.length;
}

/** Offer `suggest(path, isKey)` below a text field, by keyboard and mouse. */
export function complete(input, list, suggest) {
  let found = [];
  let chosen = 0;
  let place = null;
  input.setAttribute("role", "combobox");
  input.setAttribute("aria-autocomplete", "list");
  input.setAttribute("aria-controls", list.id);
  close();

  input.addEventListener("input", open);
  input.addEventListener("click", close);
  input.addEventListener("blur", () => setTimeout(close, 150));
  input.addEventListener("keydown", (event) => {
    if (event.key === " " && event.ctrlKey) open();
    else if (list.hidden) return;
    else if (event.key === "Escape") close();
    else if (event.key === "ArrowDown" || event.key === "ArrowUp")
      move(event.key === "ArrowDown" ? 1 : -1);
    else if (event.key === "Enter" || event.key === "Tab") accept(found[chosen]);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  function open() {
    place = placeOf(input.value, input.selectionStart);
    const typed = place?.typed.toLowerCase();
    found = place
      ? suggest(place.path, place.isKey).filter(
          ([word]) => word.toLowerCase().startsWith(typed) && word !== place.typed,
        )
      : [];
    chosen = 0;
    if (found.length) draw();
    else close();
  }

  function draw() {
    list.hidden = false;
    input.setAttribute("aria-expanded", "true");
    const options = found.slice(0, 12).map(([word, meaning], at) =>
      make(
        "li",
        {
          id: `${list.id}-${at}`,
          role: "option",
          "aria-selected": String(at === chosen),
          on: { mousedown: (event) => (event.preventDefault(), accept(found[at])) },
        },
        make("span", {}, word),
        make("span", { class: "meaning" }, meaning ?? ""),
      ),
    );
    fill(list, options);
    input.setAttribute("aria-activedescendant", `${list.id}-${chosen}`);
  }

  function move(step) {
    const count = Math.min(found.length, 12);
    chosen = (chosen + step + count) % count;
    draw();
  }

  function accept([word]) {
    const { start, isKey } = place;
    const after = input.value.slice(input.selectionStart);
    const rest = after.match(/^[^"\n]*"?/)[0];
    const isClosed = rest.endsWith('"');
    const tail = after.slice(isClosed ? rest.length : 0);
    const colon = isKey && !/^\s*:/.test(tail) ? ": " : "";
    input.setRangeText(`${word}"${colon}`, start, input.value.length - tail.length, "end");
    close();
    input.dispatchEvent(new Event("input", { bubbles: true }));
    close();
  }

  function close() {
    list.hidden = true;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }
}
