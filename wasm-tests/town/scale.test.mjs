// What a tick costs under workerd, in rows: what is over is not looked at, and a tick that changes nothing writes nothing.

import { afterEach, expect, test, vi } from "vitest";

import { rowsOf } from "./meter.mjs";
import { newTown } from "./town.mjs";

const OVER = 10_000;
const ACTIVE = 20;

afterEach(() => vi.useRealTimers());

/** A town with 20 agents at work, and so many beads that are over, with their history. */
async function townWith(name, over) {
  const town = await newTown(name);
  const at = new Date(Date.now() - 30 * 86_400_000).toISOString();
  const now = new Date().toISOString();
  const numbers = (count) => `WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ${count})`;
  await town.sql(
    `${numbers(ACTIVE)} INSERT INTO beads (bead_id, type, status, title, rig_id, assignee_agent_bead_id, dispatch_attempts, created_at, updated_at)
     SELECT 'bead-' || n, 'issue', 'in_progress', 'at work', ?, 'agent-' || n, 1, ?, ? FROM n`,
    town.rig, now, now,
  );
  await town.sql(
    `${numbers(ACTIVE)} INSERT INTO beads (bead_id, type, status, title, rig_id, created_at, updated_at)
     SELECT 'agent-' || n, 'agent', 'open', 'agent', ?, ?, ? FROM n`,
    town.rig, now, now,
  );
  await town.sql(
    `${numbers(ACTIVE)} INSERT INTO agent_metadata (bead_id, role, identity, status, current_hook_bead_id, last_activity_at)
     SELECT 'agent-' || n, 'polecat', 'identity-' || n, 'working', 'bead-' || n, ? FROM n`,
    now,
  );
  if (over > 0) {
    await town.sql(
      `${numbers(over)} INSERT INTO beads (bead_id, type, status, title, rig_id, created_at, updated_at, closed_at)
       SELECT 'over-' || n, iif(n % 3, 'issue', 'merge_request'), iif(n % 7, 'closed', 'failed'), 'over', ?, ?, ?, ? FROM n`,
      town.rig, at, at, at,
    );
    await town.sql(
      `${numbers(over)} INSERT INTO bead_events (bead_event_id, bead_id, event_type, created_at) SELECT 'e-' || n, 'over-' || n, 'created', ? FROM n`,
      at,
    );
  }
  await town.evict();
  // Any call makes the object see what is there, and a first tick does what there is to do.
  await town.inRig("GET", "/agents");
  expect(await town.ring(1_000)).toBe(true);
  await town.rest();
  return town;
}

test("ten thousand beads that are over cost a tick next to nothing, and a tick without news writes no row", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const cost = async (town) => {
    await town.ring();
    const rows = await rowsOf(town.object, async () => expect(await town.ring(1_000)).toBe(true));
    expect(rows.statements).toBeGreaterThan(10);
    return rows;
  };
  const empty = await cost(await townWith("scale-empty", 0));
  const full = await cost(await townWith("scale-full", OVER));
  console.log(JSON.stringify({ empty, full }));
  expect(empty.read).toBeGreaterThan(ACTIVE);
  expect(full.read).toBeLessThanOrEqual(2 * empty.read);
  expect([empty.written, full.written]).toEqual([0, 0]);
});
