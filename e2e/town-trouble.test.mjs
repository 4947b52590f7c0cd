// Evictions of agents whose repository is in trouble, and of containers whose town is. All is real but the agent's program (agent/server.mjs).

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";

import { inRoot } from "../scripts/lib/paths.mjs";
import { deliver, tool } from "../scripts/lib/town-tasks.mjs";
import { hangingAt } from "./front.mjs";
import { holdfast } from "./harness.mjs";
import { Town, playedLimits } from "./towns.mjs";

const FINISH_MS = 120_000;
const UNDER_WAY = "under way";

/** What each agent has done to its repository when it is evicted. */
const TROUBLE = {
  "fails to commit and to push":
    `for h in pre-commit pre-push; do f="$(git rev-parse --git-common-dir)/hooks/$h"; printf '#!/bin/sh\\nexit 1\\n' > "$f"; chmod +x "$f"; done`,
  "has no branch checked out": "git checkout -q --detach",
  "left a lock": `touch "$(git rev-parse --git-dir)/index.lock"`,
  "has never pushed": "true",
  "was pushing": "git push -q --set-upstream origin HEAD",
};

/** Limits of a town whose agents start at once. */
function limits(changes) {
  const { sandbox_town: container, ...others } = playedLimits();
  return { ...others, sandbox_town: { ...container, ...changes } };
}

/** Starts an agent that has something that no commit has; its successor appends to that. */
async function evicted(town, troubles) {
  const beads = [];
  for (const [name, command] of Object.entries(troubles)) {
    const file = `${beads.length}.md`;
    const first = [`@bash echo begun >> ${file}; ${command}`, tool("gt_status", { message: UNDER_WAY }), "@bash sleep 100"];
    beads.push({ name, file, bead: await town.sling(`Somebody who ${name}`, first) });
  }
  for (const { bead, file } of beads) {
    await town.said(bead, UNDER_WAY);
    await town.rewrite(bead, [`@bash echo done >> ${file}`, ...deliver("Done")]);
  }
  const instance = await town.instance();
  await town.api.evict(town.id);
  await town.replaced(instance);
  return beads;
}

/** The container's word on a bead's work, as the ledger shows it. */
async function receipt(town, bead) {
  const history = await town.api.history(town.id, town.rig, bead);
  return history.map(({ metadata }) => metadata.eviction_receipt).find(Boolean);
}

/** Every bead is closed, and what each life of each agent wrote is on the default branch. */
async function finished(town, beads, lives) {
  await town.closed(beads.map(({ bead }) => bead), FINISH_MS);
  for (const { name, file } of beads) assert.equal(town.file("main", file), lives, name);
  assert.ok(await town.isSound());
}

describe("repositories in trouble", { timeout: 600_000 }, () => {
  const it = holdfast("town-trouble", {}, { limits: limits(), agent: inRoot("e2e", "agent") });

  test("hooks that fail, a detached HEAD, a stale lock and a branch that was never pushed keep nobody's work from the remote", async () => {
    const town = await Town.make(it);
    const beads = await evicted(town, TROUBLE);
    for (const { name, bead, file } of beads) {
      assert.equal(town.saved(bead, file), "begun", name);
      const { branch, commit, pushed } = await receipt(town, bead);
      assert.deepEqual([pushed, town.contains(branch, commit)], [true, true], name);
    }
    await finished(town, beads, "begun\ndone");
  });

  test("where the remote is, is the town's to say: who removed it is saved there", async () => {
    const town = await Town.make(it);
    const beads = await evicted(town, { "removed the remote": "git remote remove origin" });
    const { branch, commit, pushed } = await receipt(town, beads[0].bead);
    assert.deepEqual([pushed, town.contains(branch, commit)], [true, true]);
    await finished(town, beads, "begun\ndone");
  });
});

describe("a town that does not answer its container's report", { timeout: 600_000 }, () => {
  const front = hangingAt("/container-eviction");
  after(() => front.close());
  const it = holdfast("town-silent", {}, { limits: limits({ eviction_timeout_ms: 1_000 }), agent: inRoot("e2e", "agent"), front: (port) => front.open(port) });

  test("the work is saved all the same, and goes on in the replacement", async () => {
    const town = await Town.make(it);
    const beads = await evicted(town, { "is not heard": "true" });
    assert.ok(front.hung > 0, "nothing was reported");
    assert.equal(town.saved(beads[0].bead, beads[0].file), "begun");
    await finished(town, beads, "begun\ndone");
  });
});

describe("an agent that cannot be frozen", { timeout: 600_000 }, () => {
  const it = holdfast("town-unfrozen", {}, { limits: limits({ drain_freeze_ms: 1 }), agent: inRoot("e2e", "agent") });

  test("nothing is saved where something may still write, the town is told so, and the bead is begun anew", async () => {
    const town = await Town.make(it);
    const beads = await evicted(town, { "does not stop": "true" });
    const { commit, pushed, reason } = await receipt(town, beads[0].bead);
    assert.deepEqual([commit, pushed], [null, false]);
    assert.match(reason, /in time/);
    await finished(town, beads, "done");
  });
});
