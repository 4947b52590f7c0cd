// A town that is deleted: its container ends whatever it does, nothing grows back, and what a crash interrupts goes on.

import { env, evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { afterEach, expect, test, vi } from "vitest";

import { eventually } from "../worker/socket.mjs";
import { userToken } from "../worker/towns.mjs";
import { ask, containerToken, newTown } from "./town.mjs";

afterEach(() => vi.useRealTimers());

async function remove(town) {
  const response = await ask(`/api/users/${town.user}/towns/${town.id}`, { method: "DELETE", headers: town.headers });
  expect([response.status, await response.json()]).toEqual([200, { success: true, data: { deleted: true } }]);
}

/** What the container's object holds: the state of the container, and how much is kept. */
const kept = (town) =>
  runInDurableObject(town.container, (_object, state) => {
    const { sql } = state.storage;
    const count = (table) => sql.exec(`SELECT COUNT(*) AS n FROM ${table}`).one().n;
    const rows = ["env", "owed", "registry", "settings"].map(count);
    return [sql.exec("SELECT state FROM container").toArray().map((row) => row.state).join(), ...rows];
  });

const isRunning = async (town) => (await town.played()).running;

/** Waits until the town has nothing left to do, and its container is gone. */
async function gone(town) {
  await eventually(() => isRunning(town), (running) => !running);
  await eventually(() => town.owed(), (owed) => owed.length === 0);
  await eventually(() => town.alarm(), (alarm) => alarm === null);
  await evictDurableObject(town.container);
  expect(await kept(town)).toEqual(["stopped", 0, 0, 0, 0]);
}

test("a town that is deleted takes its container, and all that is kept for it, along", async () => {
  const town = await newTown("deleted", { kilocode_token: "secret" });
  await town.sling("Work");
  await town.asked(/^\/agents\/start/);
  await town.rest();
  await town.town("POST", "/container-eviction", { containerInstanceId: `${town.id}-1` });
  expect(await isRunning(town)).toBe(true);
  await remove(town);
  await gone(town);
  const left = await town.sql(
    "SELECT (SELECT COUNT(*) FROM beads) + (SELECT COUNT(*) FROM drain) + (SELECT COUNT(*) FROM evicted) + (SELECT COUNT(*) FROM town_events) AS n",
  );
  expect(left).toEqual([{ n: 0 }]);
});

test("a container that just starts ends with its town, and is not started again", async () => {
  const town = await newTown("deleted-starting");
  await town.play({ mute: true });
  await town.sling("Work");
  await eventually(() => isRunning(town), (running) => running);
  expect((await kept(town))[0]).toBe("starting");
  await remove(town);
  await gone(town);
  await town.play({});
  const late = await town.container.fetch("http://container/agents/start?wake=1", { method: "POST", body: "{}" });
  expect(late.status).toBe(410);
  await late.text();
  expect((await town.played()).starts).toHaveLength(1);
});

test("a container that is asked to end, and takes its time, is ended with its town", async () => {
  const town = await newTown("deleted-stopping");
  await town.sling("Work");
  await town.asked(/^\/agents\/start/);
  await town.rest();
  await runInDurableObject(town.container, (_object, state) => {
    state.storage.sql.exec("UPDATE container SET state = 'stopping', since = ?", Date.now());
  });
  await evictDurableObject(town.container);
  expect(await isRunning(town)).toBe(true);
  await remove(town);
  await gone(town);
});

test("the end of a container is owed until it is known to be gone, by an object that was lost meanwhile too", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown("deleted-owed");
  await town.sling("Work");
  await town.asked(/^\/agents\/start/);
  await town.rest();
  await town.play({ clings: true });
  await remove(town);
  await eventually(() => town.owed(), (owed) => owed.join() === "end");
  await town.evict();
  await evictDurableObject(town.container);
  expect(await town.ring(31_000)).toBe(true);
  await town.evict();
  expect([await town.owed(), await isRunning(town)]).toEqual([["end"], true]);
  await town.play({});
  expect(await town.ring(61_000)).toBe(true);
  await gone(town);
});

test("what the container of a deleted town still says is refused, and leaves nothing", async () => {
  const town = await newTown("deleted-late");
  const { agent } = await town.sling("Work");
  await town.asked(/^\/agents\/start/);
  await town.inRig("POST", "/agent-events", { agent_id: agent.id, event_type: "said", data: {} });
  const log = env.AGENT.get(env.AGENT.idFromName(`${town.id}/${agent.id}`));
  await evictDurableObject(log);
  await town.rest();
  const token = await containerToken(town.id);
  const ticket = (await (await town.asUser("/status/ticket", { method: "POST" })).json()).data.ticket;
  await remove(town);
  await gone(town);

  const say = async (method, path, body, headers) => {
    const response = await ask(path, { method, body, headers: { authorization: `Bearer ${token}`, ...headers } });
    return [response.status, (await response.json()).error];
  };
  const [below, rig] = [`/api/towns/${town.id}`, `/api/towns/${town.id}/rigs/${town.rig}`];
  const noTown = [404, "Town not found"];
  const noAgent = [404, "Agent not found"];
  expect(await say("POST", `${below}/container-eviction`, '{"containerInstanceId":"i"}')).toEqual(noTown);
  expect(await say("POST", `${below}/container-ready`, '{"nonce":"n"}')).toEqual(noTown);
  expect(await say("GET", `${below}/drain-status`)).toEqual(noTown);
  expect(await say("POST", `${below}/container-registry`, "[]")).toEqual(noTown);
  expect(await say("POST", `${below}/container-events`, '{"event":"boot"}')).toEqual(noTown);
  expect(await say("POST", `${below}/refresh-container-token`)).toEqual(noTown);
  expect(await say("POST", `${rig}/agents/${agent.id}/heartbeat`, "{}")).toEqual(noTown);
  expect(await say("POST", `${rig}/agents/${agent.id}/done`, '{"branch":"b"}')).toEqual(noTown);
  expect(await say("POST", `${rig}/beads`, '{"type":"issue","title":"t"}')).toEqual(noTown);
  expect(await say("POST", `${rig}/agent-events`, JSON.stringify({ agent_id: agent.id, event_type: "said" }))).toEqual(noAgent);
  expect(await say("POST", `${rig}/agents/${agent.id}/db-snapshot`, new Uint8Array([1]))).toEqual(noAgent);
  expect(await say("GET", `${rig}/agents/${agent.id}/db-snapshot`)).toEqual([404, "Snapshot not found"]);
  expect(await say("GET", `${below}/status/ws?ticket=${ticket}`, undefined, { upgrade: "websocket" })).toEqual(noTown);

  expect(await town.sql("SELECT name FROM gone")).toEqual([{ name: "town" }]);
  await gone(town);
  const events = await runInDurableObject(log, (_object, state) => state.storage.sql.exec("SELECT COUNT(*) AS n FROM event").one().n);
  expect(events).toBe(0);
  expect((await env.STORE.list({ prefix: `towns/${town.id}/` })).objects).toEqual([]);
});

/** A user's object as a crash leaves it: the rows are written, the town was not told. */
async function interrupted(user, statements) {
  const object = env.USER.get(env.USER.idFromName(`user:${user}`));
  await (await ask(`/api/users/${user}/towns`, { headers: { authorization: `Bearer ${await userToken(user)}` } })).text();
  await runInDurableObject(object, async (_object, state) => {
    for (const [key, change, sql, ...values] of statements) {
      if (sql) state.storage.sql.exec(sql, ...values);
      state.storage.sql.exec("INSERT INTO owed (key, effect, since, attempt, retry_at) VALUES (?, ?, 0, 1, 0)", key, JSON.stringify(change));
    }
    await state.storage.setAlarm(Date.now() + 3_600_000);
  });
  await evictDurableObject(object);
  return object;
}

test("what was being made when the user's object was lost is made by its alarm", async () => {
  const user = "usr-interrupted";
  const headers = { authorization: `Bearer ${await userToken(user)}` };
  const [town, rig] = ["00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"];
  const adding = { town, rig, name: "app", git_url: "https://example.com/r.git", default_branch: "main", kilocode_token: "kilo-9876543210" };
  const object = await interrupted(user, [
    [`town/${town}`, { make_town: { town } }, "INSERT INTO user_towns VALUES (?, 'Home', ?, 0, 0)", town, user],
    [`rig/${rig}`, { add_rig: adding }, "INSERT INTO user_rigs VALUES (?, ?, 'app', 'https://example.com/r.git', 'main', NULL, 0, 0)", rig, town],
  ]);
  const config = () => ask(`/api/towns/${town}/config`, { headers });
  expect((await config()).status).toBe(404);
  const owed = () => runInDurableObject(object, (_object, state) => state.storage.sql.exec("SELECT COUNT(*) AS n FROM owed").one().n);
  for (let tries = 0; tries < 3 && (await owed()) > 0; tries += 1) {
    // The rig may have come before its town.
    await runInDurableObject(object, (_object, state) => void state.storage.sql.exec("UPDATE owed SET retry_at = 0"));
    await runDurableObjectAlarm(object);
  }
  expect(await owed()).toBe(0);
  expect(await (await config()).json()).toMatchObject({ success: true, data: { owner_user_id: user, kilocode_token: "****3210" } });
  const tools = await ask(`/api/mayor/${town}/tools/rigs`, { headers: { authorization: `Bearer ${await containerToken(town)}` } });
  expect((await tools.json()).data).toMatchObject([{ id: rig, name: "app" }]);
  await runInDurableObject(object, async (_object, state) => expect(await state.storage.getAlarm()).toBe(null));
});

test("a rig that its user's object announces again does not put an older token back", async () => {
  const town = await newTown("told-again");
  const headers = { "x-holdfast-caller": `user:${town.user}` };
  const rig = { name: "late", git_url: "https://example.com/r.git", default_branch: "main", kilocode_token: "kilo-first-1111" };
  const tell = async () => (await town.object.fetch(`http://town/rigs/00000000-0000-4000-8000-000000000004`, { method: "PUT", headers, body: JSON.stringify(rig) })).text();
  await tell();
  await (await town.asUser("/config", { method: "PATCH", body: JSON.stringify({ kilocode_token: "kilo-second-2222" }) })).text();
  await tell();
  expect((await (await town.asUser("/config")).json()).data.kilocode_token).toBe("****2222");
});

test("what was being removed when the user's object was lost is removed, also from a town that had not heard of it", async () => {
  const town = await newTown("removed-later");
  const late = "00000000-0000-4000-8000-000000000003";
  const object = await interrupted(town.user, [
    [`rig/${town.rig}`, { remove_rig: { town: town.id, rig: town.rig } }],
    [`rig/${late}`, { remove_rig: { town: town.id, rig: late } }],
  ]);
  expect(await runDurableObjectAlarm(object)).toBe(true);
  const rigs = await town.call("GET", `/api/mayor/${town.id}/tools/rigs`);
  expect(rigs).toEqual([]);
  // Its creation comes last, and makes nothing.
  const headers = { "x-holdfast-caller": `user:${town.user}` };
  const body = JSON.stringify({ name: "late", git_url: "https://example.com/r.git", default_branch: "main" });
  const creation = await town.object.fetch(`http://town/rigs/${late}`, { method: "PUT", headers, body });
  expect([creation.status, await creation.json()]).toEqual([404, { success: false, error: "Rig not found" }]);
});
