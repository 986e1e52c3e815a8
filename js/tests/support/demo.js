/* The demo on a real server, and its users. */

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import WebSocket from "ws";

const python = process.env.DEMO_PYTHON ?? "python3";
const manage = fileURLToPath(new URL("../../../demo/manage.py", import.meta.url));

export class Demo {
  #directory = mkdtempSync(join(tmpdir(), "demo-"));
  #process;
  #port;

  async start() {
    this.#port ??= await freePort();
    const env = { ...process.env, DEMO_DATABASE: join(this.#directory, "demo.sqlite3") };
    const process_ = spawn(python, [manage, "demo", "--port", String(this.#port)], {
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

  async stop() {
    await this.kill();
    rmSync(this.#directory, { recursive: true });
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

function freePort() {
  return new Promise((resolve) => {
    const server = createServer().listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
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
