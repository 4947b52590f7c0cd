/** Builds the simulation, runs seeds of it, and says what came of them. The clock is here: the simulation itself has none. */

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { ask, follow, step } from "./command.mjs";
import { Failure } from "./failure.mjs";
import { ROOT, WORK } from "./paths.mjs";
import { Progress } from "./progress.mjs";

/** Of a failing seed's trace, this much is shown. */
const TRACE_LINES = 60;

/**
 * @param {{root?: string, target?: string, env?: object}} [where] another copy of the sources
 * @returns {Promise<string>} the program
 */
export async function buildSimulation({ root = ROOT, target = join(root, "target"), env } = {}) {
  const args = ["build", "--profile", "sim", "--package", "simulation", "--bin", "simulate", "--target-dir", target];
  if (root === ROOT) args.push("--locked");
  await step("Building the simulation", "cargo", args, { cwd: root, env });
  return join(target, "sim", "simulate");
}

/** The names of the profiles. */
export function profiles(binary) {
  const names = ask(binary, ["--profiles"]);
  if (names === undefined) throw new Failure(`${binary} cannot be run.`);
  return names.split("\n");
}

/**
 * Runs seeds on all cores.
 *
 * @returns {Promise<{summary?: object, failure?: object, ms: number}>}
 */
export async function search(binary, { profile, seeds, from = 0, title = `Simulating ${profile}` }) {
  const found = {};
  const progress = new Progress(title);
  const started = Date.now();
  await follow(binary, ["--profile", profile, "--seeds", String(seeds), "--from", String(from)], {
    cwd: ROOT,
    onLine: (line) => {
      const message = parse(line);
      if (message?.type === "progress") progress.line(`${message.seeds} of ${seeds} seeds`);
      else if (message) found[message.type] = message;
    },
  });
  progress.end(found.failure === undefined && found.summary !== undefined);
  return { ...found, ms: Date.now() - started };
}

/** Runs seeds and prints what came of them. False if a promise was broken. */
export async function runSeeds(binary, { profile, seeds, from, shrink, coverage }) {
  const { summary, failure, ms } = await search(binary, { profile, seeds, from });
  if (summary === undefined) throw new Failure(`The simulation of ${profile} broke off.`);
  printSummary(summary, ms);
  if (coverage) printPairs(summary);
  // The reasons are next to the profile: crates/simulation/src/<profile>/coverage.rs.
  for (const [state, input, reason] of summary.surprises) console.log(`${state}, ${input}: it came, and is said not to come: ${reason}`);
  if (failure === undefined) {
    console.log(`${profile}: ${summary.seeds} seeds passed`);
    return !(coverage && summary.surprises.length > 0);
  }
  await printFailure(binary, failure, shrink);
  console.log(`${profile}: 1 seed failed`);
  return false;
}

/** Runs one seed, with its trace. */
export async function replay(binary, { profile, seed, only }) {
  const args = ["--profile", profile, "--seed", String(seed), ...(only === undefined ? [] : ["--only", only])];
  const { code } = await follow(binary, args, { cwd: ROOT, onLine: (line) => console.log(line) });
  return code ?? 1;
}

function printSummary({ profile, seeds, steps, simulatedMs, faults, pairs }, ms) {
  const perSecond = (count) => Math.round((count * 1000) / Math.max(ms, 1)).toLocaleString("en");
  const hours = simulatedMs / 3_600_000;
  console.log(`\n${profile}: ${seeds} seeds, ${steps.toLocaleString("en")} steps, ${perSecond(steps)} steps/s, ${perSecond(hours)} simulated hours/s`);
  console.log(`states and inputs: ${pairs.length} pairs; faults:`);
  const cells = Object.entries(faults).map(([name, count]) => `${name} ${count.toLocaleString("en")}`);
  for (let i = 0; i < cells.length; i += 4) console.log(`  ${cells.slice(i, i + 4).map((cell) => cell.padEnd(30)).join("")}`);
}

/** @param {{pairs: [string, string, number][], never: [string, string, string | null][]}} summary */
function printPairs({ pairs, never }) {
  const states = [...new Set(pairs.map(([state]) => state))];
  for (const state of states) {
    const inputs = pairs.filter(([of]) => of === state).map(([, input, count]) => `${input} ${count}`);
    console.log(`  ${state}: ${inputs.join(", ")}`);
  }
  console.log("never:");
  const lines = new Map();
  for (const [state, input, reason] of never) {
    const why = `${state}; ${reason ?? "it can be, and was not in these seeds"}`;
    lines.set(why, [...(lines.get(why) ?? []), input]);
  }
  for (const [why, inputs] of lines) console.log(`  ${why}: ${inputs.join(", ")}`);
}

async function printFailure(binary, { profile, seed, step: at, promise, what }, shrink) {
  const args = ["--profile", profile, "--seed", String(seed)];
  let again = `npm run simulate -- --profile ${profile} --seed ${seed}`;
  if (shrink) {
    const { output } = await follow(binary, [...args, "--shrink"], { cwd: ROOT });
    const shrunk = output.split("\n").map(parse).find((message) => message?.type === "shrunk");
    if (shrunk) {
      console.log(`\n${shrunk.faults} faults shrunk to ${shrunk.kept}`);
      args.push("--only", shrunk.only);
      again += ` --only ${shrunk.only}`;
    }
  }
  const { output } = await follow(binary, args, { cwd: ROOT });
  const folder = join(WORK, "logs");
  mkdirSync(folder, { recursive: true });
  const file = join(folder, `simulation-${profile}-${seed}.log`);
  writeFileSync(file, output);
  console.log(`\n${output.trimEnd().split("\n").slice(-TRACE_LINES, -1).join("\n")}`);
  console.log(`\nBroken: ${promise}\n  ${what}\n  seed ${seed}, step ${at}; the whole trace: ${file}\n  again: ${again}\n`);
}

function parse(line) {
  try {
    return line.startsWith("{") ? JSON.parse(line) : undefined;
  } catch {
    return undefined;
  }
}
