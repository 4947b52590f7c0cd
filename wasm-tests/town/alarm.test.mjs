// The alarm: when it rings, what a tick asks of the container, and in which order it works. The town's object is evicted between any two steps.

import { runInDurableObject } from "cloudflare:test";
import { afterEach, expect, test, vi } from "vitest";

import { eventually } from "../worker/socket.mjs";
import { claimsOf, newTown } from "./town.mjs";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;

afterEach(() => vi.useRealTimers());

const toTheAlarm = async (town) => {
  const at = await town.alarm();
  return at === null ? null : at - Date.now();
};

test("a town rings every 5 s with work at hand, every 5 min with work that cannot go on, and else never", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("cadence");
  expect(await toTheAlarm(town)).toBe(null);
  expect(await town.ring()).toBe(false);

  const { bead, agent } = await town.sling("Work");
  await town.rest();
  expect(await toTheAlarm(town)).toBeLessThanOrEqual(5 * SECOND);
  await town.ring(5 * SECOND);
  await town.evict();
  expect(await toTheAlarm(town)).toBeGreaterThan(0);
  expect(await toTheAlarm(town)).toBeLessThanOrEqual(5 * SECOND);

  await town.inRig("POST", `/beads/${bead.bead_id}/close`, { agent_id: agent.id });
  await town.evict();
  // The next tick takes the agent off what is over.
  await town.ring(5 * SECOND);
  await town.rest();
  await town.ring(5 * SECOND);
  await town.rest();
  expect(await toTheAlarm(town)).toBe(null);

  await town.inRig("POST", "/beads", { type: "issue", title: "Held", labels: ["gt:held"] });
  await town.ring(5 * SECOND);
  await town.rest();
  expect(await toTheAlarm(town)).toBeGreaterThan(5 * SECOND);
  expect(await toTheAlarm(town)).toBeLessThanOrEqual(5 * MINUTE);
});

test("a second call for one alarm finds what the first one set, and leaves nothing of it behind", async () => {
  const town = await newTown("rung-twice");
  await town.rest();
  const left = await runInDurableObject(town.object, async (instance, state) => {
    await state.storage.setAlarm(Date.now() + 60 * SECOND);
    await instance.alarm();
    return state.storage.getAlarm();
  });
  expect(left).toBe(null);
});

test("a tick asks the container what its agents do, and a container that does not run is not started for it", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("observe");
  const { agent } = await town.sling("Work");
  await town.asked(/^\/agents\/start/);
  await town.rest();
  const statusOf = async () => (await town.inRig("GET", `/agents/${agent.id}`)).status;

  await town.play({ agents: { "*": "running" } });
  await town.ring(5 * SECOND);
  await town.asked(/^\/agents\/[^/]+\/status/);
  await town.evict();
  expect(await statusOf()).toBe("working");

  await town.play({ agents: { "*": "exited" } });
  await town.ring(5 * SECOND);
  await eventually(() => town.sql("SELECT event_type FROM town_events WHERE event_type = 'container_status'"), (rows) => rows.length === 1);
  await town.evict();
  await town.ring(5 * SECOND);
  await eventually(statusOf, (status) => status === "idle");

  const gone = await newTown("observe-gone");
  await gone.sling("Work");
  await gone.asked(/^\/agents\/start/);
  await gone.rest();
  await gone.end();
  await gone.evict();
  await gone.ring(5 * SECOND);
  await gone.evict();
  expect((await gone.played()).starts).toHaveLength(1);
  expect((await gone.asked(/./)).filter(({ path }) => path.endsWith("/status"))).toEqual([]);
});

test("a container in which an agent works is not idle", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("not-idle");
  await town.play({ agents: { "*": "running" } });
  const { agent } = await town.sling("Long work");
  await town.asked(/^\/agents\/start/);
  await town.rest();
  const life = () =>
    runInDurableObject(town.container, (_object, state) => state.storage.sql.exec("SELECT state, used_at FROM container").one());
  const { used_at: first } = await life();
  for (let n = 1; n <= 2; n += 1) {
    await town.heartbeat(agent.id, "i");
    await town.ring(70 * SECOND);
    await eventually(life, ({ used_at }) => used_at >= first + n * MINUTE);
  }
  expect((await life()).state).toBe("running");
});

test("a tick applies what happened before it decides", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("order");
  const { bead, agent } = await town.sling("Work");
  await town.rest();
  await town.inRig("POST", `/agents/${agent.id}/done`, { branch: "gt/b" });
  await town.evict();
  expect((await town.bead(bead.bead_id)).status).toBe("in_progress");
  await town.ring(5 * SECOND);
  expect((await town.bead(bead.bead_id)).status).toBe("in_review");
  expect(await town.inRig("GET", "/beads?type=merge_request")).toMatchObject([{ status: "in_progress" }]);
  const started = await town.asked(/^\/agents\/start/, 2);
  expect(started.at(-1).body).toMatchObject({ role: "refinery", branch: "gt/b" });
  await town.rest();
});

test("a container that runs gets a fresh token, once an hour", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("token");
  await town.play({ agents: { "*": "running" } });
  const { agent } = await town.sling("Work");
  await town.asked(/^\/agents\/start/);
  await town.rest();
  for (let n = 0; n < 3; n += 1) {
    await town.heartbeat(agent.id, "i");
    await town.ring(30 * MINUTE);
    await town.rest();
  }
  const tokens = (await town.asked(/^\/refresh-token/)).map(({ body }) => body.token);
  expect(tokens).toHaveLength(2);
  expect(await claimsOf(tokens[0])).toMatchObject({ townId: town.id, scope: "container" });
});
