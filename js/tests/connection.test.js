/* The connection: when it is lost, why, and when it is opened again. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { ConnectionLost } from "rest-channels";
import { settle } from "./support/clock.js";
import { story } from "./support/sockets.js";

const wait = (api) => api.state.retryAt - Date.now();

// Half of each bound, because chance is one half here.
const CODES = [
  [1000, 2_500],
  [1001, 2_500],
  [1006, 2_500],
  [1011, 2_500],
  [4011, 2_500],
  [4408, 2_500],
  [1012, 1_000],
  [4012, 1_000],
  [4429, 15_000],
];
for (const [code, delay] of CODES) {
  test(
    `after ${code} it connects again, after a random time`,
    story(async ({ start, sockets, clock }) => {
      const api = await start();
      sockets.last.end(code);
      assert.deepEqual(api.state, { name: "waiting", retryAt: clock.now + delay, code });
      await clock.advance(delay - 1);
      assert.equal(sockets.all.length, 1);
      await clock.advance(1);
      assert.equal(sockets.all.length, 2);
    }),
  );
}

const FINAL = [1009, 4009, 4403, 4404];
for (const code of FINAL) {
  test(
    `${code} is final until reconnect()`,
    story(async ({ start, sockets, clock, page }) => {
      const api = await start();
      const lost = api.messages.list();
      sockets.last.end(code);
      assert.deepEqual(api.state, { name: "closed", retryAt: null, code });
      await assert.rejects(lost, ConnectionLost);
      await assert.rejects(api.messages.list(), { wasSent: false });
      page.document.show();
      page.dispatch("online");
      await clock.advance(600_000);
      assert.equal(sockets.all.length, 1);
      api.reconnect();
      await settle();
      sockets.last.accept();
      assert.deepEqual([sockets.all.length, api.state.name], [2, "connected"]);
    }),
  );
}

test("no close code of the protocol is left out here", () => {
  const text = readFileSync(new URL("../../docs/protocol.md", import.meta.url), "utf8");
  const [section] = text.split("\n## Close codes\n")[1].split("\n## ");
  const codes = new Set(section.match(/\b[14]\d{3}\b/g).map(Number));
  const tested = [...CODES.map(([code]) => code), ...FINAL, 4401];
  assert.ok(codes.size > 10);
  assert.deepEqual([...codes].filter((code) => !tested.includes(code)), []);
});

test(
  "4401 without credentials of its own is signed-out",
  story(async ({ start, sockets, clock }) => {
    const api = await start();
    const rooms = api.rooms.live();
    sockets.last.reply(sockets.last.frames()[0], 201, {
      data: [{ id: 1 }],
      position: "p",
      resumed: false,
    });
    await clock.advance(0);
    assert.equal(rooms.rows.length, 1);
    sockets.last.end(4401);
    await clock.advance(600_000);
    assert.deepEqual(api.state, { name: "signed-out", retryAt: null, code: 4401 });
    assert.equal(sockets.all.length, 1);
    assert.deepEqual([rooms.rows.length, rooms.status], [0, "denied"]);
    api.reconnect();
    await settle();
    sockets.last.accept();
    assert.equal(sockets.last.frames("subscribe")[0].since, undefined);
  }),
);

test(
  "4403 empties live lists, and drops what was kept over a reload",
  story(async ({ start, sockets, clock, page }) => {
    const api = await start({ persist: "session", user: 1 });
    const rooms = api.rooms.live();
    sockets.last.reply(sockets.last.frames()[0], 201, {
      data: [{ id: 1 }],
      position: "p",
      resumed: false,
    });
    await clock.advance(0);
    page.dispatch("pagehide");
    assert.equal(Object.keys(page.sessionStorage).length, 1);
    api.reconnect();
    await settle();
    sockets.last.end(4403);
    await clock.advance(0);
    assert.deepEqual([rooms.rows, rooms.status, api.state.name], [[], "denied", "closed"]);
    assert.deepEqual(Object.keys(page.sessionStorage), []);
  }),
);

test(
  "at 4401 auth is called again, and signed-out comes only if that does not help",
  story(async ({ start, sockets, clock }) => {
    const asked = [];
    const auth = async (isExpired) => (asked.push(isExpired), `Bearer ${asked.length}`);
    const api = await start({ auth });
    const token = (n) => `authorization.${btoa(`Bearer ${n}`).replace(/=/g, "")}`;
    assert.deepEqual(sockets.last.protocols, ["rest-channels", token(1)]);
    const kept = api.messages.list();
    sockets.last.end(4401);
    await settle();
    assert.deepEqual(sockets.last.protocols, ["rest-channels", token(2)]);
    sockets.last.accept();
    sockets.last.reply(sockets.last.frames("list")[0], 200, { data: [] });
    assert.deepEqual(await kept, []);
    sockets.last.end(4401); // the second token has expired as well: that is another matter
    await settle();
    assert.equal(sockets.all.length, 3);
    sockets.last.end(4401); // but the third is refused at once
    assert.equal(api.state.name, "signed-out");
    assert.deepEqual(asked, [false, true, true]);
  }),
);

test(
  "auth without a value is signed-out, and auth that fails is tried again",
  story(async ({ open, sockets, clock }) => {
    const anonymous = open({ auth: () => null });
    await settle();
    assert.equal(anonymous.state.name, "signed-out");
    let attempts = 0;
    const { error } = console;
    console.error = () => {};
    const flaky = open({
      auth: async () => {
        if (attempts++ === 0) throw new Error("offline");
        return "Token t";
      },
    });
    await settle();
    assert.equal(flaky.state.name, "waiting");
    await clock.advance(2_500);
    console.error = error;
    assert.equal(sockets.all.length, 1);
  }),
);

test(
  "the back-off doubles up to a minute, and only an answer resets it",
  story(async ({ open, sockets, clock }) => {
    const api = open();
    await settle();
    const delays = [];
    for (let i = 0; i < 7; i++) {
      sockets.last.readyState = 1;
      sockets.last.onopen({}); // open, and lost before it has answered anything
      sockets.last.end(1006);
      delays.push(wait(api));
      await clock.advance(wait(api));
    }
    assert.deepEqual(delays, [2_500, 5_000, 10_000, 20_000, 30_000, 30_000, 30_000]);
    sockets.last.accept();
    sockets.last.end(1006);
    assert.equal(wait(api), 2_500);
  }),
);

test(
  "503 does not reset the back-off, and its Retry-After is obeyed",
  story(async ({ start, sockets, clock, page }) => {
    const api = await start();
    api.messages.list().catch(() => {});
    sockets.last.reply(sockets.last.frames()[0], 503, {
      codes: ["unavailable"],
      headers: { "Retry-After": "9" },
    });
    sockets.last.end(1012);
    assert.equal(wait(api), 9_000);
    page.dispatch("online");
    assert.equal(wait(api), 9_000);
  }),
);

test(
  "a handshake without an answer is given up",
  story(async ({ open, sockets, clock }) => {
    const api = open();
    await clock.advance(9_999);
    assert.equal(api.state.name, "connecting");
    await clock.advance(1);
    assert.deepEqual([api.state.name, sockets.last.readyState], ["waiting", 3]);
  }),
);

test(
  "online and a page that is seen again connect at once",
  story(async ({ start, sockets, clock, page }) => {
    await start();
    await clock.advance(5_000);
    for (const wake of [() => page.dispatch("online"), () => page.document.show()]) {
      const before = sockets.all.length;
      sockets.last.end(1006);
      wake();
      await clock.advance(0);
      assert.equal(sockets.all.length, before + 1);
      sockets.last.accept();
      await clock.advance(5_000);
      sockets.last.receive(null, { action: "ping", response_status: 200 });
    }
  }),
);

test(
  "but not more than once a second",
  story(async ({ start, sockets, clock, page }) => {
    await start();
    sockets.last.end(1006);
    for (let i = 0; i < 5; i++) page.document.show();
    await clock.advance(999);
    assert.equal(sockets.all.length, 1);
    await clock.advance(1);
    assert.equal(sockets.all.length, 2);
  }),
);

test(
  "a page that has been hidden for long connects when it is seen",
  story(async ({ start, sockets, clock, page }) => {
    const api = await start();
    page.document.hide();
    await clock.advance(1_000);
    sockets.last.end(1006);
    await clock.advance(2_500);
    assert.equal(sockets.all.length, 2); // hidden, but not for long
    sockets.last.accept();
    for (let i = 0; i < 40; i++) {
      await clock.advance(9_000);
      sockets.last.receive(null, { action: "ping", response_status: 200 });
    }
    sockets.last.end(1006);
    await clock.advance(3_600_000);
    assert.deepEqual([sockets.all.length, api.state.name, api.state.retryAt], [2, "waiting", null]);
    page.document.show();
    await clock.advance(0);
    assert.equal(sockets.all.length, 3);
  }),
);

test(
  "after silence it pings, and a line without an answer is dead",
  story(async ({ start, sockets, clock }) => {
    const api = await start();
    const pings = () => sockets.last.sent.filter(({ payload }) => payload.action === "ping").length;
    assert.equal(pings(), 1); // the first proves the connection
    await clock.advance(10_000);
    assert.equal(pings(), 2);
    sockets.last.receive(null, { action: "alive", response_status: 200, request_id: null });
    await clock.advance(14_999);
    assert.equal(api.state.name, "connected");
    await clock.advance(1);
    assert.deepEqual([api.state.name, sockets.all[0].readyState], ["waiting", 3]);
  }),
);

test(
  "after a night asleep it pings before it judges",
  story(async ({ start, sockets, clock }) => {
    const api = await start();
    await clock.advance(10_000); // a ping is on its way
    clock.sleep(8 * 3_600_000);
    await clock.advance(0); // the timer that was due in the night
    assert.equal(api.state.name, "connected");
    sockets.last.receive(null, { action: "ping", response_status: 200 });
    await clock.advance(9_000);
    assert.equal(api.state.name, "connected");
  }),
);

test(
  "a server that answers pings but not a frame is given up, and asked again",
  story(async ({ start, sockets, clock }) => {
    const api = await start();
    const answer = api.messages.list();
    for (let i = 0; i < 10; i++) {
      assert.equal(api.state.name, "connected");
      await clock.advance(6_000);
      sockets.last.receive(null, { action: "ping", response_status: 200 });
    }
    assert.equal(api.state.name, "waiting");
    await clock.advance(2_500);
    sockets.last.accept();
    sockets.last.reply(sockets.last.frames("list")[0], 200, { data: [] });
    assert.deepEqual(await answer, []);
  }),
);

test(
  "a message that is not JSON ends the connection",
  story(async ({ start, sockets }) => {
    const api = await start();
    sockets.last.onmessage({ data: "<html>" });
    assert.equal(api.state.name, "waiting");
  }),
);

test(
  "a page that is left has no socket, and one that comes back connects",
  story(async ({ start, sockets, clock, page }) => {
    await start();
    page.dispatch("pagehide");
    assert.equal(sockets.last.readyState, 3);
    page.dispatch("pageshow", { persisted: true });
    await clock.advance(1_000);
    assert.equal(sockets.all.length, 2);
  }),
);

test(
  "close() ends everything: socket, timers, listeners, requests",
  story(async ({ start, sockets, clock, page }) => {
    const api = await start();
    const rooms = api.rooms.live();
    const lost = api.messages.list();
    const states = [];
    api.subscribe(() => states.push(api.state.name));
    api.close();
    await assert.rejects(lost, { wasSent: true });
    assert.equal(api.state.name, "closed");
    rooms.stop();
    await clock.advance(0);
    assert.deepEqual([sockets.last.readyState, clock.timers.size], [3, 0]);
    await assert.rejects(api.messages.list(), { wasSent: false });
    assert.ok(states.includes("closed"));
  }),
);

test(
  "without a page, as in Node, it works too",
  story(
    async ({ start, sockets }) => {
      const api = await start({}, "http://example.test/");
      assert.equal(sockets.last.url, "ws://example.test/");
      assert.equal(api.state.name, "connected");
    },
    { hasPage: false },
  ),
);

// Requests over a lost connection

test(
  "reads and keyed writes are repeated in order, with the same key; own actions are not",
  story(async ({ start, sockets, clock }) => {
    const api = await start();
    const list = api.messages.list();
    const pin = api.messages.pin({ pk: 1 });
    const create = api.messages.create({ text: "Hello" });
    const { idempotency_key } = sockets.last.frames("create")[0];
    assert.deepEqual(api.pending, [
      {
        stream: "messages",
        action: "create",
        pk: undefined,
        data: { text: "Hello" },
        wasSent: true,
      },
    ]);
    sockets.last.end(1006);
    await assert.rejects(pin, { wasSent: true });
    const late = api.messages.destroy(9);
    await clock.advance(2_500);
    sockets.last.accept();
    assert.deepEqual(
      sockets.last.frames().map(({ action }) => action),
      ["list", "create", "destroy"],
    );
    assert.equal(sockets.last.frames("create")[0].idempotency_key, idempotency_key);
    for (const frame of sockets.last.frames())
      sockets.last.reply(frame, 200, { data: frame.action, replayed: true });
    assert.deepEqual(await Promise.all([list, create, late]), ["list", "create", "destroy"]);
    assert.deepEqual(api.pending, []);
  }),
);

test(
  "a write that waits for too long is rejected, and says whether it was sent",
  story(async ({ start, sockets, clock }) => {
    const api = await start({ limits: { retrySeconds: 20 } });
    const sent = api.messages.create({ text: "a" }).catch((error) => error);
    sockets.last.end(1006);
    const unsent = api.messages.create({ text: "b" }).catch((error) => error);
    assert.deepEqual(
      api.pending.map(({ wasSent }) => wasSent),
      [true, false],
    );
    await clock.advance(20_000);
    assert.deepEqual([(await sent).wasSent, (await unsent).wasSent], [true, false]);
    assert.deepEqual(api.pending, []);
  }),
);

test(
  "a write is sent only so often",
  story(async ({ start, sockets, clock }) => {
    const api = await start({ limits: { retryTimes: 3, retrySeconds: 3600 } });
    const outcome = api.messages.create({ text: "a" }).catch((error) => error);
    for (let i = 0; i < 3; i++) {
      sockets.last.end(1006);
      await clock.advance(wait(api));
      sockets.last.accept();
    }
    assert.ok((await outcome) instanceof ConnectionLost);
    assert.equal(sockets.all.flatMap((socket) => socket.frames("create")).length, 3);
  }),
);

test(
  "strangers, who may have no keys, write without one",
  story(async ({ start, sockets }) => {
    const api = await start();
    const create = api.messages.create({ text: "a" });
    sockets.last.reply(sockets.last.frames("create")[0], 403, { codes: ["not_authenticated"] });
    await settle();
    const [, bare] = sockets.last.frames("create");
    assert.equal(bare.idempotency_key, undefined);
    sockets.last.reply(bare, 201, { data: { id: 1, text: "a" } });
    assert.equal((await create).id, 1);
    api.messages.create({ text: "b" }).catch(() => {});
    assert.equal(sockets.last.frames("create")[2].idempotency_key, undefined);
  }),
);

for (const [status, keys] of [
  [
    400,
    { errors: [{ idempotency_key: ["No key here."] }], codes: [{ idempotency_key: ["invalid"] }] },
  ],
  [429, { errors: ["Too many."], codes: ["too_many_stored_replies"] }],
]) {
  test(
    `a write whose key is refused with ${status} is sent without it, the next one with one`,
    story(async ({ start, sockets }) => {
      const api = await start();
      const create = api.messages.create({ text: "a" });
      sockets.last.reply(sockets.last.frames("create")[0], status, keys);
      await settle();
      assert.equal(sockets.last.frames("create")[1].idempotency_key, undefined);
      sockets.last.reply(sockets.last.frames("create")[1], 201, { data: { id: 1 } });
      await create;
      api.messages.create({ text: "b" }).catch(() => {});
      assert.ok(sockets.last.frames("create")[2].idempotency_key);
    }),
  );
}

test(
  "a keyed write that was answered 500 is sent once more to find out; reads are not",
  story(async ({ start, sockets, clock }) => {
    const api = await start();
    const [create, list] = [api.messages.create({ text: "a" }), api.messages.list()].map((call) =>
      call.catch((error) => error),
    );
    for (const frame of sockets.last.frames())
      sockets.last.reply(frame, 500, { errors: ["Error."], codes: ["error"] });
    assert.equal((await list).status, 500);
    await clock.advance(2_000);
    const frames = sockets.last.frames("create");
    assert.equal(frames[0].idempotency_key, frames[1].idempotency_key);
    sockets.last.reply(frames[1], 500, { errors: ["Error."], codes: ["error"] });
    assert.equal((await create).status, 500);
    await clock.advance(10_000);
    assert.equal(sockets.last.frames("create").length, 2);
  }),
);
