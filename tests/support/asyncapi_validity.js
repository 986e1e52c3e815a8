// Prints a line for each defect that AsyncAPI's parser finds in the documents that are named.
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

(async () => {
  const parser = new Parser();
  for (const name of process.argv.slice(2)) {
    for (const found of await parser.validate(readFileSync(name, "utf8")))
      console.log(`${name}: ${found.code} at ${found.path.join(".")}: ${found.message}`);
  }
})();
