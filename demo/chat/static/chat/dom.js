/* Small things for making the page. */

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

/** A round initial, the same colour for a name each time. */
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

/** Tell those who listen to the page rather than look at it. */
export function say(text) {
  $("said").textContent = text;
}

/** Do `work` at the second click; whoever looks elsewhere meanwhile has changed their mind. */
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

/** Let `form` hand its text to `work`: by its button or Enter (Shift+Enter is a new line). */
export function onSubmit(form, work) {
  const [textarea, button] = [form.querySelector("textarea"), form.querySelector(".primary")];
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
    if (button.disabled) return;
    button.disabled = true;
    await work(textarea.value, complain);
    button.disabled = false;
    if (textarea.isConnected) textarea.focus();
  };
}
