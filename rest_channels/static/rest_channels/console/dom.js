/* Elements made of text alone: nothing that a server or a link says is ever parsed as HTML. */

/**
 * Make an element. `on` holds listeners, `class` and names with a dash are attributes, other names
 * are properties; children that are not nodes become text.
 */
export function make(tag, options = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(options)) {
    if (name === "on")
      for (const [type, call] of Object.entries(value)) element.addEventListener(type, call);
    else if (value === undefined || value === null) continue;
    else if (name === "class" || name === "for" || name === "role" || name.includes("-"))
      element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== ""),
  );
  return element;
}

export const find = (selector) => document.querySelector(selector);

/** Replace what an element contains. */
export function fill(element, ...children) {
  element.replaceChildren(
    ...children.flat().filter((child) => child !== null && child !== undefined && child !== ""),
  );
  return element;
}

export function button(text, call, options = {}) {
  return make("button", { type: "button", ...options, on: { click: call } }, text);
}

let last = 0;

/** Return a new id, for labels and descriptions. */
export const newId = () => `c${++last}`;

/** Let screen readers speak a sentence. */
export function announce(text) {
  find("#announcer").textContent = text;
}

/** Write a value as people read it: short, on one line. */
export function brief(value, most = 120) {
  const text = typeof value === "string" ? value : (JSON.stringify(value) ?? "");
  return text.length > most ? `${text.slice(0, most - 1)}…` : text;
}

export function sizeText(bytes) {
  return bytes < 1000
    ? `${bytes} B`
    : bytes < 1e6
      ? `${(bytes / 1e3).toFixed(1)} kB`
      : `${(bytes / 1e6).toFixed(1)} MB`;
}

export function timeText(at) {
  const date = new Date(at);
  const two = (n) => String(n).padStart(2, "0");
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** Offer a file of the page's own making. */
export function download(name, text, type = "application/json") {
  const address = URL.createObjectURL(new Blob([text], { type }));
  const link = make("a", { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 1000);
}
