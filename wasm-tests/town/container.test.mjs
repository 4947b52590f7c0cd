// What only a town's container has: registry, settings, requests and sockets that pass through, the notice of its end; and an agent's log.

import { env, evictDurableObject, runInDurableObject } from "cloudflare:test";
import { afterEach, expect, test, vi } from "vitest";

import { Socket, eventually } from "../worker/socket.mjs";
import { ask, containerToken, newTown } from "./town.mjs";

afterEach(() => vi.useRealTimers());

/** A town whose container runs, with an agent in it. */
async function running(name, config) {
  const town = await newTown(name, config);
  const { agent } = await town.sling("Work");
  await town.asked(/^\/agents\/start/);
  await town.rest();
  return { town, agent };
}

test("the registry is kept as it came, and is an array", async () => {
  const town = await newTown("registry");
  const path = "/container-registry";
  expect(await town.town("GET", path)).toEqual([]);
  const entries = [{ agentId: "a", request: { prompt: "x" }, workdir: "/w", env: { K: "v" } }];
  const headers = { authorization: `Bearer ${await containerToken(town.id)}` };
  const put = (body) => ask(`/api/towns/${town.id}${path}`, { method: "POST", headers, body });
  expect(await (await put(JSON.stringify(entries))).json()).toEqual({ success: true });
  await evictDurableObject(town.container);
  expect(await town.town("GET", path)).toEqual(entries);
  for (const body of ["{}", "x", '"[]"']) {
    const refused = await put(body);
    expect([refused.status, (await refused.json()).success]).toEqual([400, false]);
  }
  expect(await town.town("GET", path)).toEqual(entries);
});

test("a user's request reaches a container that runs, with its query and the town's own configuration, and starts none", async () => {
  const stopped = await newTown("stopped");
  const health = await stopped.asUser("/container/health");
  expect([health.status, (await health.json()).success]).toEqual([404, false]);
  expect((await stopped.played()).starts).toEqual([]);

  const { town, agent } = await running("forward", { git_author_name: "A" });
  await town.play({ agents: { "*": "running" } });
  const response = await town.asUser(`/container/agents/${agent.id}/status?after=5&wake=1&q=a%26b`, {
    headers: { "x-town-config": '{"git_author_name":"forged"}' },
  });
  expect(await response.json()).toMatchObject({ success: true, data: { agentId: agent.id, status: "running" } });
  const [passed] = await town.asked(/status\?/);
  expect(passed.path).toBe(`/agents/${agent.id}/status?after=5&q=a%26b`);
  expect(JSON.parse(passed.headers["x-town-config"]).git_author_name).toBe("A");
});

test("a socket into the container passes through as it is, both ways", async () => {
  const { town, agent } = await running("socket", { git_author_name: "Zoë" });
  await town.play({ agent: [200, { ticket: "from-the-container", expiresAt: "2026-01-01T00:00:00.000Z" }] });
  const given = await town.asUser(`/container/agents/${agent.id}/stream-ticket`, { method: "POST" });
  const { url, ticket } = (await given.json()).data;
  expect(url).toBe(`/api/towns/${town.id}/container/agents/${agent.id}/stream`);
  const open = () => ask(`${url}?ticket=${ticket}&after=1`, { headers: { upgrade: "websocket" } });
  const socket = new Socket(await open());
  const hello = await socket.next();
  expect(hello.url).toMatch(new RegExp(`/ports/8080/agents/${agent.id}/stream\\?after=1&ticket=from-the-container$`));
  expect(JSON.parse(hello.config)).toMatchObject({ git_author_name: "Zoë" });
  for (let n = 0; n < 3; n += 1) {
    socket.send({ n });
    expect(await socket.next()).toEqual({ echo: { n } });
  }
  socket.close();
  await town.end();
  const gone = await open();
  expect(gone.webSocket).toBe(null);
  await gone.text();
});

test("who works in a container keeps it, and who looks at it does not", async () => {
  const { town, agent } = await running("use");
  await town.play({ agents: { "*": "running" } });
  const container = (sql) => runInDurableObject(town.container, (_object, state) => state.storage.sql.exec(sql).toArray());
  const path = `/container/agents/${agent.id}`;
  for (const [verb, init, keeps] of [["/status", {}, false], ["/message", { method: "POST", body: JSON.stringify({ prompt: "Go on" }) }, true]]) {
    await container("UPDATE container SET used_at = 0");
    const response = await town.asUser(path + verb, init);
    expect([verb, response.ok]).toEqual([verb, true]);
    await response.text();
    const [{ used_at: usedAt }] = await container("SELECT used_at FROM container");
    expect([verb, usedAt > 0]).toEqual([verb, keeps]);
  }
});

test("settings that come late do not replace newer ones, and the same again are not written", async () => {
  const town = await newTown("settings");
  const put = async (at, name) => {
    const settings = { at, user: "u", env: { GASTOWN_GIT_AUTHOR_NAME: name }, config: `{"git_author_name":"${name}"}` };
    const response = await town.container.fetch("http://container/town/settings", { method: "PUT", body: JSON.stringify(settings) });
    await response.text();
    await evictDurableObject(town.container);
    return response.status;
  };
  const kept = () =>
    runInDurableObject(town.container, (_object, state) =>
      state.storage.sql.exec("SELECT config, value, total_changes() AS changes FROM settings, env").one(),
    );
  const later = Date.now() + 60_000;
  expect(await put(later, "new")).toBe(200);
  expect(await put(later - 1, "old")).toBe(200);
  expect(await kept()).toMatchObject({ config: '{"git_author_name":"new"}', value: "new" });
  const { changes } = await kept();
  expect(await put(later + 1, "new")).toBe(200);
  expect((await kept()).changes).toBeLessThanOrEqual(changes);
});

test("the end of a container is owed to its town until it has heard of it", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });
  const { town } = await running("notice");
  const notices = () => runInDurableObject(town.container, (_object, state) => state.storage.sql.exec("SELECT key FROM owed").toArray());
  await town.town("POST", "/container-eviction", { containerInstanceId: "old" });
  // As a crash leaves it: the end is written, the town has not heard.
  await runInDurableObject(town.container, (_object, state) => {
    state.storage.sql.exec("UPDATE container SET state = 'stopped'");
    const now = Date.now();
    state.storage.sql.exec("INSERT INTO owed (key, effect, since, attempt, retry_at) VALUES ('ended', ?, ?, 1, ?)", String(now), now, now);
  });
  await evictDurableObject(town.container);
  // Whatever wakes the object.
  await (await town.container.fetch("http://container/health")).text();
  await eventually(() => town.town("GET", "/drain-status"), ({ draining }) => !draining);
  await eventually(notices, (owed) => owed.length === 0);
});

test("an agent's events are listed in order, for its town alone, and go with the agent", async () => {
  const { town, agent } = await running("events");
  const log = env.AGENT.get(env.AGENT.idFromName(`${town.id}/${agent.id}`));
  for (let n = 1; n <= 3; n += 1) {
    const event = { agent_id: agent.id, event_type: "message", data: { n } };
    expect(await town.inRig("POST", "/agent-events", event)).toEqual({ appended: true });
    await evictDurableObject(log);
  }
  const listed = await town.inRig("GET", `/agents/${agent.id}/events?after_id=1&limit=5`);
  expect(listed).toMatchObject([2, 3].map((n) => ({ id: n, agent_id: agent.id, event_type: "message", data: { n } })));
  expect(await town.inRig("DELETE", `/agents/${agent.id}`)).toEqual({ deleted: true });
  const rows = () => runInDurableObject(log, (_object, state) => state.storage.sql.exec("SELECT COUNT(*) AS n FROM event").one().n);
  await eventually(rows, (count) => count === 0);
});
