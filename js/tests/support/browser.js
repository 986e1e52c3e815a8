/* A document, for bindings that draw. Import this before the framework, which looks for it. */

import { JSDOM } from "jsdom";
import { connect } from "rest-channels";
import { Clock } from "./clock.js";
import { Server } from "./server.js";

const { window } = new JSDOM("<!doctype html><body></body>", { url: "https://example.test/board/", pretendToBeVisual: false });

const names = ["document", "navigator", "location", "AbortController", "Event", "CustomEvent", "Node", "Element", "HTMLElement", "Text", "Comment"];
for (const name of [...names, "HTMLTemplateElement", "DocumentFragment", "MutationObserver", "customElements"]) {
  Object.defineProperty(globalThis, name, { value: window[name], configurable: true, writable: true });
}
globalThis.window = window;
globalThis.addEventListener = window.addEventListener.bind(window);

/** Run a test with a server that has `tables`, a page that shows `html`, and time that it moves itself. */
export function browse(tables, play, html = "") {
  return async () => {
    const clock = new Clock().install();
    const server = new Server(structuredClone(tables));
    server.requests = [];
    server.loses = ({ payload: { action } }, way) => {
      if (way === "up" && action !== "ping") server.requests.push(action);
      return false;
    };
    const apis = [];
    const open = (options = {}) => {
      const api = connect("/ws/", { WebSocket: server.WebSocket, ...options });
      apis.push(api);
      return api;
    };
    const { body } = window.document;
    body.innerHTML = html;
    try {
      await play({ server, clock, open, body });
    } finally {
      for (const api of apis) api.close();
      await clock.advance(0);
      body.innerHTML = "";
      clock.uninstall();
    }
  };
}
