/* Two clients write while their server is killed and started again, at random moments: all servers at once. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Demo, hall, hasPostgreSQL, live, texts, until } from "../support/demo.js";

const servers = ["uvicorn", "daphne"].flatMap((server) => [
  { server, isOnPostgreSQL: false },
  { server, isOnPostgreSQL: true },
]);

/** Note texts that a list shows twice at once, and those that disappear and come back. */
function inspect(list, doubled, flickers) {
  const gone = new Set();
  let shown = [];
  list.subscribe(() => {
    const now = texts(list).filter((text) => text.startsWith("storm"));
    if (new Set(now).size < now.length) doubled.push(now);
    flickers.push(...now.filter((text) => gone.has(text)));
    for (const text of shown) if (!now.includes(text)) gone.add(text);
    shown = now;
  });
}

describe("every write happens once", { concurrency: servers.length }, async () => {
  const skipped = !(await hasPostgreSQL()) && "PostgreSQL does not answer";
  for (const options of servers) {
    const { server, isOnPostgreSQL } = options;
    const title = `while ${server} on ${isOnPostgreSQL ? "PostgreSQL" : "SQLite"} is killed and started again`;
    test(title, { skip: isOnPostgreSQL && skipped }, (context) => storm(context, options));
  }
});

async function storm(context, options) {
  const demo = await new Demo(options).start();
  context.after(() => demo.stop());
  const [ann, bob] = [await demo.open("ann"), await demo.open("bob")];
  const [a, b] = [await hall(ann), await hall(bob)];
  const window = bob.messages.live({ query: { room: b.room }, window: 5 });
  const [doubled, flickers] = [[], []];
  for (const { list } of [a, b]) inspect(list, doubled, flickers);
  const writes = [];
  let isOver = false;
  const write = async (api, name) => {
    for (let i = 0; !isOver; i++) {
      const text = `storm ${name} ${i}`;
      await api.messages.create({ room: a.room, text }).then(
        () => writes.push({ text, isDone: true }),
        (error) => writes.push({ text, error }),
      );
    }
  };
  const writers = [write(ann, "ann"), write(bob, "bob")];
  // A crash, and a deployment under load; daphne takes ten seconds to stop.
  for (const signal of ["SIGKILL", options.server === "uvicorn" ? "SIGTERM" : "SIGKILL"]) {
    await new Promise((resolve) => setTimeout(resolve, 100 + 600 * Math.random()));
    await demo.kill(signal);
    await demo.start();
    ann.reconnect();
    bob.reconnect();
    await until(ann, ({ state }) => state.name === "connected");
  }
  const isDone = ({ isDone }) => isDone;
  const enough = writes.filter(isDone).length + 4;
  while (writes.filter(isDone).length < enough) await new Promise((resolve) => setTimeout(resolve, 20));
  isOver = true;
  await Promise.all(writers);
  await Promise.all([a.list, b.list, window].map(live));
  const fresh = await hall(await demo.open("ann"));
  const same = (list, rows) => JSON.stringify(list.rows) === JSON.stringify(rows);
  await until(a.list, (list) => same(list, fresh.list.rows));
  await until(b.list, (list) => same(list, fresh.list.rows));
  await until(window, (list) => same(list, fresh.list.rows.slice(0, 5)));
  const times = (text) => fresh.list.rows.filter((row) => row.text === text).length;
  for (const { text, isDone } of writes)
    assert.ok(isDone ? times(text) === 1 : times(text) <= 1, text);
  assert.deepEqual([doubled, flickers], [[], []]);
}
