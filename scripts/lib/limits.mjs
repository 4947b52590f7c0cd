/**
 * The fast limits: minutes become seconds, so that a drain can be watched and a test is soon over. Never for production, which ignores them.
 *
 * Each process checks its own section when it starts. What must hold between sections is checked here, before any starts.
 */

import { readFileSync } from "node:fs";

import { Failure } from "./failure.mjs";
import { inRoot } from "./paths.mjs";

const FILE = "limits.fast.json";

/**
 * The checked-in fast limits (`HOLDFAST_LIMITS`).
 *
 * @throws {Failure} if they contradict each other
 */
export function fastLimits() {
  const limits = JSON.parse(readFileSync(inRoot(FILE), "utf8"));
  check(limits);
  return limits;
}

/**
 * Refuses limits with which a drain could be cut short, or living agents be taken for dead.
 *
 * @param {{town: Record<string, number>, sandbox_town: Record<string, number>}} limits
 */
export function check({ town, sandbox_town: container }) {
  const orders = [
    ["sandbox_town.drain_wait_ms", container.drain_wait_ms, "town.drain_handoff_ms", town.drain_handoff_ms],
    ["town.drain_handoff_ms", town.drain_handoff_ms, "town.drain_expiry_ms", town.drain_expiry_ms],
    ["sandbox_town.heartbeat_interval_ms", container.heartbeat_interval_ms * 3, "town.heartbeat_stale_ms", town.heartbeat_stale_ms + 1],
  ];
  for (const [smaller, a, larger, b] of orders) {
    if (!(a < b)) throw new Failure(`${FILE} cannot be used: ${smaller} must be well below ${larger}.`);
  }
}
