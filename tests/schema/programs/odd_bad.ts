/* What must not compile: each line below a comment has an error. */
import { connect } from "rest-channels";
import { written } from "./odd_good.js";
import type { Streams, V2Streams } from "./odd.js";

const api = connect<Streams>("/");
const messages = api["rooms/(?P<room_pk>\\d+)/messages"];

// @ts-expect-error the viewset has no list
api.odd.list();
// @ts-expect-error nor rows to retrieve
api.odd.retrieve(1);
// @ts-expect-error nor to watch
api.odd.watch("retrieve", { pk: 1 });
// @ts-expect-error a decimal is text
api.odd.create({ ...written, price: 12.5 });
// @ts-expect-error no such choice
api.odd.create({ ...written, kind: "c" });
// @ts-expect-error no such choice
api.odd.patch(1, { level: 3 });
// @ts-expect-error the field is read-only
api.odd.patch(1, { pet: { kind: "cat", lives: 9 } });
// @ts-expect-error a part lacks a field
api.odd.create({ ...written, tree: { children: [] } });
// @ts-expect-error the field may not be null
api.odd.patch(1, { big: null });
// @ts-expect-error the field is write-only
api.odd.create(written).then((row) => row.secret);
// @ts-expect-error a row of a list has less
api.rooms.live().rows[0]?.size;
// @ts-expect-error the key is text
api.rooms.retrieve(3);
// @ts-expect-error no such choice of a filter
api.rooms.list({ name: ["a", "c"] });
// @ts-expect-error values of this filter are one text
api.rooms.list({ id__in: [1, 2] });
// @ts-expect-error the action has no such verb
api.rooms.lock({ pk: "hall", data: { name: "all" }, method: "put" });
// @ts-expect-error the action needs its row
api.rooms.lock({ data: { name: "all" } });
// @ts-expect-error GET does not reach the action
api.rooms.watch("lock", { pk: "hall" });
// @ts-expect-error an action with many replies is not watched
api.rooms.watch("sizes");
// @ts-expect-error the viewset takes no PUT
messages.update(3, { room: 1, text: "Hi" });
// @ts-expect-error no such lookup
messages.retrieve(3, { lookups: { rom_pk: 1 } });
// @ts-expect-error the viewset has no filters
api.stream("state").list({ name: "new" });
// @ts-expect-error no such stream
api.stream("status");
// @ts-expect-error the query is missing
api.stream("state").pets({ pk: "a" });
// @ts-expect-error the answer has no such field
api.stream("state").watch("table").data?.b;
// @ts-expect-error a dog has a breed
api.stream("state").adopt({ pk: "a", data: { kind: "dog", lives: 9 } });
// @ts-expect-error a message has a text
api["the-chat"].join("hall").say({ txt: "Hello" });
// @ts-expect-error the field is read-only
api["the-chat"].join("hall").say({ text: "Hello", words: 1 });
// @ts-expect-error a user has no such field
api["the-chat"].join("hall").users[0]?.username;
// @ts-expect-error a message that no action names
api.greetings.hello();
// @ts-expect-error a stream of another root
connect<V2Streams>("/v2/").rooms;
