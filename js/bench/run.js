/*
 * Measure a live list of 10,000 rows in Chromium: `npm run bench`, and with `-- --memory` also an
 * hour's worth of events.
 */

import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { loadavg, tmpdir } from "node:os";
import { join } from "node:path";
import { text } from "node:stream/consumers";

const html = `<!doctype html><title>Benchmark</title><script type="module" src="/bench/page.js"></script>`;
const load = () => Number(loadavg()[0].toFixed(1));

const results = {};
results.promise = new Promise((resolve) => (results.resolve = resolve));

const server = createServer(async (request, response) => {
  const path = request.url.split("?")[0];
  if (request.method === "POST") {
    results.resolve(JSON.parse(await text(request)));
    return response.end();
  }
  if (path === "/") return response.setHeader("content-type", "text/html").end(html);
  if (!/^\/(bench|dist)\/[\w-]+\.js$/.test(path)) return response.writeHead(404).end();
  response.setHeader("content-type", "text/javascript").end(readFileSync(new URL(`..${path}`, import.meta.url)));
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));

const profile = mkdtempSync(join(tmpdir(), "rest-channels-bench-"));
const before = load();
const chromium = spawn(process.env.CHROMIUM ?? "chromium", [
  ...["--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--no-proxy-server"],
  ...["--disable-background-networking", "--disable-dev-shm-usage", `--user-data-dir=${profile}`],
  ...["--enable-precise-memory-info", "--js-flags=--expose-gc"],
  `http://127.0.0.1:${server.address().port}/${process.argv.includes("--memory") ? "?memory" : ""}`,
], { stdio: "ignore" });
const ended = new Promise((resolve) => chromium.once("exit", resolve));
const failed = ended.then((code) => Promise.reject(new Error(`Chromium ended with ${code}.`)));
try {
  const result = await Promise.race([results.promise, failed]);
  console.log(JSON.stringify({ "load of the machine": [before, load()], ...result }, null, 2));
} finally {
  chromium.kill();
  await ended;
  server.closeAllConnections();
  server.close();
  rmSync(profile, { recursive: true, force: true, maxRetries: 20, retryDelay: 100 });
}
