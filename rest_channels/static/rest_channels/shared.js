/* The connections of a page without scripts of its own: one for each address. */

import { connect } from "./client.js";

/** @import { Api, AnyStreams } from "./types.js" */

/** @type {Map<string, Api<AnyStreams>>} */
const apis = new Map();

/** Return the connection to an address, the one that all elements of the page share. @param {string} [url] */
export function apiAt(url = "/") {
  const { href } = new URL(url, location.href);
  const api = apis.get(href) ?? connect(href);
  apis.set(href, api);
  return api;
}

/** Parse an attribute that holds JSON. @param {Element} element @param {string} name */
export function parse(element, name) {
  try {
    return JSON.parse(element.getAttribute(name) || "{}");
  } catch {
    throw new TypeError(`${name}='${element.getAttribute(name)}' must be JSON: put names and strings in double quotes.`);
  }
}
