/* The size of the download. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const dist = (name) => new URL(`../dist/${name}.js`, import.meta.url).pathname;

/** Bundle a module; return the bytes of what it imports at once, and of what it imports when that is used. */
async function sizes(name, options = {}) {
  const { outputFiles, metafile } = await build({
    entryPoints: [dist(name)],
    ...{ bundle: true, minify: true, format: "esm", write: false, target: "es2022" },
    ...{ splitting: true, metafile: true, outdir: "/out", absWorkingDir: "/", tsconfigRaw: "{}", ...options },
  });
  const bytes = ({ contents }) => gzipSync(contents, { level: 9 }).length;
  const later = Object.values(metafile.outputs).flatMap(({ imports }) =>
    imports.filter(({ kind }) => kind === "dynamic-import").map(({ path }) => `/${path}`),
  );
  const isLater = ({ path }) => later.includes(path);
  return {
    atOnce: outputFiles.filter((file) => !isLater(file)).reduce((sum, file) => sum + bytes(file), 0),
    later: Object.fromEntries(outputFiles.filter(isLater).map((file) => [/(\w+)-\w+\.js$/.exec(file.path)[1], bytes(file)])),
  };
}

// The download for `import { connect }`: requests, the connection, subscriptions, and writes that are sent once.
// The rest is loaded when a page first uses it, while the socket is being opened.
const LATER = { live: 2_600, room: 750, session: 550, iterators: 450, watch: 300 };

test("client.js, minified and compressed, is at most 6 KB", async (context) => {
  const { atOnce, later } = await sizes("client");
  context.diagnostic(`${atOnce} bytes, and when they are used: ${JSON.stringify(later)}`);
  assert.ok(atOnce <= 6 * 1024, `${atOnce} bytes`);
  assert.deepEqual(Object.keys(later).sort(), Object.keys(LATER).sort());
  for (const [name, most] of Object.entries(LATER)) assert.ok(later[name] <= most, `${name}: ${later[name]} bytes`);
});

// Without the client and the framework, which a page has anyway. `template` is the other part of `live-list`, and `observe`
// the subscriptions of `dcrf`.
const BINDINGS = ["react", "vue", "svelte", "live-list", "template", "tanstack-db", "query", "htmx", "dcrf", "observe"];
const SHARED = ["client", "subscription", "shared", "template"].map((name) => `./${name}.js`);

/** The lines of a module that hold code. */
function linesOf(name) {
  const text = readFileSync(dist(name), "utf8").replace(/\/\*.*?\*\//gs, "");
  return text.split("\n").filter((line) => line.trim() && !line.trim().startsWith("//")).length;
}

for (const name of BINDINGS) {
  test(`${name}.js adds less than a kilobyte, and has less than 60 lines`, async (context) => {
    const { atOnce: bytes } = await sizes(name, { external: SHARED, packages: "external" });
    context.diagnostic(`${bytes} bytes, ${linesOf(name)} lines`);
    assert.ok(bytes < 1024, `${bytes} bytes`);
    assert.ok(linesOf(name) < 60, `${linesOf(name)} lines`);
  });
}
