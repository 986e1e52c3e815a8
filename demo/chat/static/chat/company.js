/* What passes in a room, drawn: who is there, who is typing, what is said by the way. */

import { $, clone, face, peopleItems, say, when } from "./dom.js";

/** `users` are there; `news` is who came or left just now, where that is all that changed. */
export function showCompany(users, news, me) {
  $("company").replaceChildren(...peopleItems(users));
  if (news === undefined || news.user.id === me.id) return;
  say(`${news.user.username} ${news.event === "joined" ? "is here" : "has left"}`);
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
  // What is drawn stays: a log is read out as it grows, and not from its beginning each time.
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
