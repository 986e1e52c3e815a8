/*
 * Random stories: frames are lost, sockets are cut anywhere, replies are delayed. At rest the
 * client's rows equal the server's, and every write happened once or its promise was rejected.
 *
 * RUNS=1000 npm test runs more of them; SEED=... repeats one.
 */

import assert from "node:assert/strict";
import test from "node:test";
import fc from "fast-check";
import { ApiError, ConnectionLost } from "rest-channels";
import { settle } from "./support/clock.js";
import { talk } from "./support/talk.js";

const NUMBERS = {
  numRuns: Number(process.env.RUNS ?? 150),
  seed: Number(process.env.SEED ?? Date.now() & 0xffff),
};

const room = fc.integer({ min: 1, max: 2 });
const pick = fc.nat(100);
const step = fc.oneof(
  fc.record({
    do: fc.constant("theirs"),
    action: fc.constantFrom("create", "patch", "destroy"),
    room,
    pick,
  }),
  fc.record({
    do: fc.constant("mine"),
    action: fc.constantFrom("create", "create", "patch", "destroy"),
    room,
    pick,
  }),
  fc.record({ do: fc.constant("mine"), action: fc.constantFrom("create", "patch"), room, pick }),
  fc.record({ do: fc.constant("pass"), ms: fc.integer({ min: 0, max: 400 }) }),
  fc.record({ do: fc.constant("pass"), ms: fc.integer({ min: 0, max: 8_000 }) }),
  fc.record({ do: fc.constant("cut"), code: fc.constantFrom(1006, 1006, 1012, 4408, 1001, 4429) }),
  fc.record({ do: fc.constant("lose"), share: fc.constantFrom(0, 0, 0.1, 0.5, 1) }),
  fc.record({ do: fc.constant("delay"), ms: fc.constantFrom(0, 1, 30, 500) }),
  fc.record({ do: fc.constant("fence"), isOn: fc.boolean() }),
  fc.record({ do: fc.constant("order"), isReversed: fc.boolean() }),
  fc.record({ do: fc.constant("restore") }),
  fc.record({ do: fc.constant("refuse"), isOn: fc.boolean() }),
  fc.record({ do: fc.constant("bound"), most: fc.constantFrom(1, 3, Infinity) }),
  fc.record({
    do: fc.constant("live"),
    room: fc.option(room, { nil: undefined }),
    window: fc.option(fc.integer({ min: 1, max: 6 }), { nil: undefined }),
  }),
  fc.record({ do: fc.constant("grow"), pick, n: fc.integer({ min: -3, max: 5 }) }),
  fc.record({ do: fc.constant("stop"), pick }),
);

const seeded = (seed) => () => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;

async function play({ server, clock, page, open }, steps, seed) {
  const random = seeded(seed);
  Math.random = random;
  let loss = 0;
  let delay = 1;
  let isRude = false;
  // No reply to it is awaited; on an open line it arrives.
  server.loses = ({ payload }) => payload.action !== "unsubscribe" && random() < loss;
  server.latency = () => delay * random();
  server.refuses = ({ data }) =>
    isRude && data && random() < 0.5 ? { status: 400, errors: ["No."] } : null;
  const api = open({ limits: { retrySeconds: 40, retryTimes: 4, answerSeconds: 20 } });
  const lists = [];
  const outcomes = [];
  let doubled = null;
  let lastText = 0;

  const live = ({ room, window }) => {
    const query = room === undefined ? {} : { room };
    const list = api.messages.live({ query, window, credit: 4 });
    list.subscribe(() => {
      // Each write has its own text, so a row that is shown twice has its text twice.
      for (const shown of [
        list.rows.map((row) => list.keyOf(row)),
        list.rows.map(({ text }) => text),
      ]) {
        if (new Set(shown).size < shown.length) doubled ??= shown;
      }
    });
    lists.push({ list, query });
  };
  const mine = ({ action, room, pick }) => {
    const shown = lists.flatMap(({ list }) => list.rows);
    const row = shown[pick % (shown.length || 1)];
    if (action !== "create" && !row) return;
    const text = `w${++lastText}`;
    const { messages } = api;
    const call =
      action === "create"
        ? messages.create({ room, text })
        : action === "patch"
          ? messages.patch(row.id, pick % 2 ? { text } : { text, room })
          : messages.destroy(row.id);
    const outcome = { action, text, key: row?.id };
    outcomes.push(outcome);
    call.then(
      (data) => Object.assign(outcome, { data, isDone: true }),
      (error) => Object.assign(outcome, { error }),
    );
  };
  const theirs = ({ action, room, pick }) => {
    const ids = [...server.tables.messages.rows.keys()];
    server.write("messages", action, ids[pick % (ids.length || 1)], {
      room,
      text: `t${++lastText}`,
    });
  };
  const some = (pick) => lists[pick % (lists.length || 1)];
  const acts = {
    theirs,
    mine,
    live,
    pass: ({ ms }) => clock.advance(ms),
    cut: ({ code }) => server.cut(code),
    lose: ({ share }) => void (loss = share),
    delay: ({ ms }) => void (delay = ms),
    fence: ({ isOn }) => void (server.fences = () => isOn || random() < 0.5),
    order: ({ isReversed }) => {
      // Another order is another history to a position.
      server.tables.messages.order = (a, b) => (isReversed ? b.id - a.id : a.id - b.id);
    },
    restore: () => (server.epoch++, server.cut(1012)),
    refuse: ({ isOn }) => void (isRude = isOn),
    bound: ({ most }) => void (server.mostRows = most),
    grow: ({ pick, n }) => some(pick)?.list.grow(n),
    stop: ({ pick }) => {
      const gone = some(pick);
      gone?.list.stop();
      lists.splice(lists.indexOf(gone), gone ? 1 : 0);
    },
  };
  live({ room: 1 });
  live({ window: 3 });
  for (const one of steps) {
    await acts[one.do](one);
    await settle();
  }

  // Rest: the network works again.
  loss = 0;
  delay = 1;
  for (let i = 0; i < 12; i++) {
    await clock.advance(25_000);
    for (const link of server.sockets) link.beat();
  }
  await clock.advance(1_000);

  for (const { list, query } of lists) {
    assert.equal(list.status, "live");
    const expected = server.list("messages", query).slice(0, list.window);
    assert.deepEqual(list.rows, expected, `${JSON.stringify(query)} ${list.window}`);
  }
  assert.equal(doubled, null);
  assert.deepEqual(api.pending, []);
  for (const { action, text, key, isDone, error } of outcomes) {
    const times = server.writes.filter((write) =>
      action === "destroy"
        ? write.action === action && write.id === key
        : write.data?.text === text,
    ).length;
    assert.ok(isDone || error, `${action} ${text} has no outcome`);
    if (isDone && action !== "destroy") assert.equal(times, 1, `${action} ${text}`);
    if (error instanceof ApiError && action !== "destroy")
      assert.equal(times, 0, `${action} ${text}`);
    else if (error)
      assert.ok(times <= 1 && (error instanceof ConnectionLost || error instanceof ApiError));
    if (error instanceof ConnectionLost && !error.wasSent && action !== "destroy")
      assert.equal(times, 0);
  }

  for (const { list } of lists) list.stop();
  await clock.advance(1_000);
  const [link] = server.sockets;
  const orphans = [...(link?.subs.values() ?? [])].length;
  assert.equal(orphans, 0);
  api.close();
  await clock.advance(30_000);
  assert.deepEqual([clock.timers.size, page.listeners], [0, 0]);
}

test("random stories", { timeout: 600_000 }, async () => {
  const rows = Array.from({ length: 5 }, (_, i) => ({
    id: i + 1,
    room: 1 + (i % 2),
    text: `s${i}`,
  }));
  const property = fc.asyncProperty(fc.array(step, { maxLength: 40 }), fc.nat(), (steps, seed) =>
    talk({ messages: rows }, (stage) => play(stage, steps, seed))(),
  );
  await fc.assert(property, NUMBERS);
});
