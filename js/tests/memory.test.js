/* A long list under many events keeps its size, and is drawn once a frame. `npm run bench` measures both in Chromium. */

import assert from "node:assert/strict";
import test from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { story } from "./support/sockets.js";

setFlagsFromString("--expose-gc");
const collect = runInNewContext("gc");

const ROWS = 10_000;
const PER_FRAME = 17; // of 1,000 a second
const FRAMES = 2_000;

test(
  "10,000 rows under 34,000 events hold no more memory at the end than early on",
  (context) => story(async ({ start, sockets, clock }) => {
    const api = await start();
    const list = api.messages.live();
    const row = (id, n) => ({ id, room: 1, text: `version ${n} of row ${id}` });
    const data = Array.from({ length: ROWS }, (_, id) => row(id, 0));
    const [asked] = sockets.last.frames("subscribe");
    const { request_id } = asked;
    sockets.last.reply(asked, 201, { data, position: "0", resumed: false });
    await clock.advance(0);
    let draws = 0;
    list.subscribe(() => draws++);
    let position = 0;
    let oldest = 0;
    let newest = ROWS - 1;
    const tell = (action, data, after) => {
      const previous = String(position++);
      sockets.last.receive("messages", { action, response_status: 200, request_id, data, after, position: String(position), previous });
    };
    const heap = [];
    for (let frame = 1; frame <= FRAMES; frame++) {
      for (let i = 0; i < PER_FRAME - 2; i++) tell("update", row(oldest + ((frame * 7919 + i) % ROWS), frame));
      tell("delete", { id: oldest++ });
      tell("create", row(++newest, frame), newest - 1);
      await clock.advance(0);
      sockets.last.sent.length = 0;
      if (frame % (FRAMES / 4)) continue;
      collect();
      heap.push(process.memoryUsage().heapUsed);
    }
    assert.deepEqual([list.rows.length, list.rows.at(-1).id, draws], [ROWS, newest, FRAMES]);
    const growth = (heap.at(-1) - heap[0]) / 2 ** 20;
    context.diagnostic(`${growth.toFixed(2)} MiB more`);
    assert.ok(growth < 0.5, `${growth} MiB more after ${(FRAMES * 3 * PER_FRAME) / 4} events`);
  })(),
);
