// From work that is slung to an agent that runs in the container, through every object and the host. The town's object is evicted between any two steps.

import { afterEach, expect, test, vi } from "vitest";

import { bindings } from "../worker/bindings.mjs";
import { claimsOf, newTown } from "./town.mjs";

afterEach(() => vi.useRealTimers());

test("work that is slung starts an agent in a container that knows whose it is", async () => {
  const town = await newTown("dispatch", {
    kilocode_token: "kilo-token",
    git_auth: { github_token: "gh-token" },
    git_author_name: "Zoë",
    env_vars: { OWN: "x" },
  });
  expect((await town.played()).starts).toEqual([]);
  const { bead, agent } = await town.sling("Write the parser");
  const [start] = await town.asked(/^\/agents\/start/);
  const { starts } = await town.played();

  expect(starts).toHaveLength(1);
  expect(starts[0]).toMatchObject({
    role: "town",
    env: {
      GASTOWN_TOWN_ID: town.id,
      GASTOWN_API_URL: bindings.WORKER_URL,
      GASTOWN_GIT_AUTHOR_NAME: "Zoë",
      GIT_TOKEN: "gh-token",
      KILOCODE_TOKEN: "kilo-token",
    },
  });
  expect(starts[0].env).not.toHaveProperty("OWN");
  expect(await claimsOf(starts[0].env.GASTOWN_CONTAINER_TOKEN)).toMatchObject({ townId: town.id, userId: town.user, scope: "container" });

  expect(start).toMatchObject({ method: "POST", path: "/agents/start" });
  expect(start.body).toMatchObject({
    agentId: agent.id,
    rigId: town.rig,
    townId: town.id,
    role: "polecat",
    name: agent.name,
    identity: agent.identity,
    prompt: "Write the parser",
    gitUrl: "https://example.com/r.git",
    branch: `gt/${agent.name.toLowerCase()}/${bead.bead_id.slice(0, 8)}`,
    defaultBranch: "main",
    model: "anthropic/claude-sonnet-4.6",
    envVars: { OWN: "x", GIT_TOKEN: "gh-token", KILOCODE_TOKEN: "kilo-token", GASTOWN_GIT_AUTHOR_NAME: "Zoë" },
  });
  expect(await claimsOf(start.body.envVars.GASTOWN_CONTAINER_TOKEN)).toMatchObject({ townId: town.id, scope: "container" });
  expect(JSON.parse(start.headers["x-town-config"])).toMatchObject({ git_author_name: "Zoë", kilocode_token: "kilo-token" });

  await town.rest();
  expect(await town.bead(bead.bead_id)).toMatchObject({ status: "in_progress", assignee_agent_bead_id: agent.id, dispatch_attempts: 1 });
});

test("a start that was owed when the object was lost is made by the alarm, once the container comes up", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("owed");
  await town.play({ refuses: true });
  const { agent } = await town.sling("Later");
  const key = [`start/${agent.id}/${(await town.sql("SELECT bead_id FROM beads WHERE type = 'issue'"))[0].bead_id}`];
  await town.evict();
  expect(await town.owed()).toEqual(key);
  await town.play({});
  expect((await town.played()).asked).toEqual([]);
  expect(await town.ring(80_000)).toBe(true);
  const starts = await town.asked(/^\/agents\/start/);
  expect(starts.map(({ body }) => body.agentId)).toEqual([agent.id]);
  await town.rest();
});

test("an answer that was lost is asked for, and an agent that runs is not started again", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("lost-answer");
  const { bead, agent } = await town.sling("Once");
  await town.asked(/^\/agents\/start/);
  // Before the answer is back.
  await town.evict();
  await town.play({ agents: { "*": "running" } });
  expect(await town.ring(80_000)).toBe(true);
  await town.rest();
  expect((await town.asked(/./)).filter(({ path }) => path === "/agents/start")).toHaveLength(1);
  expect(await town.bead(bead.bead_id)).toMatchObject({ status: "in_progress", assignee_agent_bead_id: agent.id });
});

test("an agent that runs since before its start was owed has other work, and is started for this one", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("older-run");
  const startedAt = new Date(Date.now() - 60_000).toISOString();
  await town.play({ start: [503, { error: "SANDBOX_CONNECT_FAILED", message: "not up yet" }] });
  await town.sling("Next");
  await town.asked(/^\/agents\/start/);
  await town.evict();
  await town.play({ agents: { "*": "running" }, startedAt });
  expect(await town.ring(80_000)).toBe(true);
  expect(await town.asked(/^\/agents\/start/, 2)).toHaveLength(2);
  await town.rest();
});

test("an agent that could not be started is idle again, and its bead keeps its count", async () => {
  const town = await newTown("failed");
  await town.play({ start: [500, { error: "clone failed" }] });
  const { bead, agent } = await town.sling("Cannot start");
  await town.rest();
  expect((await town.inRig("GET", `/agents/${agent.id}`)).status).toBe("idle");
  expect((await town.bead(bead.bead_id)).dispatch_attempts).toBe(1);
  expect((await town.played()).asked.filter(({ path }) => path === "/agents/start")).toHaveLength(1);
});

test("a new configuration reaches a container that runs, and starts none", async () => {
  const town = await newTown("config");
  const patch = async (body) => {
    const response = await town.asUser("/config", { method: "PATCH", body: JSON.stringify(body) });
    expect(await response.json()).toMatchObject({ success: true, data: body });
  };
  await patch({ git_author_name: "A" });
  await town.rest();
  expect((await town.played()).starts).toEqual([]);

  await town.sling("Work");
  await town.asked(/^\/agents\/start/);
  await patch({ git_author_name: "B" });
  const [synced] = await town.asked(/^\/sync-config/);
  expect(JSON.parse(synced.headers["x-town-config"]).git_author_name).toBe("B");
  await town.rest();
});
