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
  $("typing").textContent = names.length && `${all} ${names.length > 1 ? "are" : "is"} typing`;
}

export function showAsides(asides) {
  const list = $("asides");
  list.hidden = asides.length === 0;
  // Only what is new is drawn: a list that is a log is read out as it grows.
  const drawn = new Map([...list.children].map((item) => [item.dataset.id, item]));
  list.replaceChildren(...asides.map((aside) => drawn.get(aside.id) ?? asideItem(aside)));
  list.scrollLeft = list.scrollWidth;
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
