/* The custom element in a browser, under a strict Content-Security-Policy. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import test from "node:test";
import { promisify } from "node:util";
import { WebSocketServer } from "ws";

const policy = "default-src 'none'; script-src 'self'; connect-src 'self'; img-src 'self'; require-trusted-types-for 'script'";
const html = `<!doctype html>
<script type="module" src="/dist/live-list.js"></script>
<live-list stream="messages"><template><p class="{kind}"><i data-text="text"></i><img src="/drawn/{id}"></p></template></live-list>
<img src="/until-all-is-drawn">`;
const rows = [{ id: 1, text: "<b>one</b>", kind: "note" }, { id: 2, text: "two", kind: "note" }];

/** Serve the page. It is loaded, for the browser, once both rows have asked for their images. */
function serve() {
  const waiting = new Set(["/until-all-is-drawn", "/drawn/1", "/drawn/2"]);
  const images = [];
  return createServer((request, response) => {
    response.setHeader("content-security-policy", policy);
    if (request.url.startsWith("/dist/")) {
      response.setHeader("content-type", "text/javascript");
      return response.end(readFileSync(new URL(`../..${request.url}`, import.meta.url)));
    }
    response.setHeader("content-type", "text/html");
    if (request.url === "/") return response.end(html);
    waiting.delete(request.url);
    images.push(response);
    if (!waiting.size) images.forEach((image) => image.end());
  });
}

test("a page under a strict policy shows a live list, and its rows as text", async (context) => {
  const server = serve();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const sockets = new WebSocketServer({ server });
  sockets.on("connection", (socket) => {
    socket.on("message", (text) => {
      const { stream, payload: { action, request_id } } = JSON.parse(text);
      const payload = { action, request_id, errors: [], response_status: 200, data: rows, position: "a", resumed: false };
      socket.send(JSON.stringify({ stream, payload }));
    });
  });
  context.after(() => {
    for (const socket of sockets.clients) socket.terminate();
    server.closeAllConnections();
    server.close();
  });
  const flags = ["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", `http://127.0.0.1:${server.address().port}/`];
  const { stdout } = await promisify(execFile)(process.env.CHROMIUM ?? "chromium", flags, { timeout: 60_000 });
  assert.match(stdout, /<p class="note" data-key="1"><i data-text="text">&lt;b&gt;one&lt;\/b&gt;<\/i>/);
  assert.match(stdout, /<p class="note" data-key="2"><i data-text="text">two<\/i>/);
});
