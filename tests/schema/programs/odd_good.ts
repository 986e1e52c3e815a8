/* What must compile with the types of a project with odd shapes. */
import { connect } from "rest-channels";
import type { Group, Name, Odd, OddRequest, Pet, Room, Streams, Tag, V2Streams } from "./odd.js";

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <T extends true>(): T | undefined => undefined;
const api = connect<Streams>("/", { keys: { rooms: "name" } });
const messages = api["rooms/(?P<room_pk>\\d+)/messages"];

export const written: OddRequest = {
  big: 9007199254740991,
  price: "12.50",
  weight: 1.5,
  day: null,
  kind: "",
  level: 2,
  group: { name: "all" },
  tree: { name: "root", children: [{ name: "leaf" }] },
  "da-sh": "-",
};

export async function requests() {
  const row = await api.odd.create(written);
  is<Equal<typeof row, Odd>>();
  await api.odd.patch(row.id, { "1st": "a", marks: ["x", "y"], secret: "s", level: 1 });
  const name: string | undefined = row.tree.children[0]?.children[0]?.name;
  const size: number | null = (await api.rooms.retrieve("hall")).size;
  const page = await api.rooms.list({ id__in: "1,2", name: ["a", "b"], page: 2, is_staff_only: true });
  is<Equal<(typeof page)["results"], Name[]>>();
  await api.rooms.list({ name: "a" });
  await api.rooms.lock({ pk: "hall", data: { name: "all" }, method: "delete" });
  for await (const item of api.rooms.sizes()) is<Equal<typeof item, Room>>();
  await messages.patch(3, { text: "Hi" }, { lookups: { room_pk: 1 } });
  return [name, size];
}

/** A stream with the name of a property of the connection. */
export async function state() {
  const tags = api.stream("state");
  const group = await tags.create({ name: "new" });
  is<Equal<typeof group, Group>>();
  is<Equal<Awaited<ReturnType<typeof tags.patch>>, null>>();
  const tag = await tags.retrieve("5f0c");
  is<Equal<typeof tag.id, string>>();
  is<Equal<typeof tag.likes, string>>();
  is<Equal<Awaited<ReturnType<typeof tags.table>>, { a: number }>>();
  const pet = await tags.pets({ pk: tag.id, query: { year: 2020 } });
  await tags.adopt({ pk: tag.id, data: pet });
  return [describePet(pet), api.state.name];
}

function describePet(pet: Pet): string | number | null {
  return pet.kind === "cat" ? pet.lives : pet.breed;
}

const loud = api.loud.join("hall");
const plain = api.plain.join("hall");

export function live() {
  is<Equal<ReturnType<typeof api.rooms.live>["rows"], readonly Name[]>>();
  const room = api.rooms.watch("retrieve", { pk: "hall" }).data;
  is<Equal<typeof room, Room | undefined>>();
  api.rooms.watch("list_of_state");
  messages.watch("retrieve", { pk: 3, lookups: { room_pk: "1" } });
  const hall = api["the-chat"].join("hall");
  hall.say({ text: "Hello" });
  is<Equal<(typeof hall.users)[0], Tag>>();
  const said: number | undefined = hall.messages[0]?.data.words;
  api.loud.join("hall").say("Hello");
  is<Equal<NonNullable<(typeof loud.messages)[0]>["text"], unknown>>();
  is<Equal<(typeof plain.users)[0], { id: string | null; name: string }>>();
  is<Equal<NonNullable<(typeof plain.messages)[0]>["data"], unknown>>();
  api.greetings.greet({ data: { name: "ann" } });
  api.hosted.list();
  return [said, connect<V2Streams>("/v2/").tags.list()];
}
