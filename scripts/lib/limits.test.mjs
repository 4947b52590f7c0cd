import assert from "node:assert/strict";
import { test } from "node:test";

import { check, fastLimits } from "./limits.mjs";

test("the checked-in fast limits keep wait < handoff < expiry, and three heartbeats fit in what is stale", () => {
  assert.doesNotThrow(fastLimits);
});

test("limits that contradict each other are refused by name", () => {
  const changed = (section, name, value) => {
    const limits = structuredClone(fastLimits());
    limits[section][name] = value;
    return () => check(limits);
  };
  assert.throws(changed("sandbox_town", "drain_wait_ms", 1e9), /drain_wait_ms/);
  assert.throws(changed("sandbox_town", "drain_wait_ms", undefined), /drain_wait_ms/);
  assert.throws(changed("town", "drain_handoff_ms", 1e9), /drain_handoff_ms/);
  assert.throws(changed("town", "heartbeat_stale_ms", 1), /heartbeat_stale_ms/);
});
