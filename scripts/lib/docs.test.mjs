import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";

import { ROOT } from "./paths.mjs";

const list = (...patterns) =>
  execFileSync("git", ["ls-files", "--cached", "--others", "--exclude-standard", ...patterns], { cwd: ROOT, encoding: "utf8" })
    .split("\n")
    .filter((path) => path !== "" && existsSync(join(ROOT, path)));

const FILES = list();
const DOCUMENTS = list("*.md");
const FOLDERS = new Set(FILES.map((path) => path.split("/")).flatMap(([first, second]) => (first === "crates" ? [first, second] : [first])));

/** Where a path begins, if not at the root, is left out in texts: `session-core/src/work.rs`, `tests/start.rs`. */
const found = (path) => FILES.filter((file) => `/${file}/`.includes(`/${path.replace(/\/$/, "")}/`));

/** What stands in backticks and is meant as a file or a folder of ours. */
function paths(text) {
  const quoted = [...text.matchAll(/`([\w.-]+(?:\/[\w.-]+)*\/?)`/g)].map(([, path]) => path);
  const isFile = (path) => /\.(jsonl?|md|mjs|rs|sh|toml)$/.test(path);
  const isBelow = (path) => path.includes("/") && FOLDERS.has(path.split("/")[0]);
  return quoted.filter((path) => isFile(path) || isBelow(path));
}

test("every path that the documents name exists", () => {
  let named = 0;
  for (const document of DOCUMENTS) {
    for (const path of paths(readFileSync(join(ROOT, document), "utf8"))) {
      assert.notEqual(found(path).length, 0, `${document} names ${path}`);
      named += 1;
    }
  }
  assert.ok(named > 50, `only ${named} paths were found in the documents`);
});

test("every link between the documents leads somewhere", () => {
  for (const document of DOCUMENTS) {
    for (const [, target] of readFileSync(join(ROOT, document), "utf8").matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) {
      assert.ok(existsSync(join(ROOT, dirname(document), target)), `${document} links to ${target}`);
    }
  }
});

test("what the documents say is in a file is there", () => {
  let named = 0;
  for (const document of DOCUMENTS) {
    for (const [, path, name] of readFileSync(join(ROOT, document), "utf8").matchAll(/`([\w./-]+\.rs)`(?:, | \()`(\w+)`/g)) {
      const files = found(path).filter((file) => file.endsWith(path));
      assert.ok(files.some((file) => readFileSync(join(ROOT, file), "utf8").includes(name)), `${document}: ${name} in ${path}`);
      named += 1;
    }
  }
  assert.ok(named > 3, `only ${named} were found`);
});

/** The events that the operator's page explains in its tables of events: what stands in backticks in the first column. */
function eventsInTables(page) {
  let inTable = false;
  return page.split("\n").flatMap((row) => {
    inTable = row.startsWith("|") && (inTable || row.startsWith("| `event` |"));
    return inTable ? [...row.split("|")[1].matchAll(/`(\w+)`/g)].map(([, name]) => name).filter((name) => name !== "event") : [];
  });
}

test("every event that is logged is explained to operators, and none that is not", () => {
  const page = readFileSync(join(ROOT, "docs/operations.md"), "utf8");
  const [worker, sandboxd] = ["src/*.rs", "crates/sandboxd/src/*.rs"].map((path) =>
    list(path).map((file) => readFileSync(join(ROOT, file), "utf8")),
  );
  const named = (texts, call) => texts.flatMap((text) => [...text.matchAll(call)].map(([, name]) => name));
  const logged = [
    ...named(worker, /\blog::(?:info|error)\(\s*"(\w+)"/g),
    ...named(sandboxd, /\blog::(?:info|warn|error)\(\s*(?:"\w+"|\w+),\s*"(\w+)"/g),
  ];
  assert.ok(new Set(logged).size > 100, `only ${new Set(logged).size} were found`);
  const unexplained = logged.filter((name) => !page.includes(`\`${name}\``));
  assert.deepEqual([...new Set(unexplained)].sort(), [], "logged, and not explained in docs/operations.md");
  // Some calls are told their event: it is a word of the code all the same.
  const unknown = eventsInTables(page).filter((name) => ![...worker, ...sandboxd].some((text) => text.includes(`"${name}"`)));
  assert.deepEqual(unknown, [], "explained in docs/operations.md, and never logged");
});
