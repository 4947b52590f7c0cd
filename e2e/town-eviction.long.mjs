// A platform takes a town's container away while one agent writes files, one is in the middle of a tool call and one is idle. Nobody's work is lost,
// nothing is dispatched meanwhile, and the replacement goes on where the work was saved.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { fastLimits } from "../scripts/lib/limits.mjs";
import { deliver, tool } from "../scripts/lib/town-tasks.mjs";
import { holdfast, until } from "./harness.mjs";
import { Town } from "./towns.mjs";

/** Who is idle stays so until the eviction. */
const limits = fastLimits();
limits.sandbox_town.idle_ms = 120_000;

const it = holdfast("town-eviction", {}, { limits });

/** Six agents that start two at a time. */
const FINISH_MS = 480_000;
const UNDER_WAY = "under way";
const ready = tool("gt_status", { message: UNDER_WAY });
const pages = Array.from({ length: 100 }, (_, n) => [`@write pages/${n}.md page ${n}`, "@slow 1 100"]).flat();

/** What each agent does until it is evicted, and what its successor does. Each life appends to a file, which no life commits before the last. */
const WORK = {
  writer: {
    first: ["@bash echo begun >> writer.md", ready, ...pages],
    then: ["@bash echo done >> writer.md", ...deliver("Pages")],
  },
  caller: {
    first: ["@bash echo begun >> caller.md", ready, "@bash sleep 100"],
    then: ["@bash echo done >> caller.md", ...deliver("A call")],
  },
  /** Forgets to say that it is done: its turn ends, and it waits to be spoken to. */
  idler: {
    first: ["@bash echo begun >> idler.md", ready],
    then: ["@bash echo done >> idler.md", ...deliver("Thoughts")],
  },
};

/** Three agents, each with something that no commit has. */
async function atWork() {
  const town = await Town.make(it);
  const beads = {};
  for (const [name, { first }] of Object.entries(WORK)) beads[name] = await town.sling(`Work of the ${name}`, first);
  await Promise.all(Object.values(beads).map((bead) => town.said(bead, UNDER_WAY)));
  for (const [name, { then }] of Object.entries(WORK)) await town.rewrite(beads[name], then);
  return { town, beads, instance: await town.instance() };
}

/** Every bead is closed, and the file of each life of each agent is on the default branch. */
async function finished(town, beads, lives) {
  await town.closed(Object.values(beads), FINISH_MS);
  for (const name of Object.keys(beads)) assert.equal(town.file("main", `${name}.md`), lives, name);
  assert.ok(await town.isSound());
}

describe("evictions of a town with three agents at work", { timeout: 2_700_000 }, () => {
  test("SIGTERM: what each agent had is on the remote, nothing is dispatched, and the replacement goes on there", async (t) => {
    const { town, beads, instance } = await atWork();
    const evicted = performance.now();
    const since = () => Math.round(performance.now() - evicted);
    await town.api.evict(town.id);
    await until("the town drains", async () => (await town.api.drain(town.id)).draining, 1_000);
    t.diagnostic(`draining after ${since()} ms`);

    const late = await town.sling("Too late", ["@write late.md late", ...deliver("Late")]);
    const seen = [];
    await until("the drain ends", async () => {
      seen.push(await town.bead(late));
      return !(await town.api.drain(town.id)).draining;
    });
    seen.pop(); // it may have been read after the drain
    t.diagnostic(`drained for ${since()} ms`);
    assert.ok(seen.length > 0);
    for (const { status, dispatch_attempts: tries } of seen) assert.deepEqual([status, tries], ["open", 0], "dispatched while the town drained");

    for (const name of Object.keys(beads)) assert.equal(town.saved(beads[name], `${name}.md`), "begun", name);
    await town.replaced(instance);
    t.diagnostic(`replaced after ${since()} ms`);
    await finished(town, beads, "begun\ndone");
    await town.closed([late], FINISH_MS);
    t.diagnostic(`finished after ${since()} ms`);
    assert.equal(town.file("main", "late.md"), "late");
    assert.equal(town.file("main", "pages/0.md"), "page 0");
  });

  test("SIGTERM twice is one drain", async () => {
    const { town, beads, instance } = await atWork();
    await town.api.evict(town.id);
    const drain = await until("the town drains", async () => {
      const status = await town.api.drain(town.id);
      return status.draining && status;
    });
    await town.api.evict(town.id);
    assert.equal((await town.api.drain(town.id)).drainNonce, drain.drainNonce);
    await town.replaced(instance);
    for (const name of Object.keys(beads)) assert.equal(town.saved(beads[name], `${name}.md`), "begun", name);
    await finished(town, beads, "begun\ndone");
  });

  test("SIGKILL after a second: what was pushed stays, nothing is corrupted, the beads are dispatched again", async () => {
    const { town, beads, instance } = await atWork();
    await town.api.evict(town.id);
    await sleep(1_000);
    await town.api.evict(town.id, "SIGKILL");
    const pushed = Object.values(beads).flatMap((bead) => town.branches(bead)).map((branch) => town.head(branch));
    assert.ok(await town.isSound());
    await town.replaced(instance);
    await town.closed(Object.values(beads), FINISH_MS);
    for (const commit of pushed) assert.ok(town.contains("main", commit), `${commit} is lost`);
    for (const name of Object.keys(beads)) assert.match(town.file("main", `${name}.md`), /^(begun\n)?done$/, name);
    assert.ok(await town.isSound());
  });
});
