/*
 * The list of messages. Its items follow the rows, and only changed items are drawn again, so that
 * no user loses a draft because another user posts.
 */

import { $, askTwice, clone, face, onSubmit, say, when } from "./dom.js";
import { attempt } from "./trouble.js";

// Within this distance of its end, the list follows new messages (pixels).
const NEAR = 80;

export class MessageList {
  #items = new Map(); // by the message's key, in order
  #isFresh = true;
  #wasAtEnd = true;

  /** `me()` returns the user. `save(message, text)` and `remove(message)` change a message;
   *  `announce(messages)` reports new ones. */
  constructor(actions) {
    this.actions = actions;
    $("newer").onclick = () => this.#scrollToEnd();
    $("scroller").onscroll = () => {
      this.#wasAtEnd = this.#isAtEnd();
      if (this.#wasAtEnd) $("newer").hidden = true;
    };
    // Elements below it take some of its height.
    const onResize = () => this.#wasAtEnd && this.#scrollToEnd();
    new ResizeObserver(onResize).observe($("scroller"));
  }

  /** Show the end of the list that is drawn next, because it is another list. */
  restart() {
    this.#isFresh = true;
  }

  clear() {
    for (const { element } of this.#items.values()) element.remove();
    this.#items.clear();
    $("newer").hidden = true;
    this.restart();
  }

  /** Show exactly `rows`, a Map by key, oldest first; `isPending(row)` are not confirmed yet. */
  draw(rows, isPending) {
    const scroller = $("scroller");
    const isAtEnd = this.#isFresh || this.#isAtEnd();
    const below = scroller.scrollHeight - scroller.scrollTop;
    const before = [...this.#items.keys()];

    for (const [key, item] of this.#items) {
      if (!rows.has(key) && item.leave()) this.#items.delete(key);
    }
    for (const [key, message] of rows) {
      const item = this.#items.get(key);
      if (item === undefined) this.#items.set(key, new Item(message, this.actions));
      else if (item.message !== message) item.show(message);
      this.#items.get(key).element.classList.toggle("pending", isPending(message));
    }
    this.#sort([...rows.keys()], before);
    this.#place();

    // Rows behind the last one that was shown before are new; others are older ones.
    const drawn = [...rows];
    const added = drawn.slice(drawn.findLastIndex(([key]) => before.includes(key)) + 1);
    const hasNewer = !this.#isFresh && added.length > 0;
    if (hasNewer) {
      this.#items.get(added.at(-1)[0]).element.classList.add("new");
      this.actions.announce(added.map(([, message]) => message));
    }
    if (isAtEnd) this.#scrollToEnd();
    else if (drawn.length > 0 && !before.includes(drawn[0][0]))
      scroller.scrollTop = scroller.scrollHeight - below;
    else if (hasNewer) $("newer").hidden = false;
    this.#isFresh = false;
  }

  /** Bring the items into the order of `keys`; those that only stay keep their place in `before`. */
  #sort(keys, before) {
    const order = [...keys];
    for (const [at, key] of before.entries()) {
      if (this.#items.has(key) && !order.includes(key)) {
        order.splice(at === 0 ? 0 : order.indexOf(before[at - 1]) + 1, 0, key);
      }
    }
    this.#items = new Map(order.map((key) => [key, this.#items.get(key)]));
  }

  /** Put the items in the page, in order; leave alone an item in its place. */
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

  /** Draw `message`, or do so later if it is being edited. */
  show(message) {
    this.message = message;
    this.#isGone = false;
    if (this.#editor !== null) return;
    const find = (selector) => this.element.querySelector(selector);
    // The server adds the author and the time of a message that the user has just sent.
    const me = this.actions.me();
    const { author = me.username, created = new Date().toISOString() } = message;
    find(".face").replaceWith(face(author));
    find(".author").textContent = author;
    find(".text").textContent = message.text;
    find("time").dateTime = created;
    find("time").textContent = when(new Date(created));
    // The server decides; the page only hides what the server would refuse.
    find(".actions").hidden = !me.is_staff && author !== me.username;
    find(".edit").ariaLabel = `Edit: ${message.text}`;
    find(".delete").ariaLabel = `Delete: ${message.text}`;
  }

  /** Remove the item of a deleted message; return false if it stays because a user edits it. */
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
        await this.actions.save(before, text);
        this.#close(this.message);
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
