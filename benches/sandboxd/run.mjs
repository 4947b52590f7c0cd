/**
 * `npm run bench -- sandboxd`: how fast events pass from the agent server to an acknowledging object, what `sandboxd` costs at rest, and how long a town's drain takes.
 *
 * `sandboxd` runs on one core; `peers` (peers.rs) plays the agent server and the object. Machines are noisy, and a busy one shows less than `sandboxd`
 * can do: beside events per second stand events per second of its own processor time, which other work disturbs less. Each figure is the median of
 * the rounds.
 */

import { statSync } from "node:fs";
import { availableParallelism } from "node:os";

import { ask, step } from "../../scripts/lib/command.mjs";
import { Failure } from "../../scripts/lib/failure.mjs";
import { ROOT } from "../../scripts/lib/paths.mjs";
import { measureTown } from "./town.mjs";

const MIB = 1024 * 1024;
const LARGE_EVENT_MB = 49;
const STARTS = 15;
const WORKTREES = 10;

/** Events of a burst: about two seconds' worth, and more than every buffer on the way holds. */
const BURSTS = [
  { bytes: 1_000, events: 200_000, goal: 60_000 },
  { bytes: 8_000, events: 60_000, goal: 40_000 },
];

/** @param {{rounds: number, built: string}} options `built`: the program */
export async function run({ rounds, built }) {
  const peers = await buildPeers();
  // `sandboxd` has the first core for itself, as far as we can say.
  const others = ["-c", `1-${Math.max(1, availableParallelism() - 1)}`, peers];
  const measure = (...args) => JSON.parse(ask("taskset", [...others, ...args.map(String)], { timeoutMs: 180_000 }) ?? failed(args));
  const repeat = (times, ...args) => Array.from({ length: times }, () => measure(...args));
  const table = [];
  const add = (what, value, goal, met) => table.push({ what, measured: value, goal, met });

  for (const { bytes, events, goal } of BURSTS) {
    const results = repeat(rounds, "throughput", built, events, bytes, 0);
    if (!results.every(({ complete }) => complete)) throw new Failure(`Events of ${bytes} bytes were lost.`);
    const rate = median(results.map(({ perSecond }) => perSecond));
    add(`events/s of ${bytes} B`, rate, `≥ ${goal}`, rate >= goal);
    add(`events/s of ${bytes} B, per second of its processor time`, median(results.map(({ perCpuSecond }) => perCpuSecond)), "", "");
  }
  const starts = repeat(STARTS, "start", built);
  const ready = median(starts.map(({ readyMs }) => readyMs));
  add("ms from exec of init to a healthy session", ready.toFixed(1), "≤ 20", ready <= 20);
  const idle = median(starts.map(({ initKiB, sessionKiB }) => initKiB + sessionKiB)) / 1024;
  add("MiB resident, init and session at rest", idle.toFixed(1), "≤ 10", idle <= 10);
  const above = median(repeat(rounds, "large", built, LARGE_EVENT_MB).map(({ aboveIdleKiB }) => aboveIdleKiB)) / 1024;
  add(`MiB above rest while an event of ${LARGE_EVENT_MB} MB passes`, above.toFixed(1), "≤ 8", above <= 8);
  const towns = [];
  for (let n = 0; n < rounds; n++) towns.push(await measureTown(built, WORKTREES));
  if (!towns.every(({ pushed }) => pushed === WORKTREES)) throw new Failure("A drain did not push every worktree.");
  const rest = median(towns.map(({ restKiB }) => restKiB)) / 1024;
  add("MiB resident, town at rest", rest.toFixed(1), "≤ 12", rest <= 12);
  const overhead = median(towns.map(({ overheadMs }) => overheadMs)) / 1000;
  add(`s of a drain of ${WORKTREES} worktrees beyond the wait for agents`, overhead.toFixed(1), "≤ 2", overhead <= 2);
  const size = statSync(built).size / 1e6;
  add("MB, the program", size.toFixed(1), "≤ 6", size <= 6);
  console.table(table);
}

async function buildPeers() {
  const args = ["build", "--profile", "native", "--package", "sandboxd", "--bench", "peers", "--locked", "--message-format", "json-render-diagnostics"];
  const output = await step("Building the peers of sandboxd", "cargo", args, { cwd: ROOT });
  const artifacts = output.split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  return artifacts.findLast(({ target, executable }) => target?.name === "peers" && executable).executable;
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

function failed(args) {
  throw new Failure(`peers ${args.join(" ")} failed: run it by hand to see why.`);
}
