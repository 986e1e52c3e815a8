/*
 * Make what npm publishes, `dist/`: the modules of the Python package as they are, and their types.
 */

import { execFileSync } from "node:child_process";
import { cpSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const source = here("../rest_channels/static/rest_channels/");
const dist = here("dist/");

rmSync(dist, { recursive: true, force: true });
mkdirSync(dist);
// A folder belongs to a page of the Python package.
for (const file of readdirSync(source, { withFileTypes: true }))
  if (file.isFile()) cpSync(source + file.name, dist + file.name);
cpSync(here("../LICENSE"), here("LICENSE"));
const types = ["--declaration", "--emitDeclarationOnly", "--noEmit", "false", "--outDir", dist];
execFileSync(here("node_modules/.bin/tsc"), ["--project", here("tsconfig.json"), ...types], {
  stdio: "inherit",
});
