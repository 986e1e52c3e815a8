/* The examples of docs/frontend.md, so that tests run them. */

import { mkdirSync, readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const text = readFileSync(new URL("../../../docs/frontend.md", import.meta.url), "utf8");
const here = (path) => fileURLToPath(new URL(path, import.meta.url));

/** Return the first block of code in a section of the guide. */
export function example(heading, language) {
  const section = text.split(`\n### ${heading}\n`)[1].split(/\n##/)[0];
  return section.split(`\n\`\`\`${language}\n`)[1].split("\n```")[0];
}

/** Run an example as a module, in which `./api` exports `api`; return what it exports. */
export async function run(name, contents, api, { loader = "js", plugins = [] } = {}) {
  globalThis.apiOfGuide = api;
  const outfile = here(`../../node_modules/.guide/${name}.mjs`);
  mkdirSync(here("../../node_modules/.guide"), { recursive: true });
  const own = {
    name: "api",
    setup(build) {
      build.onResolve({ filter: /^\.\/api$/ }, () => ({ path: "api", namespace: "guide" }));
      build.onLoad({ filter: /./, namespace: "guide" }, () => ({ contents: "export const api = globalThis.apiOfGuide;" }));
    },
  };
  await build({
    stdin: { contents, loader, resolveDir: here("."), sourcefile: `${name}.${loader}` },
    ...{ bundle: true, format: "esm", jsx: "automatic", outfile, plugins: [own, ...plugins], logLevel: "silent" },
    external: ["react", "react-dom", "vue", "svelte", "@tanstack/*"],
  });
  return import(`${outfile}?${Math.random()}`);
}
