// A platform takes a town's container away, three times in a row and each time in another way, while one agent writes files, one is in the middle of a
// tool call and one is idle. Nobody's work is lost, nothing is dispatched meanwhile, and each replacement goes on where the work was saved.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { fastLimits } from "../scripts/lib/limits.mjs";
import { deliver, tool } from "../scripts/lib/town-tasks.mjs";
import { holdfast, until } from "./harness.mjs";
import { Town } from "./towns.mjs";

/** Who is idle stays so until the eviction, however long the others need to begin. */
const limits = fastLimits();
limits.sandbox_town.idle_ms = 600_000;
Object.assign(limits.town, { gupp_warn_ms: 600_000, gupp_escalate_ms: 700_000, gupp_stop_ms: 800_000, stalled_ms: 900_000 });

const it = holdfast("town-eviction", {}, { limits });

/** Eight agents that start two at a time. */
const FINISH_MS = 480_000;
const pages = Array.from({ length: 100 }, (_, n) => [`@write pages/${n}.md page ${n}`, "@slow 1 100"]).flat();

/** What each agent does until it is evicted. */
const WORK = {
  writer: pages,
  caller: ["@bash sleep 100"],
  /** Forgets to say that it is done: its turn ends, and it waits to be spoken to. */
  idler: [],
};
const AGENTS = Object.keys(WORK);

let town;
/** By agent. @type {Record<string, string>} */
const beads = {};

/** One life of an agent: it leaves a line that no life commits before the last one. */
const life = (name, word) => [`@bash echo ${word} >> ${name}.md`, tool("gt_status", { message: word }), ...WORK[name]];

/** Waits until each agent is in the middle of this life, and gives its bead the next one. */
async function livingThe(word, next) {
  await Promise.all(AGENTS.map((name) => town.said(beads[name], word)));
  for (const name of AGENTS) await town.rewrite(beads[name], next(name));
  return town.instance();
}

/** On the remote is, on each agent's branch, what its lives so far have left. */
function assertSaved(lines) {
  for (const name of AGENTS) assert.equal(town.saved(beads[name], `${name}.md`), lines, name);
}

const draining = () =>
  until("the town drains", async () => {
    const status = await town.api.drain(town.id);
    return status.draining && status;
  });

describe("evictions of a town with three agents at work", { timeout: 1_800_000 }, () => {
  before(async () => {
    town = await Town.make(it);
    for (const name of AGENTS) beads[name] = await town.sling(`Work of the ${name}`, life(name, "first"));
  });

  test("SIGTERM: what each agent had is on the remote, nothing is dispatched, and the replacement goes on there", async (t) => {
    const instance = await livingThe("first", (name) => life(name, "second"));
    const evicted = performance.now();
    const since = () => Math.round(performance.now() - evicted);
    await town.api.evict(town.id);
    await draining();
    t.diagnostic(`draining after ${since()} ms`);

    beads.late = await town.sling("Too late", ["@write late.md late", ...deliver("Late")]);
    const seen = [];
    await until("the drain ends", async () => {
      seen.push(await town.bead(beads.late));
      return !(await town.api.drain(town.id)).draining;
    });
    seen.pop(); // it may have been read after the drain
    t.diagnostic(`drained for ${since()} ms`);
    assert.ok(seen.length > 0);
    for (const { status, dispatch_attempts: tries } of seen) assert.deepEqual([status, tries], ["open", 0], "dispatched while the town drained");
    assertSaved("first");
    await town.replaced(instance);
    t.diagnostic(`replaced after ${since()} ms`);
  });

  test("SIGTERM twice is one drain", async () => {
    const instance = await livingThe("second", (name) => life(name, "third"));
    await town.api.evict(town.id);
    const { drainNonce } = await draining();
    await town.api.evict(town.id);
    assert.equal((await town.api.drain(town.id)).drainNonce, drainNonce);
    await town.replaced(instance);
    assertSaved("first\nsecond");
  });

  test("SIGKILL after a second: what was pushed stays, nothing is corrupted, and the beads are dispatched again", async () => {
    const instance = await livingThe("third", (name) => [`@bash echo last >> ${name}.md`, ...deliver(`Work of the ${name}`)]);
    await town.api.evict(town.id);
    await sleep(1_000);
    await town.api.evict(town.id, "SIGKILL");
    const pushed = AGENTS.flatMap((name) => town.branches(beads[name])).map((branch) => town.head(branch));
    assert.ok(await town.isSound());
    await town.replaced(instance);

    await town.closed(Object.values(beads), FINISH_MS);
    for (const commit of pushed) assert.ok(town.contains("main", commit), `${commit} is lost`);
    for (const name of AGENTS) assert.match(town.file("main", `${name}.md`), /^first\nsecond\n(third\n)?last$/, name);
    assert.deepEqual([town.file("main", "late.md"), town.file("main", "pages/0.md")], ["late", "page 0"]);
    assert.ok(await town.isSound());
  });
});
