// A town's drain through the built Worker: guards, shapes, and a TownDO that is evicted between any two steps.

import { env, evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { afterEach, expect, test, vi } from "vitest";

import { bindings } from "./bindings.mjs";
import { ANSWER_MS } from "./socket.mjs";
import { sign } from "./tokens.mjs";
import { newTown, refused } from "./towns.mjs";

const MINUTE = 60_000;

afterEach(() => vi.useRealTimers());

/** What a container of `town` may say. */
function containerToken(town) {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { townId: town, userId: "u", scope: "container", iat, exp: iat + 8 * 3600 };
  return sign(bindings.GASTOWN_JWT_SECRET, claims);
}

async function send(method, path, token, body) {
  const response = await exports.default.fetch(`http://worker${path}`, {
    method,
    body,
    headers: token ? { authorization: `Bearer ${token}` } : {},
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  return { status: response.status, body: await response.json() };
}

/** The calls of a container of a new town of `user`. Each finds an object that has just been evicted. */
async function townOf(user) {
  const { id: name } = await newTown(user);
  const token = await containerToken(name);
  const object = env.TOWN.get(env.TOWN.idFromName(name));
  const call = async (method, path, body) => {
    const { status, body: answer } = await send(method, `/api/towns/${name}${path}`, token, body && JSON.stringify(body));
    expect(status).toBe(200);
    expect(answer.success).toBe(true);
    await evictDurableObject(object);
    return answer.data;
  };
  return {
    id: name,
    object,
    evict: async (instance) => {
      const answer = await call("POST", "/container-eviction", instance && { containerInstanceId: instance });
      expect(answer).toEqual({ acknowledged: true, drainNonce: expect.stringMatching(/^[0-9a-f-]{36}$/) });
      return answer.drainNonce;
    },
    ready: (nonce, instance) => call("POST", "/container-ready", { nonce, containerInstanceId: instance }),
    status: () => call("GET", "/drain-status"),
    beat: (instance) => call("POST", "/rigs/r1/agents/a1/heartbeat", { containerInstanceId: instance, activeTools: [] }),
  };
}

/** Moves the clock of the isolate, and rings the alarm as the platform would. */
async function passAndRing(town, ms) {
  vi.setSystemTime(Date.now() + ms);
  return runDurableObjectAlarm(town.object);
}

test("the drain routes let nobody in but the town's own container", async () => {
  const iat = Math.floor(Date.now() / 1000);
  const { id: town } = await newTown("drain-guards");
  const agentClaims = { townId: town, rigId: "r1", agentId: "a1", userId: "u", iat, exp: iat + 60 };
  const agent = await sign(bindings.GASTOWN_JWT_SECRET, agentClaims);
  const other = await containerToken("another-town");
  const routes = [
    ["POST", "/container-eviction"],
    ["POST", "/container-ready"],
    ["GET", "/drain-status"],
  ];
  for (const [method, path] of routes) {
    const refusal = async (token) => send(method, `/api/towns/${town}${path}`, token);
    const failure = (error) => ({ success: false, error });
    expect(await refusal()).toEqual({ status: 401, body: failure("Authentication required") });
    expect(await refusal(agent)).toEqual({ status: 401, body: failure("Invalid container token payload") });
    expect(await refusal(other)).toEqual({ status: 403, body: failure("Cross-town access denied") });
  }
  const heartbeat = `/api/towns/${town}/rigs/r1/agents/a1/heartbeat`;
  expect((await send("POST", heartbeat)).status).toBe(401);
  expect((await send("POST", heartbeat, other)).status).toBe(403);
  expect(await send("POST", heartbeat, agent)).toEqual({ status: 200, body: { success: true, data: { heartbeat: true } } });
  expect((await send("POST", `/api/towns/${town}/rigs/r1/agents/a2/heartbeat`, agent)).body.error).toBe(
    "Token agentId does not match route",
  );
});

test("bad input is refused in the family's own shape, and stores nothing", async () => {
  const token = await containerToken("bad-input");
  const ready = (body) => send("POST", "/api/towns/bad-input/container-ready", token, body);
  for (const body of [undefined, "{", "{}", '{"nonce":7}', '{"nonce":""}']) {
    expect(await ready(body)).toEqual({ status: 400, body: { success: false, error: "Missing required field: nonce" } });
  }
  expect(await ready(`{"nonce":"${"x".repeat(1024 * 1024)}"}`)).toMatchObject({ status: 413, body: { success: false } });
  const error = async (method, path) => {
    const { status, body } = await send(method, path, token);
    expect(body.success).toBe(false);
    return [status, body.error];
  };
  expect(await error("GET", "/api/towns/bad-input/container-ready")).toEqual([405, "Method not allowed"]);
  expect(await error("GET", "/api/towns/bad-input/nothing")).toEqual([404, "Not found"]);
  expect(await error("POST", "/api/towns/bad-input/rigs/r1/refresh-git-token")).toEqual([501, "Not implemented"]);
});

test("an eviction drains the town until the replacement sends the nonce back", async () => {
  const town = await townOf("by-nonce");
  expect(await town.status()).toEqual({ draining: false, drainNonce: null });
  expect(await town.ready("any")).toEqual({ cleared: true });
  const first = await town.evict();
  const nonce = await town.evict();
  expect(nonce).not.toBe(first);
  expect(await town.status()).toEqual({ draining: true, drainNonce: nonce });
  expect(await town.beat()).toEqual({ heartbeat: true, drainNonce: nonce });
  expect(await town.ready(first)).toEqual({ cleared: false });
  expect(await town.ready(nonce)).toEqual({ cleared: true });
  expect(await town.status()).toEqual({ draining: false, drainNonce: null });
  expect(await town.beat()).toEqual({ heartbeat: true });
  expect(await runDurableObjectAlarm(town.object)).toBe(false);
});

test("the old container ends nothing, and its replacement by being there", async () => {
  const town = await townOf("by-instance");
  const nonce = await town.evict("old");
  expect(await town.beat("old")).toEqual({ heartbeat: true });
  expect(await town.ready(nonce, "old")).toEqual({ cleared: false });
  expect((await town.status()).draining).toBe(true);
  expect(await town.beat("new")).toEqual({ heartbeat: true });
  expect((await town.status()).draining).toBe(false);
});

test("a drain that nobody ends expires by its alarm, and never starts a container", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await townOf("by-time");
  await town.evict("old");
  expect(await passAndRing(town, 11 * MINUTE)).toBe(true);
  expect((await town.status()).draining).toBe(true);
  const container = env.TOWN_CONTAINER.get(env.TOWN_CONTAINER.idFromName(town.id));
  const starts = await runInDurableObject(container, (_object, state) =>
    state.storage.sql.exec("SELECT COUNT(*) AS n FROM container").toArray(),
  );
  expect(starts).toEqual([{ n: 0 }]);
  expect(await passAndRing(town, 4 * MINUTE)).toBe(true);
  const ended = await runInDurableObject(town.object, (_object, state) =>
    state.storage.sql.exec("SELECT COUNT(*) AS n FROM drain").toArray(),
  );
  expect(ended).toEqual([{ n: 0 }]);
  expect(await runDurableObjectAlarm(town.object)).toBe(false);
});

test("a town that nobody made takes nothing, and stores nothing", async () => {
  const token = await containerToken("never-made");
  const notFound = refused(404, "Town not found");
  const at = (path) => `/api/towns/never-made${path}`;
  expect(await send("POST", at("/container-eviction"), token)).toEqual(notFound);
  expect(await send("POST", at("/container-ready"), token, '{"nonce":"n"}')).toEqual(notFound);
  expect(await send("GET", at("/drain-status"), token)).toEqual(notFound);
  expect(await send("POST", at("/rigs/r1/agents/a1/heartbeat"), token)).toEqual(notFound);
  expect(await send("POST", at("/refresh-container-token"), token)).toEqual(notFound);
  const object = env.TOWN.get(env.TOWN.idFromName("never-made"));
  const rows = await runInDurableObject(object, async (_object, state) => [
    state.storage.sql.exec("SELECT (SELECT COUNT(*) FROM drain) + (SELECT COUNT(*) FROM evicted) + (SELECT COUNT(*) FROM town_events) AS n").one().n,
    await state.storage.getAlarm(),
  ]);
  expect(rows).toEqual([0, null]);
});
