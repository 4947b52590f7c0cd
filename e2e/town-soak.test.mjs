// A hundred evictions of one town in a row, at random moments, in random ways: no file is lost, no bead is handed out twice or stuck.
// Everything is real but the agent's program, which has no model and starts at once (agent/server.mjs). Its choices are the same in each run; others, and
// the real program: `npm run soak`.

import { appendFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { fastLimits } from "../scripts/lib/limits.mjs";
import { inRoot } from "../scripts/lib/paths.mjs";
import { evictions } from "./evictions.mjs";
import { holdfast } from "./harness.mjs";
import { playedLimits } from "./towns.mjs";

const { env } = process;
const count = Number(env.SOAK_EVICTIONS ?? 100);
const seed = Number(env.SOAK_SEED ?? 1);
const isReal = env.SOAK_AGENT === "kilo";

const it = holdfast("town-soak", {}, isReal ? { limits: fastLimits() } : { limits: playedLimits(), agent: inRoot("e2e", "agent") });

test(`${count} evictions in a row lose nothing (seed ${seed})`, { timeout: count * 30_000 + 300_000 }, async (t) => {
  const started = performance.now();
  const log = join(it.folder, "evictions.log");
  const outcome = await evictions(it, { count, seed, pauseMs: isReal ? 20_000 : 2_000 }, (line) => {
    appendFileSync(log, `${((performance.now() - started) / 1000).toFixed(1)} s ${line}\n`);
  });
  t.diagnostic(`seed ${seed}: ${JSON.stringify(outcome)} in ${Math.round((performance.now() - started) / 1000)} s`);
});
