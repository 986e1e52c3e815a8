/* Draws the users in a room, typing notices and asides. */

import { $, clone, face, peopleItems, say, when } from "./dom.js";

/** `users` are present; `news` are those who have come and gone, or null if that is not known. */
export function showCompany(users, news, me) {
  $("company").replaceChildren(...peopleItems(users));
  for (const { username, id } of news?.come ?? []) if (id !== me.id) say(`${username} is here`);
  for (const { username, id } of news?.gone ?? []) if (id !== me.id) say(`${username} has left`);
}

/** Return who is among `after` and not among `before`, and the reverse. */
export function newcomers(before, after) {
  const without = (users, others) =>
    users.filter(({ id }) => !others.some((other) => other.id === id));
  return { come: without(after, before), gone: without(before, after) };
}

export function showTyping(users, me) {
  const names = users.filter(({ id }) => id !== me.id).map(({ username }) => username);
  const all = new Intl.ListFormat("en").format(names);
  const what = names.length > 1 ? "are typing" : "is typing";
  $("typing").textContent = names.length === 0 ? "" : `${all} ${what}`;
}

export function showAsides(asides) {
  const log = $("asides");
  const list = log.querySelector("ol");
  log.hidden = asides.length === 0;
  // Keep the items: screen readers read out additions to a log, not the whole log again.
  const told = new Set(asides.map(({ id }) => id));
  for (const item of [...list.children]) if (!told.has(item.dataset.id)) item.remove();
  const drawn = new Set([...list.children].map((item) => item.dataset.id));
  list.append(...asides.filter(({ id }) => !drawn.has(id)).map(asideItem));
  log.scrollLeft = log.scrollWidth;
}

function asideItem({ id, user, text, sent_at }) {
  const item = clone("aside-template");
  item.dataset.id = id;
  item.title = when(new Date(sent_at));
  item.querySelector(".face").replaceWith(face(user.username));
  item.querySelector(".author").textContent = user.username;
  item.querySelector(".text").textContent = text;
  return item;
}
