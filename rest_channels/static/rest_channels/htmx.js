/*
 * An extension of htmx, versions 2 and 4: elements follow a list or the answer of an action.
 *
 *     <ul hx-get="/messages/" hx-trigger="live" live-stream="messages" live-query='{"room": 1}'>...</ul>
 *     <p live-stream="messages" live-watch="count"><b data-text="count">3</b> messages</p>
 */

import { apiAt, parse } from "./shared.js";
import { fillsOf } from "./template.js";
export { apiAt };

const NAMES = ["live-src", "live-stream", "live-query", "live-window", "live-watch"];
/** The handles of elements, each with the attributes that it was opened by. @type {Map<Element, { key: string, handle: any }>} */
const links = new Map();

/** @param {Element} element */
const leave = (element) => (links.get(element)?.handle.stop(), void links.delete(element));

/** Follow what an element names. @param {Element} element */
function follow(element) {
  const [src, stream = "", , window, watch] = NAMES.map((name) => element.getAttribute(name) ?? undefined);
  const [key, query] = [NAMES.map((name) => element.getAttribute(name)).join(), parse(element, "live-query")];
  if (links.get(element)?.key === key) return;
  leave(element);
  const api = apiAt(src).stream(stream);
  const handle = watch ? api.watch(watch, { query }) : api.live({ query, window: window && +window });
  const fills = watch ? [element, ...element.querySelectorAll("*")].flatMap(fillsOf) : [];
  links.set(element, { key, handle });
  let last = /** @type {unknown} */ (undefined);
  const show = () => {
    const { status, rows, data = rows } = handle.getSnapshot();
    if (!element.isConnected) return leave(element);
    if (status === "connecting" || data === last) return;
    last = data;
    for (const fill of fills) fill(data);
    if (status === "live" || status === "stale") element.dispatchEvent(new CustomEvent("live", { detail: { data } }));
    else if (!fills.length) element.replaceChildren(); // this user may not see it any more
  };
  handle.subscribe(show);
  show(); // what the page shows may be older
}

/** Follow what new content names, and leave what is gone. @param {Element} root */
function look(root) {
  for (const element of links.keys()) if (!element.isConnected) leave(element);
  for (const element of [root, ...root.querySelectorAll("[live-stream]")]) if (element.matches("[live-stream]")) follow(element);
}

/** Extend htmx, if it is not the global one. @param {any} htmx */
export function extend(htmx) {
  if (htmx.registerExtension) htmx.registerExtension("rest-channels", { htmx_after_process: look });
  else htmx.onLoad(look);
  if (document.readyState !== "loading") look(document.body);
}

if ("htmx" in globalThis) extend(/** @type {any} */ (globalThis).htmx);
