/**
 * Many evictions of one town in a row, at random moments of its work, and what must be true after them.
 *
 * Each life of an agent writes files of its own and notes them in a journal outside of every container, after they are on the disk: first that one was
 * written, then that it was committed, then that it was pushed. Work is never thrown away, so all of them are on the default branch in the end:
 * the written ones too, unless their container was killed outright, and the pushed ones in any case.
 */

import assert from "node:assert/strict";
import { existsSync, linkSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { readRepository } from "../scripts/lib/repository.mjs";
import { REVIEW, tool } from "../scripts/lib/town-tasks.mjs";
import { until } from "./harness.mjs";
import { serveRepositories } from "./remote.mjs";
import { Town } from "./towns.mjs";

/** Beads that are worked on at any time. */
const IN_FLIGHT = 3;
/** The share of evictions that wait for an agent to begin, and how long they do. */
const AT_WORK = 0.8;
const BEGIN_MS = 10_000;
/** From an eviction to the next container at work, and from the last one to the end of all beads. */
const REPLACED_MS = 60_000;
const FINISHED_MS = 240_000;

/** How a container is taken away: signals, each after a pause of up to so many milliseconds. */
const WAYS = [
  { share: 60, signals: [["SIGTERM", 0]] },
  { share: 15, signals: [["SIGTERM", 0], ["SIGTERM", 500]] },
  { share: 20, signals: [["SIGTERM", 0], ["SIGKILL", 1_000]] },
  { share: 5, signals: [["SIGKILL", 0]] },
];

/**
 * Does it.
 *
 * @param {ReturnType<import("./harness.mjs").holdfast>} it that runs
 * @param {{count: number, seed: number, pauseMs: number}} options `pauseMs`: the longest time that a container is left in peace
 * @param {(line: string) => void} say
 */
export async function evictions(it, { count, seed, pauseMs }, say) {
  const random = generator(seed);
  mkdirSync(join(it.folder, "remotes"), { recursive: true });
  const server = await serveRepositories(join(it.folder, "remotes"));
  try {
    return await evict(it, await Town.make(it, server), random, { count, pauseMs }, say);
  } finally {
    server.close();
  }
}

async function evict(it, town, random, { count, pauseMs }, say) {
  const journal = join(it.folder, `journal-${town.id}`);
  const killed = new Set();
  const beads = [];
  const live = async () => {
    const open = (await town.api.beads(town.id, town.rig, { type: "issue" })).filter(({ status }) => status !== "closed");
    for (const { title, status } of open) assert.notEqual(status, "failed", title);
    return open.length;
  };
  let instance;
  for (let n = 1; n <= count; n++) {
    for (let open = await live(); open < IN_FLIGHT; open++) {
      beads.push(await town.sling(`Task ${beads.length}`, script(journal, beads.length, random)));
    }
    instance = await until("a container runs", async () => differs(await town.instance(), instance), REPLACED_MS);
    await keepLog(it, town, instance);
    // Most of them meet agents at work, some the container or an agent that starts.
    if (random() < AT_WORK) await until("an agent begins", () => read(journal).some((note) => note.instance === instance), BEGIN_MS).catch(() => {});
    await sleep(random() * pauseMs);
    const way = choose(random);
    const started = performance.now();
    for (const [signal, pause] of way) {
      await sleep(random() * pause);
      await town.api.evict(town.id, signal).catch(({ status }) => assert.ok(status === 409 || status === 404)); // it has ended
      if (signal === "SIGKILL") killed.add(instance);
    }
    await until("it has ended", async () => (await town.instance()) !== instance, REPLACED_MS);
    say(`eviction ${n} of ${instance}: ${way.map(([signal]) => signal).join(", ")}; ended after ${Math.round(performance.now() - started)} ms`);
  }
  await town.closed(beads, FINISHED_MS);
  assert.ok(await town.isSound());
  return { beads: beads.length, ...audit(read(journal), town, killed) };
}

/** The host deletes a container's log when its successor starts; who looks for a lost file needs it. */
async function keepLog(it, town, instance) {
  const log = join(it.services.containers, `town-${town.id}`, `${instance}.log`);
  const kept = join(it.folder, "logs", "containers");
  mkdirSync(kept, { recursive: true });
  await until("it has a log", () => existsSync(log), BEGIN_MS).then(() => linkSync(log, join(kept, `${instance}.log`))).catch(() => {});
}

const differs = (now, before) => now !== before && now;

/**
 * What one bead's agents do. `$RANDOM` makes each life's files its own; a commit holds what an earlier life left, too.
 *
 * @returns {string[]}
 */
function script(journal, task, random) {
  const note = (what) => `echo "${what} $f $PWD" >> ${journal}`;
  const pause = () => `sleep ${(random() * 0.4).toFixed(2)}`;
  const file = (name) =>
    [
      `@bash mkdir -p task-${task} && f=task-${task}/${name}-$RANDOM$RANDOM.md && echo "$f" > "$f" && ${note("written")} && ${pause()}`,
      `git add --all && git commit -q -m "Task ${task}" && ${note("committed")} && ${pause()}`,
      `git push -q --set-upstream origin HEAD && ${note("pushed")}`,
    ].join(" && ");
  return [`@bash echo "begun ${task}:$GASTOWN_AGENT_ID $PWD" >> ${journal}`, file("a"), file("b"), tool("gt_done", { summary: REVIEW })];
}

/** @typedef {{what: "begun" | "written" | "committed" | "pushed", of: string, instance: string}} Note */

/** @returns {Note[]} in the order in which they were made */
function read(journal) {
  const lines = existsSync(journal) ? readFileSync(journal, "utf8").split("\n") : [];
  return lines.filter(Boolean).map((line) => {
    const [what, of, folder] = line.split(" ");
    return { what, of, instance: /\/containers\/[^/]+\/([^/]+)\//.exec(folder)[1] };
  });
}

/**
 * Finds what was lost, and what was handed out twice: to two agents of one container. Two containers are never there at once, and an agent that is
 * started again, because its container was lost and the next one knew it, ends before it begins.
 */
function audit(notes, town, killed) {
  const there = new Set(readRepository(town.repository, "ls-tree", "-r", "--name-only", "main").split("\n"));
  const mustBeThere = notes.filter(({ what, instance }) => what === "pushed" || (what !== "begun" && !killed.has(instance)));
  const lost = mustBeThere.filter(({ of }) => !there.has(of));
  assert.deepEqual(lost, [], "work is lost");

  const lives = notes.filter(({ what }) => what === "begun").map(({ of, instance }) => ({ task: of.split(":")[0], agent: of.split(":")[1], instance }));
  const others = (a) => lives.filter((b) => b.task === a.task && b.instance === a.instance && b.agent !== a.agent);
  assert.deepEqual(lives.flatMap(others), [], "handed out to two agents of one container");
  return { lives: lives.length, files: new Set(mustBeThere.map(({ of }) => of)).size, killed: killed.size };
}

function choose(random) {
  let at = random() * WAYS.reduce((sum, { share }) => sum + share, 0);
  return WAYS.find(({ share }) => (at -= share) < 0).signals;
}

/** Numbers from 0 up to 1, the same for the same seed (mulberry32). */
function generator(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}
