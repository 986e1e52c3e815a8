/* The size of the download. */

import assert from "node:assert/strict";
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
    later: Object.fromEntries(outputFiles.filter(isLater).map((file) => [file.path, bytes(file)])),
  };
}

// The download for `import { connect }`: requests, live lists, the connection, optimistic writes and their repetition.
test("client.js, minified and compressed, is small", async (context) => {
  const { atOnce, later } = await sizes("client");
  context.diagnostic(`${atOnce} bytes, and when they are used: ${JSON.stringify(later)}`);
  assert.ok(atOnce <= 8_000, `${atOnce} bytes`);
  assert.equal(Object.keys(later).length, 4);
  for (const [name, bytes] of Object.entries(later)) assert.ok(bytes < 750, `${name}: ${bytes} bytes`);
});

// Without the client and the framework, which a page has anyway. `template` is the other part of `live-list`.
for (const name of ["react", "vue", "svelte", "live-list", "template", "tanstack-db", "query", "htmx"]) {
  test(`${name}.js adds less than a kilobyte`, async (context) => {
    const { atOnce: bytes } = await sizes(name, { external: ["./client.js", "./shared.js", "./template.js"], packages: "external" });
    context.diagnostic(`${bytes} bytes`);
    assert.ok(bytes < 1024, `${bytes} bytes`);
  });
}

test("dcrf.js, the API of another package, adds less than one and a half", async (context) => {
  const { atOnce: bytes } = await sizes("dcrf", { external: ["./client.js", "./subscription.js"] });
  context.diagnostic(`${bytes} bytes`);
  assert.ok(bytes < 1536, `${bytes} bytes`);
});
