/*
 * A live list in a page without a framework:
 *     <live-list stream="messages" query='{"room": 1}' window="50">
 *       <template><p class="{kind}"><b data-text="author"></b> <span data-text="text"></span></p></template>
 *     </live-list>
 */

import { apiAt, parse } from "./shared.js";
import { Items } from "./template.js";
export { apiAt };
/** @import { LiveRows } from "./types.js" */

export class LiveListElement extends HTMLElement {
  static observedAttributes = ["src", "stream", "query", "window"];
  /** The list that is shown, or null. @type {LiveRows<any> | null} */
  list = null;
  #items = new Items();

  connectedCallback() {
    this.onclick = (/** @type {any} */ { target }) => {
      const button = target.closest("[data-grow]");
      if (button) this.list?.grow(+button.dataset.grow);
    };
    // The parser may not have seen the template yet.
    if (document.readyState !== "loading") this.#open();
    else document.addEventListener("DOMContentLoaded", () => this.#open(), { once: true });
  }

  disconnectedCallback() {
    const { list } = this;
    this.list = null;
    list?.stop();
  }

  attributeChangedCallback() {
    if (this.list) this.#open();
  }

  #open() {
    const former = this.list;
    const [src, stream, window] = ["src", "stream", "window"].map((name) => this.getAttribute(name) ?? undefined);
    if (!this.isConnected || !stream) return;
    const list = (this.list = apiAt(src).stream(stream).live({ query: parse(this, "query"), window: window && +window }));
    former?.stop();
    list.subscribe(() => this.list === list && this.#draw(list));
    this.#draw(list);
  }

  /** @param {LiveRows<any>} list */
  #draw(list) {
    const { rows, status, hasMore } = /** @type {any} */ (list.getSnapshot());
    this.setAttribute("status", status);
    const template = this.querySelector("template");
    if (!template?.content.firstElementChild) throw new TypeError("<live-list> requires a <template> with an element.");
    for (const button of /** @type {NodeListOf<HTMLElement>} */ (this.querySelectorAll("[data-grow]"))) button.hidden = !hasMore;
    if (status !== "connecting") this.#items.draw(template, rows, (row) => list.keyOf(row));
  }
}

customElements.define("live-list", LiveListElement);
