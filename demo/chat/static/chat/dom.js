/* Helpers for building the page. */

export const $ = (id) => document.getElementById(id);

export function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

export function clone(id) {
  return $(id).content.firstElementChild.cloneNode(true);
}

export function person({ username, is_staff }) {
  const name = element("span", { className: "name" }, username);
  const badge = is_staff ? [element("small", { className: "badge" }, "staff")] : [];
  return [face(username), name, ...badge];
}

/** Return list items of `users`, sorted by name. */
export function peopleItems(users) {
  const sorted = [...users].sort((a, b) => a.username.localeCompare(b.username));
  return sorted.map((user) => element("li", {}, ...person(user)));
}

/** Return a round initial; its colour depends on the name. */
export function face(name) {
  const sum = Array.from(name, (char) => char.codePointAt(0)).reduce((a, b) => a * 31 + b, 0);
  const made = element("span", { className: "face", ariaHidden: "true" }, name[0].toUpperCase());
  made.style.setProperty("--hue", sum % 360);
  return made;
}

export function when(date) {
  const isToday = date.toDateString() === new Date().toDateString();
  const day = isToday ? {} : { day: "numeric", month: "short" };
  return date.toLocaleString(undefined, { ...day, hour: "2-digit", minute: "2-digit" });
}

/** Announce `text` to users of screen readers. */
export function say(text) {
  $("said").textContent = text;
}

/** Announce new messages: the last ones, and how many others there are. */
export function announce(messages) {
  if (messages.length === 0) return;
  const last = messages.slice(-3).map(({ author, text }) => `${author}: ${text}`);
  const others = messages.length - last.length;
  const first = others > 0 ? [`${others} more messages`] : [];
  $("news").textContent = [...first, ...last].join(". ");
}

/** Do `work` at the second click; a user who moves on in between has changed their mind. */
export function askTwice(button, work) {
  const label = button.textContent;
  const ask = () => {
    const { ariaLabel } = button;
    Object.assign(button, { textContent: "Really delete?", ariaLabel: null, onclick: work });
    button.onblur = () => Object.assign(button, { textContent: label, ariaLabel, onclick: ask });
  };
  button.onclick = ask;
}

export function debounced(delay, work) {
  let timer;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, delay);
  };
}

/**
 * Pass the text of `form` to `work`, with the pressed button, or none if Enter was pressed
 * (Shift+Enter is a new line).
 */
export function onSubmit(form, work) {
  const textarea = form.querySelector("textarea");
  const buttons = [...form.querySelectorAll("button:not([type])")];
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
    if (buttons.some((button) => button.disabled)) return;
    for (const button of buttons) button.disabled = true;
    await work(textarea.value, complain, event.submitter);
    for (const button of buttons) button.disabled = false;
    if (textarea.isConnected) textarea.focus();
  };
}
