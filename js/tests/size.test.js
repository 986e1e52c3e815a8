/* The size of the download. */

import assert from "node:assert/strict";
import test from "node:test";
import { gzipSync } from "node:zlib";
import { build } from "esbuild";

const dist = (name) => new URL(`../dist/${name}.js`, import.meta.url).pathname;

async function size(name, options = {}) {
  const { outputFiles } = await build({
    entryPoints: [dist(name)],
    ...{ bundle: true, minify: true, format: "esm", write: false, target: "es2022", ...options },
  });
  return gzipSync(outputFiles[0].contents, { level: 9 }).length;
}

const sizes = { client: 9 * 1024 };
for (const [name, bound] of Object.entries(sizes)) {
  test(`${name}.js, minified and compressed, is small`, async (context) => {
    const bytes = await size(name);
    context.diagnostic(`${bytes} bytes`);
    assert.ok(bytes <= bound, `${bytes} bytes are more than ${bound}`);
  });
}

// Without the client and the framework, which a page has anyway. `template` is the other part of `live-list`.
for (const name of ["react", "vue", "svelte", "live-list", "template", "tanstack-db", "query", "htmx"]) {
  test(`${name}.js adds less than a kilobyte`, async (context) => {
    const bytes = await size(name, { external: ["./client.js", "./shared.js", "./template.js"], packages: "external" });
    context.diagnostic(`${bytes} bytes`);
    assert.ok(bytes < 1024, `${bytes} bytes`);
  });
}
