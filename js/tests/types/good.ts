/* What must compile. */

import { createCollection } from "@tanstack/db";
import { useQuery } from "@tanstack/react-query";
import { ApiError, connect } from "rest-channels";
import dcrf from "rest-channels/dcrf";
import { liveOptions, watchOptions } from "rest-channels/query";
import { useConnection, useLive, useRoom, useWatch } from "rest-channels/react";
import { liveStore, roomStore, watchStore } from "rest-channels/svelte";
import { restChannelsCollectionOptions } from "rest-channels/tanstack-db";
import * as vue from "rest-channels/vue";
import type { Message, Streams, User } from "./streams.js";

const api = connect<Streams>("/", {
  auth: async (isExpired) => (isExpired ? null : "Bearer t"),
  keys: { rooms: "slug" },
  limits: { inFlight: 4 },
  persist: "session",
  user: 3,
});

type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const is = <T extends true>(): T | undefined => undefined;

export async function requests() {
  const page = await api.messages.list({ room: 1 });
  is<Equal<typeof page, { next: string | null; results: Message[] }>>();
  const rooms = await api.rooms.list();
  is<Equal<typeof rooms, { slug: string; title: string }[]>>();
  const message = await api.messages.create({ room: 1, text: "Hello" }, { optimistic: false });
  is<Equal<typeof message, Message>>();
  await api.messages.update(message.id, { room: 1, text: "Hi" });
  await api.messages.patch(message.id, { text: "Hi" });
  await api.messages.destroy(message.id);
  await api.rooms.retrieve("hall", { signal: new AbortController().signal });
  const pinned = await api.messages.pin({ pk: 3, data: { until: "noon" } });
  is<Equal<typeof pinned, Message>>();
  for await (const item of api.messages.export({ query: { room: 1 } })) is<Equal<typeof item, Message>>();
  const stats = await api.messages.stats();
  is<Equal<typeof stats, { count: number }>>();
  const lookups = { book_pk: 2 };
  await api.pages.patch(3, { text: "Hi" }, { lookups });
  await api.pages.lock({ pk: 3, method: "delete", lookups });
}

export async function subscriptions() {
  const list = api.messages.live({ query: { room: 1 }, window: 50, compare: (a, b) => b.id - a.id });
  is<Equal<typeof list.rows, readonly Message[]>>();
  const row: Message | undefined = list.byKey.get(3);
  list.grow(50);
  if (list.status === "denied" && list.error instanceof ApiError) list.stop();
  for await (const change of list) {
    if (change.type === "delete") is<Equal<typeof change.key, number>>();
    else if (change.type === "reset") is<Equal<typeof change.rows, readonly Message[]>>();
    else is<Equal<typeof change.row, Message>>();
  }
  const stats = api.messages.watch("stats");
  const count: number | undefined = stats.data?.count;
  const page = api.messages.watch("list", { query: { room: 1, page: 2 } });
  const next: string | null | undefined = page.data?.next;
  const size: number | undefined = api.pages.watch("size", { pk: 3, lookups: { book_pk: 2 } }).data;
  api.pages.watch("retrieve", { pk: 3 });
  api.pages.live({ pk: 3, lookups: { book_pk: 2 } });
  const shouted: string | undefined = api.shouts.join(3).messages[0]?.text;
  const hall = api.here.join(3);
  is<Equal<typeof hall.users, readonly User[]>>();
  const text: string | undefined = hall.messages[0]?.data.text;
  await hall.say({ text: "Brb" });
  return [row, count, next, size, shouted, text, api.state.retryAt, api.pending.length];
}

/** Without types everything is allowed. */
export async function untyped() {
  const anything = connect("/");
  const rows = anything.whatever.live({ query: { a: 1 } }).rows;
  await anything.whatever.act({ pk: 1 });
  return rows;
}

/** React. */
export function Component({ room }: { room: number | null }) {
  const { rows, status, grow, keyOf } = useLive(api.messages, { query: { room: 1 }, window: 50, suspense: true });
  is<Equal<typeof rows, readonly Message[]>>();
  useLive(api.messages);
  useLive(api.messages, room === null ? null : { query: { room } });
  const { data } = useWatch(api.messages, "stats");
  is<Equal<typeof data, { count: number } | undefined>>();
  const page = useWatch(api.messages, "list", { query: { room: 1, page: 2 } }).data;
  is<Equal<typeof page, { next: string | null; results: Message[] } | undefined>>();
  const { users, messages, say, setTyping } = useRoom(api.here, room);
  is<Equal<typeof users, readonly User[]>>();
  const text: string | undefined = messages[0]?.data.text;
  return [status, grow, rows.map(keyOf), text, say, setTyping, useConnection(api).retryAt];
}

export function UntypedComponent() {
  const anything = connect("/");
  const { rows } = useLive(anything.whatever, { query: { a: 1 } });
  return [rows[0]?.text, useWatch(anything.whatever, "act").data?.count, useRoom(anything.here, 1).users[0]?.name];
}

/** Vue and Svelte. */
export function others() {
  const { rows, grow } = vue.useLive(api.messages, () => ({ query: { room: 1 } }));
  is<Equal<typeof rows.value, readonly Message[]>>();
  const count: number | undefined = vue.useWatch(api.messages, "stats").data.value?.count;
  is<Equal<ReturnType<typeof vue.useRoom<User, { text: string }>>["users"]["value"], readonly User[]>>();
  const list = liveStore(api.messages, { query: { room: 1 } });
  list.subscribe(({ rows }) => is<Equal<typeof rows, readonly Message[]>>());
  watchStore(api.messages, "stats").subscribe(({ data }) => is<Equal<typeof data, { count: number } | undefined>>());
  roomStore(api.here, 3).say({ text: "Hi" });
  return [grow(1), count, list.grow(1)];
}

/** TanStack DB. */
export function collections() {
  const messages = createCollection(restChannelsCollectionOptions(api.messages, { id: "hall", query: { room: 1 } }));
  const text: string | undefined = messages.get(3)?.text;
  const rooms = createCollection(restChannelsCollectionOptions(api.rooms, { getKey: ({ slug }) => slug }));
  const title: string | undefined = rooms.get("hall")?.title;
  return [text, title, messages.update(3, (row) => void (row.text = "Hi"))];
}

/** TanStack Query. */
export function Queries() {
  const messages = useQuery(liveOptions(api.messages, { query: { room: 1 }, window: 50 }));
  is<Equal<typeof messages.data, readonly Message[] | undefined>>();
  const stats = useQuery(watchOptions(api.messages, "stats"));
  is<Equal<typeof stats.data, { count: number } | undefined>>();
  const texts = useQuery({ ...liveOptions(api.messages), select: (rows) => rows.map(({ text }) => text) });
  is<Equal<typeof texts.data, string[] | undefined>>();
}

/** The API of dcrf-client. */
export async function moved() {
  const client = dcrf.connect("/", { pkField: "id", preprocessPayload: (_, payload) => void (payload.token = "t") });
  const subscription = client.subscribe("messages", 3, (row, action) => [row.text, action], { includeCreateEvents: true });
  await client.patch("messages", 3, { text: "Hi" });
  const cancelled: boolean = await subscription.cancel();
  return [cancelled, (await client.list("messages")).length, await client.unsubscribeAll()];
}
