/* The package that npm publishes. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync, readdirSync } from "node:fs";
import test from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../", import.meta.url));
const read = (path) => readFileSync(root + path, "utf8");
const manifest = JSON.parse(read("package.json"));

test("version and license are those of the Python package, and its text is a part", () => {
  assert.ok(read("../rest_channels/__init__.py").includes(`\n__version__ = "${manifest.version}"\n`));
  assert.ok(read("../setup.cfg").includes(`\nlicense = ${manifest.license}\n`));
  assert.equal(read("LICENSE"), read("../LICENSE"));
});

test("it is public, has its provenance attested, and depends on nothing", () => {
  assert.deepEqual(manifest.publishConfig, { access: "public", provenance: true });
  assert.equal(manifest.dependencies, undefined);
  assert.ok(Object.values(manifest.peerDependenciesMeta).every(({ optional }) => optional));
  assert.deepEqual(Object.keys(manifest.peerDependencies), Object.keys(manifest.peerDependenciesMeta));
});

test("the package holds the modules with their types, and no test", () => {
  const [{ files }] = JSON.parse(
    execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: root, encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
  );
  const paths = files.map(({ path }) => path);
  const modules = readdirSync(`${root}../rest_channels/static/rest_channels`).filter((name) => name.endsWith(".js"));
  const types = modules.map((name) => name.replace(".js", ".d.ts"));
  const expected = [...modules, ...types, "types.d.ts"].map((name) => `dist/${name}`);
  assert.deepEqual(paths.toSorted(), [...expected, "LICENSE", "README.md", "package.json"].toSorted());
  for (const target of Object.values(manifest.exports).flatMap((entry) => Object.values(Object(entry) === entry ? entry : {})))
    assert.ok(existsSync(root + target), target);
});
