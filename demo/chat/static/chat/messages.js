/*
 * The list of messages: its items follow the rows they are given, and only what changed is drawn
 * anew, so that nobody loses what they are typing because somebody else speaks.
 */

import { $, askTwice, clone, face, onSubmit, say, when } from "./dom.js";
import { attempt } from "./trouble.js";

// So near to its end the list follows what is new (pixels).
const NEAR = 80;

export class MessageList {
  #items = new Map(); // by the message's id, in order
  #isFresh = true;
  #wasAtEnd = true;

  /** `may(message)`: whether to offer changing it. `save(message, text)`, `remove(message)`. */
  constructor(actions) {
    this.actions = actions;
    $("newer").onclick = () => this.#scrollToEnd();
    $("scroller").onscroll = () => {
      this.#wasAtEnd = this.#isAtEnd();
      if (this.#wasAtEnd) $("newer").hidden = true;
    };
    // What comes and goes below it takes of its height.
    const onResize = () => this.#wasAtEnd && this.#scrollToEnd();
    new ResizeObserver(onResize).observe($("scroller"));
  }

  /** What is drawn next is something else: show it from its end. */
  restart() {
    this.#isFresh = true;
  }

  clear() {
    for (const { element } of this.#items.values()) element.remove();
    this.#items.clear();
    $("newer").hidden = true;
    this.restart();
  }

  /** Show exactly `rows`, oldest first. */
  draw(rows) {
    const scroller = $("scroller");
    const isAtEnd = this.#isFresh || this.#isAtEnd();
    const below = scroller.scrollHeight - scroller.scrollTop;
    const [first, last] = this.#ends();

    for (const [id, item] of this.#items) {
      if (!rows.has(id) && item.leave()) this.#items.delete(id);
    }
    for (const [id, message] of rows) {
      const item = this.#items.get(id);
      if (item === undefined) this.#items.set(id, new Item(message, this.actions));
      else if (item.message !== message) item.show(message);
    }
    this.#items = new Map([...this.#items].sort(([a], [b]) => a - b));
    this.#place();

    const [nowFirst, nowLast] = this.#ends();
    const hasNewer = !this.#isFresh && nowLast > last;
    if (hasNewer) this.#items.get(nowLast).element.classList.add("new");
    if (isAtEnd) this.#scrollToEnd();
    else if (nowFirst < first) scroller.scrollTop = scroller.scrollHeight - below;
    else if (hasNewer) $("newer").hidden = false;
    this.#isFresh = false;
  }

  #ends() {
    const ids = [...this.#items.keys()];
    return [ids.at(0) ?? 0, ids.at(-1) ?? 0];
  }

  /** Put the items in the page, in order; one that is in its place already is not touched. */
  #place() {
    let after = null;
    for (const { element } of [...this.#items.values()].reverse()) {
      if (!element.isConnected || element.nextElementSibling !== after) {
        $("messages").insertBefore(element, after);
      }
      after = element;
    }
  }

  #isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = $("scroller");
    return scrollHeight - scrollTop - clientHeight < NEAR;
  }

  #scrollToEnd() {
    $("scroller").scrollTop = $("scroller").scrollHeight;
    $("newer").hidden = true;
  }
}

class Item {
  element = clone("message-template");
  #editor = null;
  #isGone = false;

  constructor(message, actions) {
    this.actions = actions;
    const [edit, remove] = this.element.querySelectorAll("button");
    edit.onclick = () => this.#edit();
    const work = () => attempt(async () => (await actions.remove(this.message), say("Deleted")));
    this.show(message);
    askTwice(remove, work);
  }

  /** Draw `message`; where it is being edited, later. */
  show(message) {
    this.message = message;
    this.#isGone = false;
    if (this.#editor !== null) return;
    const find = (selector) => this.element.querySelector(selector);
    find(".face").replaceWith(face(message.author));
    find(".author").textContent = message.author;
    find(".text").textContent = message.text;
    find("time").dateTime = message.created;
    find("time").textContent = when(new Date(message.created));
    // The server decides; the page only does not offer what would be refused.
    find(".actions").hidden = !this.actions.may(message);
    find(".edit").ariaLabel = `Edit: ${message.text}`;
    find(".delete").ariaLabel = `Delete: ${message.text}`;
  }

  /** The message is gone; false where its item stays, for somebody is typing in it. */
  leave() {
    this.#isGone = true;
    if (this.#editor !== null) return false;
    if (this.element.contains(document.activeElement)) {
      const next = this.element.nextElementSibling ?? this.element.previousElementSibling;
      (next?.querySelector(".actions:not([hidden]) button") ?? $("text")).focus();
    }
    this.element.remove();
    return true;
  }

  #edit() {
    const form = (this.#editor = clone("edit-template"));
    const textarea = form.querySelector("textarea");
    const before = this.message;
    onSubmit(form, (text, complain) =>
      attempt(async () => {
        const saved = await this.actions.save(before, text);
        // Somebody may have changed it once more, and that be here already.
        this.#close(this.message === before ? saved : this.message);
        say("Saved");
      }, complain),
    );
    form.querySelector(".cancel").onclick = () => this.#close(this.message);
    form.onkeydown = ({ key }) => {
      if (key === "Escape") this.#close(this.message);
    };
    const [text, actions] = this.element.querySelectorAll(".text, .actions");
    text.after(form);
    text.hidden = actions.hidden = true;
    textarea.value = before.text;
    textarea.focus();
    form.scrollIntoView({ block: "nearest" });
  }

  #close(message) {
    this.#editor.remove();
    this.#editor = null;
    this.element.querySelector(".text").hidden = false;
    if (this.#isGone) return this.actions.redraw();
    this.show(message);
    this.element.querySelector(".edit").focus();
  }
}
