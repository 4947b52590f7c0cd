// The status stream: a snapshot at once, then what changes, across hibernation; and a town that nobody looks at sleeps.

import { afterEach, expect, test, vi } from "vitest";

import { Socket, eventually } from "../worker/socket.mjs";
import { rowsOf } from "./meter.mjs";
import { ask, newTown } from "./town.mjs";

afterEach(() => vi.useRealTimers());

async function handshake(town, query = "", headers = {}) {
  return ask(`/api/towns/${town.id}/status/ws${query}`, { headers: { upgrade: "websocket", ...headers } });
}

/** A viewer with a ticket, as a browser comes. */
async function watch(town) {
  const response = await town.asUser("/status/ticket", { method: "POST" });
  const { ticket } = (await response.json()).data;
  return new Socket(await handshake(town, `?ticket=${ticket}`));
}

const isSnapshot = (frame) => !frame.type && !frame.channel;
const isBead = (type) => (frame) => frame.channel === "bead" && frame.type === type;

test("nobody looks without a ticket or a token of the owner", async () => {
  const town = await newTown("status-guard");
  for (const [query, headers] of [["", {}], ["?ticket=forged", {}], ["", { authorization: "Bearer forged" }]]) {
    const response = await handshake(town, query, headers);
    expect([response.status, response.webSocket]).toEqual([401, null]);
  }
  const other = await newTown("status-other");
  expect((await handshake(town, "", other.headers)).status).toBe(403);
  expect((await handshake(town, "", town.headers)).status).toBe(101);
});

test("a viewer gets the town at once and each change, also from an object that was evicted", async () => {
  const town = await newTown("status");
  const viewer = await watch(town);
  expect(await viewer.next()).toMatchObject({
    agents: { total: 0 },
    beads: { open: 0, inProgress: 0 },
    alarm: { intervalLabel: "idle (5m)", intervalMs: 300_000 },
    recentEvents: [],
  });
  await town.evict();

  const { bead, agent } = await town.sling("Seen");
  expect(await viewer.next(isBead("bead.created"))).toMatchObject({ beadId: bead.bead_id, title: "Seen", rigId: town.rig });
  await town.rest();
  await town.inRig("POST", `/agents/${agent.id}/status`, { message: "reading the parser" });
  expect(await viewer.next((frame) => frame.type === "agent_status")).toMatchObject({ agentId: agent.id, message: "reading the parser" });
  await town.evict();
  viewer.send({ type: "anything", at: "all" });
  await town.ring();
  expect(await viewer.next(isSnapshot)).toMatchObject({ agents: { working: 1, total: 1 }, beads: { inProgress: 1 } });
  await town.evict();
  await town.inRig("POST", `/beads/${bead.bead_id}/close`, { agent_id: agent.id });
  expect(await viewer.next(isBead("bead.closed"))).toMatchObject({ beadId: bead.bead_id, status: "closed" });
  viewer.close();
});

test("a town without work ticks only while somebody looks, and writes nothing when nothing changed", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("status-cadence");
  expect(await town.alarm()).toBe(null);
  const viewer = await watch(town);
  await viewer.next(isSnapshot);
  await town.evict();
  const at = await town.alarm();
  expect(at - Date.now()).toBeGreaterThan(0);
  expect(at - Date.now()).toBeLessThanOrEqual(300_000);

  const { statements, written } = await rowsOf(town.object, async () => {
    expect(await town.ring(300_000)).toBe(true);
    await viewer.next(isSnapshot);
  });
  expect(statements).toBeGreaterThan(10);
  expect(written).toBe(0);
  expect((await town.played()).starts).toEqual([]);

  viewer.close();
  await viewer.closed();
  await eventually(() => town.alarm(), (alarm) => alarm === null);
});
