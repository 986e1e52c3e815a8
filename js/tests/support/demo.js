/* The demo on a real server, and its users. */

import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { connect as connectTo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { connect } from "rest-channels";
import WebSocket from "ws";

const python = process.env.DEMO_PYTHON ?? "python3";
const serve = fileURLToPath(new URL("serve.py", import.meta.url));

export class Demo {
  /** The connections of its users. */
  apis = [];
  #directory = mkdtempSync(join(tmpdir(), "demo-"));
  #process;
  #port;
  #server;
  #database;

  /** @param {{ server?: "uvicorn" | "daphne", isOnPostgreSQL?: boolean }} [options] */
  constructor({ server = "uvicorn", isOnPostgreSQL = false } = {}) {
    this.#server = server;
    this.#database = isOnPostgreSQL ? [`rest_channels_js_${server}_${process.pid}`] : [];
  }

  async start() {
    this.#port ??= await freePort();
    const env = { ...process.env, DEMO_DATABASE: join(this.#directory, "demo.sqlite3") };
    const process_ = spawn(python, [serve, this.#server, String(this.#port), ...this.#database], {
      env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    this.#process = process_;
    await new Promise((resolve, reject) => {
      let text = "";
      process_.stdout.on("data", (some) => (text += some).includes("http://") && resolve());
      process_.once("exit", (code) => reject(new Error(`The demo ended with ${code}: ${text}`)));
    });
    return this;
  }

  /** End the process, by default without a word. */
  async kill(signal = "SIGKILL") {
    const gone = new Promise((resolve) => this.#process.once("exit", resolve));
    this.#process.kill(signal);
    await gone;
  }

  /** Connect as a user. */
  async open(username) {
    const api = connect(this.url, await this.signIn(username));
    this.apis.push(api);
    await until(api, ({ state }) => state.name === "connected");
    return api;
  }

  /** Close the connections of all users. */
  leave() {
    for (const api of this.apis.splice(0)) api.close();
  }

  async stop() {
    this.leave();
    await this.kill();
    rmSync(this.#directory, { recursive: true });
    for (const name of this.#database) execFileSync(python, [serve, "drop", name]);
  }

  get url() {
    return `http://127.0.0.1:${this.#port}/`;
  }

  /** Sign a user in; return what a browser would send, and a function that signs out. */
  async signIn(username) {
    const page = await fetch(`${this.url}sign-in/`);
    const token = /csrfmiddlewaretoken" value="(\w+)"/.exec(await page.text())[1];
    const post = (path, data, cookie) =>
      fetch(this.url + path, {
        method: "POST",
        redirect: "manual",
        headers: { cookie, "content-type": "application/x-www-form-urlencoded", referer: this.url },
        body: new URLSearchParams({ csrfmiddlewaretoken: token, ...data }),
      });
    const csrf = cookies(page);
    const answer = await post("sign-in/", { username, password: "demo" }, csrf);
    if (answer.status !== 302) throw new Error(`${username} cannot sign in: ${answer.status}`);
    const cookie = `${cookies(answer)}`;
    const Socket = class extends WebSocket {
      constructor(url, protocols) {
        super(url, protocols, { headers: { cookie } });
      }
    };
    return { WebSocket: Socket, cookie };
  }
}

const cookies = (response) =>
  response.headers
    .getSetCookie()
    .map((cookie) => cookie.split(";")[0])
    .join("; ");

/** Return whether PostgreSQL answers; with REQUIRE_SERVICES=1 it has to. */
export function hasPostgreSQL() {
  const { PGHOST = "127.0.0.1", PGPORT = 5432, REQUIRE_SERVICES } = process.env;
  return new Promise((resolve) => {
    const socket = connectTo(Number(PGPORT), PGHOST);
    const answer = (isThere) => (socket.destroy(), resolve(isThere || !!REQUIRE_SERVICES));
    socket.on("connect", () => answer(true)).on("error", () => answer(false));
  });
}

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

export const live = (list) => until(list, ({ status }) => status === "live");
export const texts = ({ rows }) => rows.map(({ text }) => text);

/** Return a room that all may see, and the live list of its messages. */
export async function hall(api) {
  const rooms = api.rooms.live();
  await live(rooms);
  const room = rooms.rows.find(({ staff_only }) => !staff_only).id;
  rooms.stop();
  const list = api.messages.live({ query: { room } });
  await live(list);
  return { room, list };
}

/** Wait until `condition` holds of a store, called after each of its changes. */
export function until(store, condition, seconds = 20) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      stop();
      reject(new Error(`Not within ${seconds} s: ${condition}`));
    }, 1000 * seconds);
    const look = () => {
      if (!condition(store)) return;
      clearTimeout(timer);
      stop();
      resolve();
    };
    const stop = store.subscribe(look);
    look();
  });
}
