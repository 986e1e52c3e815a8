/*
 * Rows that survive a reload of the page, in `sessionStorage`, for one user. Loaded by pages that ask
 * for it.
 */

/** @import { LoadedCore } from "./live.js" */
/** @import { Connected } from "./types.js" */

/**
 * Keep the rows of live lists when the page is left. Return a function that gives a list the rows
 * that it had before.
 *
 * @param {string} url @param {unknown} user @param {Connected} api
 * @param {() => LoadedCore[]} lists the open ones
 */
export function keepRows(url, user, api, lists) {
  const site = `rest-channels ${url} `;
  const prefix = `${site}${JSON.stringify(user)} `;
  /** Ends the listening; undefined while nobody listens. @type {AbortController | undefined} */
  let listening;

  /** @param {string} kept the beginning of the names that stay */
  function remove(kept) {
    for (const name of Object.keys(sessionStorage))
      if (name.startsWith(site) && !name.startsWith(kept)) sessionStorage.removeItem(name);
  }

  function save() {
    for (const { name, position, base } of lists()) {
      if (position === null) continue;
      try {
        sessionStorage.setItem(prefix + name, JSON.stringify({ position, rows: base.list }));
      } catch (error) {
        sessionStorage.removeItem(prefix + name); // it does not fit
        console.warn(error);
      }
    }
  }

  function look() {
    const { name, code } = api.state;
    // Rows that this user may not see any more are not kept: 4403 is "forbidden".
    if (name === "signed-out" || code === 4403) remove("-");
    if (name === "closed") listening = void listening?.abort();
    else if (!listening) addEventListener("pagehide", save, (listening = new AbortController()));
  }

  /** @param {LoadedCore} list */
  function restore(list) {
    const stored = JSON.parse(sessionStorage.getItem(prefix + list.name) ?? "null");
    if (!stored || list.status !== "connecting") return;
    list.position = stored.position;
    list.base.replace(stored.rows);
    list.status = "stale";
    list.publish();
  }

  remove(prefix); // what other users have left
  api.subscribe(look);
  look();
  lists().forEach(restore);
  return restore;
}
