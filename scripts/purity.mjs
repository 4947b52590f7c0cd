#!/usr/bin/env node
// Checks that the cores are pure (docs/ARCHITECTURE.md): they build for wasm, and know no runtime, no clock and no chance.
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { ask, step } from "./lib/command.mjs";
import { Failure, run } from "./lib/failure.mjs";
import { ROOT } from "./lib/paths.mjs";

const CORES = ["protocol", "database", "object-core", "session-core", "town-core", "sandbox-core"];
/** Neither has the simulation, which runs natively: the same seed gives the same bytes. */
const NATIVE = ["simulation"];
const TARGET = "wasm32-unknown-unknown";

/** Crates that bring a runtime or randomness. */
const CRATES = /^(worker(-.*)?|js-sys|web-sys|wasm-bindgen(-.*)?|tokio(-.*)?|rand(_.*)?|getrandom|fastrand)$/;
/** What no source of a core may name outside of comments; a module of its own may have such a name. */
const NAMES = /(?<!::)\b(?:(?:worker|js_sys|web_sys|wasm_bindgen|tokio|rand|getrandom|fastrand)\s*::|SystemTime\b|Instant\b)/;

await run(async () => {
  const findings = [
    ...CORES.flatMap((core) => inDependencies(core)),
    ...[...CORES, ...NATIVE].flatMap((core) => inSources(join("crates", core, "src"))),
  ];
  if (findings.length > 0) throw new Failure("A core is not pure.", { detail: findings.join("\n") });
  const packages = CORES.flatMap((core) => ["--package", core]);
  await step("Building the cores for wasm", "cargo", ["check", "--lib", "--locked", "--target", TARGET, ...packages], { cwd: ROOT });
});

function inDependencies(core) {
  const tree = ask("cargo", ["tree", "--locked", "-e", "normal", "--prefix", "none", "--target", TARGET, "-p", core], { cwd: ROOT });
  if (tree === undefined) throw new Failure(`cargo cannot list the dependencies of ${core}: run \`cargo tree -p ${core}\` to see why.`);
  const names = new Set(tree.split("\n").map((line) => line.split(" ")[0]));
  return [...names].filter((name) => CRATES.test(name)).map((name) => `${core} depends on ${name}`);
}

function inSources(folder) {
  return readdirSync(join(ROOT, folder), { recursive: true })
    .filter((file) => file.endsWith(".rs"))
    .flatMap((file) =>
      readFileSync(join(ROOT, folder, file), "utf8")
        .split("\n")
        .map((line, index) => ({ code: line.replace(/\/\/.*/, ""), at: `${folder}/${file}:${index + 1}` }))
        .filter(({ code }) => NAMES.test(code))
        .map(({ code, at }) => `${at}: ${code.trim()}`),
    );
}
