/* What must not compile: each line below a comment has an error. */

import { createCollection } from "@tanstack/db";
import { connect } from "rest-channels";
import dcrf from "rest-channels/dcrf";
import { liveOptions, watchOptions } from "rest-channels/query";
import { useLive, useRoom, useWatch } from "rest-channels/react";
import { liveStore, watchStore } from "rest-channels/svelte";
import { restChannelsCollectionOptions } from "rest-channels/tanstack-db";
import * as vue from "rest-channels/vue";
import type { Streams } from "./streams.js";

const api = connect<Streams>("/");

// @ts-expect-error no such stream
api.nothing.list();
// @ts-expect-error no such action
api.messages.unpin({ pk: 3 });
// @ts-expect-error the stream cannot be written
api.rooms.create({ title: "Hall" });
// @ts-expect-error nor changed
api.rooms.patch("hall", { title: "Hall" });
// @ts-expect-error nor deleted
api.rooms.destroy("hall");
// @ts-expect-error a field is missing
api.messages.create({ room: 1 });
// @ts-expect-error a field has another type
api.messages.patch(1, { text: 5 });
// @ts-expect-error no such field
api.messages.patch(1, { txt: "Hi" });
// @ts-expect-error no such filter
api.messages.live({ query: { rooom: 1 } });
// @ts-expect-error a filter has another type
api.messages.list({ room: "hall" });
// @ts-expect-error the key is a number
api.messages.retrieve("hall");
// @ts-expect-error the key is a string
api.rooms.live({ pk: 3 });
// @ts-expect-error the action needs its row
api.messages.pin({ data: { until: "noon" } });
// @ts-expect-error the action takes other data
api.messages.pin({ pk: 3, data: { til: "noon" } });
// @ts-expect-error the rows have no such field
api.messages.live().rows[0]?.txt;
// @ts-expect-error rows are not changed in place
api.messages.live().rows.push({ id: 1, room: 1, author: "ann", text: "Hi" });
// @ts-expect-error no such action to watch
api.messages.watch("stat");
// @ts-expect-error the answer has no such field
api.messages.watch("stats").data?.total;
// @ts-expect-error no such filter to watch
api.messages.watch("list", { query: { rooom: 1 } });
// @ts-expect-error the viewset has no list
api.pages.list();
// @ts-expect-error nor one to watch
api.pages.watch("list");
// @ts-expect-error it has no update, only patch
api.pages.update(3, { text: "Hi" });
// @ts-expect-error GET does not reach the action
api.pages.watch("lock", { pk: 3 });
// @ts-expect-error the action has no such verb
api.pages.lock({ pk: 3, method: "put" });
// @ts-expect-error no such lookup
api.pages.retrieve(3, { lookups: { bok_pk: 2 } });
// @ts-expect-error nor here
api.pages.watch("size", { pk: 3, lookups: { bok_pk: 2 } });
// @ts-expect-error a lookup has another type
api.pages.live({ lookups: { book_pk: "two" } });
// @ts-expect-error a message of a room has a text
api.here.join(3).say({ txt: "Hi" });
// @ts-expect-error a stream of rooms has no lists
api.here.live();
// @ts-expect-error no such state
if (api.state.name === "open") api.close();
// @ts-expect-error no such option
connect<Streams>("/", { token: "t" });

// React
// @ts-expect-error no such filter
useLive(api.messages, { query: { rooom: 1 } });
// @ts-expect-error the key is a string
useLive(api.rooms, { pk: 3 });
// @ts-expect-error no such action to watch
useWatch(api.messages, "stat");
// @ts-expect-error GET does not reach the action
useWatch(api.pages, "lock", { pk: 3 });
// @ts-expect-error the answer has no such field
useWatch(api.messages, "stats").data?.total;
// @ts-expect-error rows have no such field
useLive(api.messages).rows[0]?.txt;
// @ts-expect-error a message of a room has a text
useRoom(api.here, 3).say({ txt: "Hi" });
// @ts-expect-error a viewset has no rooms
useRoom(api.messages, 3);

// Vue and Svelte
// @ts-expect-error no such filter
vue.useLive(api.messages, { query: { rooom: 1 } });
// @ts-expect-error no such action to watch
vue.useWatch(api.messages, "stat");
// @ts-expect-error no such filter
liveStore(api.messages, { query: { rooom: 1 } });
// @ts-expect-error no such action to watch
watchStore(api.messages, "stat");

// TanStack DB
// @ts-expect-error no such filter
restChannelsCollectionOptions(api.messages, { query: { rooom: 1 } });
// @ts-expect-error rows have no such field
createCollection(restChannelsCollectionOptions(api.messages)).get(3)?.txt;
// @ts-expect-error the key is a string
createCollection(restChannelsCollectionOptions(api.rooms)).get(3);

// TanStack Query
// @ts-expect-error no such filter
liveOptions(api.messages, { query: { rooom: 1 } });
// @ts-expect-error no such action to watch
watchOptions(api.messages, "stat");

// The API of dcrf-client
// @ts-expect-error the callback is missing
dcrf.createClient("/").subscribe("messages", 3);
// @ts-expect-error no such option
dcrf.connect("/", { serializer: JSON });
