// A town's drain through its ledger, its container and every object in between. The town's object is evicted between any two steps.

import { afterEach, expect, test, vi } from "vitest";

import { eventually } from "../worker/socket.mjs";
import { newTown } from "./town.mjs";

const MINUTE = 60_000;

afterEach(() => vi.useRealTimers());

const startsOf = async (town) => (await town.played()).asked.filter(({ path }) => path === "/agents/start");
const evictionOf = (town, instance) => town.town("POST", "/container-eviction", { containerInstanceId: instance });
const isDraining = async (town) => (await town.town("GET", "/drain-status")).draining;

/** A town in which one agent works, and whose container is told to end. */
async function draining(name) {
  const town = await newTown(name);
  const first = await town.sling("first");
  await town.asked(/^\/agents\/start/);
  await town.rest();
  const instance = `${town.id}-1`;
  await town.play({ draining: true, agents: { "*": "running" } });
  const { drainNonce } = await evictionOf(town, instance);
  await town.evict();
  return { town, first, instance, nonce: drainNonce };
}

test("while a town drains nobody is started, and with the replacement all goes on", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const { town, first, instance } = await draining("drain-work");
  const second = await town.sling("second");
  await town.inRig("POST", `/agents/${first.agent.id}/done`, { branch: "gt/first" });
  for (let n = 0; n < 3; n += 1) {
    // Longer than any agent may be silent: it could not be heard, for its container ends.
    await town.ring(2 * MINUTE);
    await town.rest();
  }
  expect(await startsOf(town)).toHaveLength(1);
  expect(await town.bead(second.bead.bead_id)).toMatchObject({ status: "open", dispatch_attempts: 0 });
  const reviews = () => town.inRig("GET", "/beads?type=merge_request");
  expect(await reviews()).toMatchObject([{ status: "open", title: "Review: gt/first" }]);

  // The old container's heart still beats, and ends nothing.
  expect(await town.heartbeat(first.agent.id, instance)).toEqual({ heartbeat: true });
  expect(await isDraining(town)).toBe(true);
  await town.play({ agents: { "*": "running" } });
  expect(await town.heartbeat(first.agent.id, "another")).toEqual({ heartbeat: true });
  expect(await isDraining(town)).toBe(false);
  await town.evict();
  await town.ring(5_000);
  const started = await town.asked(/^\/agents\/start/, 3);
  expect(started.map(({ body }) => [body.role, body.prompt.split("\n")[0]]).slice(1).sort()).toEqual([
    ["polecat", "second"],
    ["refinery", "Review: gt/first"],
  ]);
  await town.rest();
  expect(await reviews()).toMatchObject([{ status: "in_progress" }]);
});

test("an agent that works is left alone while its container ends, however silent it is", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const { town, first } = await draining("drain-silent");
  await town.sql("UPDATE agent_metadata SET last_activity_at = ?, last_event_at = ?", ...Array(2).fill(new Date(Date.now() - 65 * MINUTE).toISOString()));
  await town.evict();
  await town.ring(5_000);
  expect((await town.inRig("GET", `/agents/${first.agent.id}`)).status).toBe("working");
  expect(await town.sql("SELECT COUNT(*) AS n FROM agent_nudges")).toEqual([{ n: 0 }]);
});

test("the end of the evicted container ends the drain at once, and work that waits starts the next", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const { town } = await draining("drain-end");
  const second = await town.sling("second");
  await town.rest();
  await town.play({});
  await town.end();
  await eventually(() => isDraining(town), (draining) => !draining);
  await town.evict();
  await town.ring(5_000);
  const started = await town.asked(/^\/agents\/start/, 2);
  expect(started.at(-1).body.agentId).toBe(second.agent.id);
  expect((await town.played()).starts).toHaveLength(2);
  await town.rest();
});

test("the nonce is offered after eleven minutes, with the town's name, and only to a container that runs", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const { town, nonce } = await draining("drain-offer");
  const offers = async () => (await town.played()).asked.filter(({ path }) => path === "/health");
  await town.ring(10 * MINUTE);
  await town.evict();
  expect(await offers()).toEqual([]);
  await town.ring(MINUTE + 1_000);
  const [offer] = await eventually(offers, (offers) => offers.length > 0);
  expect(offer.headers).toMatchObject({ "x-drain-nonce": nonce, "x-town-id": town.id });
  expect(await isDraining(town)).toBe(true);

  // Another one answers the next: it shows itself by that.
  await town.play({});
  await town.sql("UPDATE drain SET evicted_instance = 'old'");
  await town.sql("UPDATE evicted SET instance = 'old'");
  await town.evict();
  await town.ring(MINUTE + 1_000);
  await eventually(() => isDraining(town), (draining) => !draining);

  const idle = await newTown("drain-idle");
  await evictionOf(idle, "old");
  await idle.evict();
  expect(await idle.ring(11 * MINUTE + 1_000)).toBe(true);
  expect(await isDraining(idle)).toBe(true);
  expect(await idle.ring(4 * MINUTE)).toBe(true);
  expect(await isDraining(idle)).toBe(false);
  expect((await idle.played()).starts).toEqual([]);
});

test("a container that takes no agents any more costs a bead no attempt", async () => {
  const town = await newTown("drain-refused");
  await town.play({ draining: true });
  const { bead, agent } = await town.sling("Too late");
  await town.rest();
  expect(await startsOf(town)).toHaveLength(1);
  expect(await town.bead(bead.bead_id)).toMatchObject({ status: "open", dispatch_attempts: 0 });
  expect((await town.inRig("GET", `/agents/${agent.id}`)).status).toBe("idle");
});
