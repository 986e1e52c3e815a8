/* Modules that are loaded with the first subscription of their kind. */

import assert from "node:assert/strict";
import test from "node:test";
import { kinds } from "../dist/stream.js";
import { story } from "./support/sockets.js";
import { talk } from "./support/talk.js";

const tables = { messages: [{ id: 1, text: "one" }] };
const texts = ({ rows }) => rows.map(({ text }) => text);

/** Run a test in which no kind is loaded yet. */
const unloaded = (run) => async () => {
  const loaded = { ...kinds };
  for (const name of Object.keys(kinds)) delete kinds[name];
  try {
    await run();
  } finally {
    Object.assign(kinds, loaded);
  }
};

test(
  "a write is sent at once while the first live list is loaded, and shown after that",
  unloaded(
    talk(tables, async ({ server, clock, open }) => {
      server.latency = () => 5;
      const api = open();
      await clock.advance(100);
      const sent = [];
      server.loses = ({ payload: { action } }, way) => (way === "up" && sent.push(action), false);
      const list = api.messages.live();
      const created = api.messages.create({ text: "new" });
      assert.deepEqual([sent, texts(list), list.byKey.size, list.keyOf({ id: 3 })], [["create"], [], 0, 3]);
      await clock.advance(0);
      assert.deepEqual([texts(list), list.isPending(list.rows[0])], [["new"], true]);
      const key = list.keyOf(list.rows[0]);
      await clock.advance(100);
      const { id } = await created;
      assert.deepEqual([texts(list), list.keyOf(list.rows[1]), list.rows[1].id], [["one", "new"], key, id]);
      assert.equal(list.isPending(list.rows[1]), false);
    }),
  ),
);

test(
  "a page without live lists loads none, and its errors say what was rolled back",
  unloaded(
    talk(tables, async ({ server, clock, open }) => {
      server.refuses = () => ({ status: 400, errors: ["No."], codes: ["no"] });
      const refused = open().messages.create({ text: "new" }).catch((error) => error);
      await clock.advance(100);
      assert.deepEqual((await refused).rolledBack.data, { text: "new" });
      assert.deepEqual(Object.keys(kinds), []);
    }),
  ),
);

test(
  "what is asked for while it is loaded is asked for once, with the largest window",
  unloaded(
    story(async ({ open, sockets, settle }) => {
      const api = open();
      await settle();
      const list = api.messages.live({ window: 2 });
      api.messages.live({ window: 3 });
      list.grow(2);
      api.messages.watch("count");
      sockets.last.accept();
      assert.deepEqual(sockets.last.frames(), []);
      await settle();
      const asked = sockets.last.frames().map(({ action, window }) => [action, window]);
      assert.deepEqual(asked, [["subscribe", 4], ["watch", undefined]]);
      for (const frame of sockets.last.frames())
        sockets.last.reply(frame, 201, { data: [], position: "a", resumed: false });
      await settle();
      assert.equal(sockets.last.frames().length, 2);
    }),
  ),
);
