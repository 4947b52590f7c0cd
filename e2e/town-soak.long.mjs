// A hundred evictions of one town in a row, at random moments, in random ways: no file is lost, no bead is handed out twice or stuck.
// Everything is real but the agent's program, which has no model and starts at once (agent/server.mjs). With other numbers: `npm run soak`.

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { fastLimits } from "../scripts/lib/limits.mjs";
import { inRoot } from "../scripts/lib/paths.mjs";
import { evictions } from "./evictions.mjs";
import { holdfast } from "./harness.mjs";

const { env } = process;
const count = Number(env.SOAK_EVICTIONS ?? 100);
const seed = Number(env.SOAK_SEED ?? Date.now() % 1_000_000);
const isReal = env.SOAK_AGENT === "kilo";

/** Those of an agent that starts at once: a drain is over in a second. */
function limits() {
  const { town, sandbox_town: container, ...others } = fastLimits();
  return {
    ...others,
    town: { ...town, tick_active_ms: 250, heartbeat_stale_ms: 2_000, orphan_bead_ms: 1_000, drain_handoff_ms: 3_000, drain_handoff_retry_ms: 500 },
    sandbox_town: { ...container, heartbeat_interval_ms: 400, heartbeat_timeout_ms: 400, drain_wait_ms: 600 },
  };
}

const it = holdfast("town-soak", {}, isReal ? { limits: fastLimits() } : { limits: limits(), agent: inRoot("e2e", "agent") });

test(`${count} evictions in a row lose nothing (seed ${seed})`, { timeout: count * 30_000 + 300_000 }, async (t) => {
  const started = performance.now();
  const log = join(it.folder, "evictions.log");
  const outcome = await evictions(it, { count, seed, pauseMs: isReal ? 20_000 : 2_000 }, (line) => {
    appendFileSync(log, `${((performance.now() - started) / 1000).toFixed(1)} s ${line}\n`);
  });
  t.diagnostic(`seed ${seed}: ${JSON.stringify(outcome)} in ${Math.round((performance.now() - started) / 1000)} s`);
});
