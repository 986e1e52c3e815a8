/* Two clients write while their server is killed and started again, at random moments. */

import assert from "node:assert/strict";
import test from "node:test";
import { Demo, hall, hasPostgreSQL, live, texts, until } from "../support/demo.js";

for (const options of [{ server: "uvicorn" }, { server: "daphne", isOnPostgreSQL: true }]) {
  const title = `while ${options.server} is killed again and again, every write happens once`;
  const skip = !!options.isOnPostgreSQL && !(await hasPostgreSQL()) && "PostgreSQL does not answer";
  test(title, { skip }, async (context) => {
    const demo = await new Demo(options).start();
    context.after(() => demo.stop());
    const [ann, bob] = [await demo.open("ann"), await demo.open("bob")];
    const [a, b] = [await hall(ann), await hall(bob)];
    const window = bob.messages.live({ query: { room: b.room }, window: 5 });
    const doubled = [];
    for (const { list } of [a, b]) {
      list.subscribe(() => {
        const mine = texts(list).filter((text) => text.startsWith("storm"));
        if (new Set(mine).size < mine.length) doubled.push(mine);
      });
    }
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
    for (let i = 0; i < 2; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100 + 600 * Math.random()));
      await demo.kill();
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
    assert.deepEqual(doubled, []);
  });
}
