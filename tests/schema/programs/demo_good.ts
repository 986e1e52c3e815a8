/* What must compile with the types of the demo. */
import { connect } from "rest-channels";
import type { Card, CardRequest, Message, PaginatedMessageList, Streams, User } from "./demo.js";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <T extends true>(): T | undefined => undefined;
const api = connect<Streams>("/");

export async function requests() {
  const page = await api.messages.list({ room: 1, search: "tea", cursor: "cD0y" });
  is<Equal<typeof page, PaginatedMessageList>>();
  is<Equal<(typeof page)["results"], Message[]>>();
  const message = await api.messages.create({ room: 1, text: "Hello" });
  is<Equal<typeof message.created, string>>();
  await api.messages.update(message.id, { room: 1, text: "Hi" });
  await api.messages.patch(message.id, { text: "Hi" });
  await api.messages.destroy(message.id);
  const me = await api.users.me();
  is<Equal<typeof me, User>>();
  const card: CardRequest = { column: 1, title: "Tea", position: 1024 };
  is<Equal<Awaited<ReturnType<typeof api.cards.create>>, Card>>();
  return api.cards.create(card);
}

export function live() {
  const cards = api.cards.live({ query: { board: 1 }, window: 50 });
  is<Equal<typeof cards.rows, readonly Card[]>>();
  const counts = api.boards.watch("counts").data;
  is<Equal<typeof counts, { boards: { [key: string]: number }; columns: { [key: string]: number } } | undefined>>();
  api.messages.watch("list", { query: { room: 1 } });
  api.messages.watch("retrieve", { pk: 3 });
  const hall = api.here.join(3);
  hall.setTyping();
  is<Equal<typeof hall.users, readonly User[]>>();
  return api.at_board.join(1).users[0]?.username;
}
