/**
 * `npm test [-- SUITE…]`: sets up, runs every suite (or those named), and says in one line each how it went.
 *
 * A suite's output goes to `.holdfast/logs/test-<suite>.log`; what tells of its failures is shown at the end. The agent, git and workerd are
 * real; nothing is skipped where they are missing: that is a failure.
 */

import { appendFileSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { buildAll, buildWasm } from "../lib/build.mjs";
import { follow } from "../lib/command.mjs";
import { Failure } from "../lib/failure.mjs";
import { ROOT, WORK, bin } from "../lib/paths.mjs";
import { Progress } from "../lib/progress.mjs";

/** Of a failed suite, at most this much output is shown. */
const DETAIL_LINES = 120;

/**
 * @typedef {object} Suite
 * @property {string} name
 * @property {string[]} command
 * @property {string} [cwd] relative to the checkout
 * @property {number} minutesMax on two slow cores, with everything to compile; then it has hung
 * @property {RegExp} passed matches the lines that count, and captures the number
 * @property {RegExp} failed
 * @property {RegExp} [detail] matches what tells of failures; without it, or where nothing matches, that is the end of the output
 */

const NODE_TEST = {
  passed: /^ℹ pass (\d+)$/gm,
  failed: /^ℹ (?:fail|cancelled|skipped|todo) (\d+)$/gm,
  detail: /^✖ failing tests:[^]*/gm,
};
const nodeTest = (...files) => [process.execPath, "--test", "--test-reporter=spec", "--test-concurrency=1", ...files];

/** @type {Suite[]} from cheap to real */
const SUITES = [
  {
    name: "native",
    minutesMax: 40,
    command: ["cargo", "test", "--locked", "--no-fail-fast"],
    passed: /^test result: .* (\d+) passed/gm,
    failed: /^test result: .* (\d+) failed/gm,
    // Of a test that fails, and of a binary that does not come to its end.
    detail: /^failures:\n\n[^]*?^test result: .*$|^Caused by:\n.*$/gm,
  },
  {
    name: "scripts",
    minutesMax: 3,
    command: nodeTest("model-server/*.test.mjs", "scripts/**/*.test.mjs"),
    ...NODE_TEST,
  },
  {
    // A first look; `npm run simulate` and `npm run soak` look longer.
    name: "simulation",
    minutesMax: 30,
    command: [process.execPath, "scripts/simulate.mjs", "--profile", "all", "--seeds", "1000"],
    passed: /^\w+: (\d+) seeds passed$/gm,
    failed: /^\w+: (\d+) seeds? failed$/gm,
  },
  {
    name: "wasm",
    minutesMax: 8,
    command: [bin("vitest"), "run"],
    cwd: "wasm-tests",
    passed: /^\s*Tests .*?(\d+) passed/gm,
    failed: /^\s*Tests .*?(\d+) failed/gm,
  },
  {
    name: "e2e",
    minutesMax: 60,
    command: nodeTest("e2e/*.test.mjs"),
    ...NODE_TEST,
  },
];

export async function main() {
  const suites = choose(process.argv.slice(2));
  // Nothing that is set for `npm start` may change what is tested.
  for (const name of Object.keys(process.env)) if (name.startsWith("HOLDFAST_")) delete process.env[name];

  const started = Date.now();
  await buildAll();
  await buildWasm({ name: "sql-suite", crate: "sql-suite", folder: "wasm-tests/sql-suite", inputs: [] });
  const results = [{ name: "set-up", passed: 0, failed: 0, ms: Date.now() - started }];
  for (const suite of suites) results.push(await runSuite(suite));

  console.log(`\n${row("suite", "passed", "failed", "minutes")}`);
  for (const { name, passed, failed, ms } of results) console.log(row(name, passed, failed, minutes(ms)));
  const sum = (key) => results.reduce((total, result) => total + result[key], 0);
  console.log(row("all", sum("passed"), sum("failed"), minutes(sum("ms"))));
  for (const { name, failed, detail } of results) if (failed > 0) console.log(`\n${name}:\n${detail}`);
  console.log(`\n${sum("passed")} passed, ${sum("failed")} failed`);
  return sum("failed") === 0 ? 0 : 1;
}

function choose(names) {
  const unknown = names.find((name) => !SUITES.some((suite) => suite.name === name));
  if (unknown) throw new Failure(`There is no suite ${unknown}: name some of ${SUITES.map(({ name }) => name).join(", ")}, or none for all.`);
  return names.length === 0 ? SUITES : SUITES.filter(({ name }) => names.includes(name));
}

/**
 * @param {Suite} suite
 * @returns {Promise<{name: string, passed: number, failed: number, ms: number, detail: string}>}
 */
async function runSuite({ name, command, cwd = ".", minutesMax, passed, failed, detail }) {
  const started = Date.now();
  const progress = new Progress(`Testing ${name}`);
  const log = join(WORK, "logs", `test-${name}.log`);
  mkdirSync(join(WORK, "logs"), { recursive: true });
  writeFileSync(log, "");
  const { code, output } = await follow(command[0], command.slice(1), {
    cwd: join(ROOT, cwd),
    timeoutMs: minutesMax * 60_000,
    env: { ...process.env, CLOUDFLARE_CF_FETCH_ENABLED: "false", NO_COLOR: "1", WRANGLER_SEND_METRICS: "false" },
    onLine: (line) => {
      progress.line(line);
      appendFileSync(log, `${line}\n`);
    },
  });

  const result = { name, passed: count(output, passed), failed: count(output, failed), ms: Date.now() - started };
  // A suite that found nothing, or broke before it could count, has failed.
  if (result.failed === 0 && (code !== 0 || result.passed === 0)) result.failed = 1;
  progress.end(result.failed === 0);
  const why = code === null ? `was stopped after ${minutes(result.ms)} minutes` : "failed";
  return { ...result, detail: `${excerpt(output, detail)}\n\n${name} ${why}; all of its output: ${log}` };
}

/** What tells of failures in a suite's output, or else its end. */
function excerpt(output, detail) {
  const parts = detail ? (output.match(detail) ?? []) : [];
  const text = parts.length > 0 ? parts.join("\n\n") : output;
  return text.trimEnd().split("\n").slice(-DETAIL_LINES).join("\n");
}

function count(output, pattern) {
  return [...output.matchAll(pattern)].reduce((sum, match) => sum + Number(match[1]), 0);
}

function row(name, ...cells) {
  return name.padEnd(10) + cells.map((cell) => String(cell).padStart(9)).join("");
}

function minutes(ms) {
  return (ms / 60_000).toFixed(1);
}
