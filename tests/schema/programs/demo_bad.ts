/* What must not compile with the types of the demo: each line below a comment has an error. */
import { connect } from "rest-channels";
import type { Streams } from "./demo.js";

const api = connect<Streams>("/");

// @ts-expect-error no such stream
api.message.list();
// @ts-expect-error no such action
api.users.you();
// @ts-expect-error the viewset is read-only
api.rooms.create({ title: "Hall" });
// @ts-expect-error nor can its rows be deleted
api.rooms.destroy(1);
// @ts-expect-error a field is missing
api.messages.create({ room: 1 });
// @ts-expect-error no such field
api.messages.patch(1, { txt: "Hi" });
// @ts-expect-error a field has another type
api.messages.patch(1, { room: "hall" });
// @ts-expect-error the field is read-only
api.messages.create({ room: 1, text: "Hi", author: "ann" });
// @ts-expect-error rows have no such field
api.cards.live().rows[0]?.colour;
// @ts-expect-error no such filter
api.cards.live({ query: { boards: 1 } });
// @ts-expect-error a filter has another type
api.cards.list({ board: "product" });
// @ts-expect-error no such filter to watch
api.messages.watch("list", { query: { rooom: 1 } });
// @ts-expect-error the key is a number
api.cards.retrieve("first");
// @ts-expect-error no such action to watch
api.boards.watch("count");
// @ts-expect-error the answer has no such field
api.boards.watch("counts").data?.cards;
// @ts-expect-error a stream of rooms has no lists
api.here.live();
