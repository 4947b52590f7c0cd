// What the Worker answers for a town without its ledger (spec/town.md 2.3 to 2.5, 9): logs, snapshots, tokens, the register, the way into the container.

import { env, evictDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { expect, test } from "vitest";

import { Socket } from "./socket.mjs";
import { agentToken, containerToken, newTown, refused, send } from "./towns.mjs";

test("the events of an agent are kept in order, apart from those of others", async () => {
  const { ok, rig, id } = await newTown("edge-log");
  const log = (agent_id, event_type, data) => ok.rig("POST", "/agent-events", { agent_id, event_type, data });
  expect(await log("a1", "started", { n: 1 })).toEqual({ appended: true });
  await log("a1", "ended");
  await log("a2", "started");
  await evictDurableObject(env.AGENT.get(env.AGENT.idFromName(`${id}/a1`)));
  const [first, second] = await ok.rig("GET", "/agents/a1/events");
  expect([first, second]).toMatchObject([
    { agent_id: "a1", event_type: "started", data: { n: 1 } },
    { event_type: "ended", data: {} },
  ]);
  expect(await ok.rig("GET", `/agents/a1/events?after_id=${first.id}&limit=1`)).toEqual([second]);
  expect(await rig("GET", "/agents/a1/events?limit=x")).toMatchObject({ status: 400 });
});

test("an agent's database is kept under its town", async () => {
  const { id, rigId, container } = await newTown("edge-snapshot");
  const at = (town) => `http://worker/api/towns/${town}/rigs/${rigId}/agents/a1/db-snapshot`;
  const ask = (method, town, token, body) =>
    exports.default.fetch(at(town), { method, body, headers: { authorization: `Bearer ${token}` } });
  const bytes = new Uint8Array([0, 1, 255]);
  const missing = await ask("GET", id, container);
  expect([missing.status, await missing.json()]).toEqual([404, { success: false, error: "Snapshot not found" }]);
  expect(await (await ask("POST", id, container, bytes)).json()).toEqual({ success: true });
  expect(new Uint8Array(await (await ask("GET", id, container)).arrayBuffer())).toEqual(bytes);
  expect((await ask("GET", "another-town", await containerToken("another-town"))).status).toBe(404);
  const other = await ask("GET", id, await agentToken(id, rigId, "a2"));
  expect([other.status, (await other.json()).error]).toEqual([403, "Token agentId does not match route"]);
  expect(await (await ask("DELETE", id, container)).json()).toEqual({ success: true });
  expect((await ask("GET", id, container)).status).toBe(404);
});

test("a container gets a fresh token for one that has expired, and leaves its events in the log", async () => {
  const { id, town } = await newTown("edge-token");
  const iat = Math.floor(Date.now() / 1000) - 10 * 3600;
  const expired = await containerToken(id, { iat, exp: iat + 8 * 3600, userId: "somebody" });
  const refresh = (token) => send("POST", `/api/towns/${id}/refresh-container-token`, token);
  const { status, body } = await refresh(expired);
  expect(status).toBe(200);
  expect(JSON.parse(atob(body.data.token.split(".")[1]))).toMatchObject({ townId: id, userId: "somebody", scope: "container" });
  expect((await send("GET", `/api/towns/${id}/drain-status`, body.data.token)).status).toBe(200);
  expect(await refresh(await containerToken("another-town"))).toEqual(refused(403, "Cross-town access denied"));
  expect(await refresh(await agentToken(id, "r", "a"))).toEqual(refused(401, "Invalid container token payload"));
  expect((await send("POST", `/api/towns/${id}/container-events`, body.data.token, { event: "boot" })).status).toBe(200);
  expect(await town("POST", "/container-events", {})).toEqual(refused(400, "Missing event name"));
});

test("the register of a container's agents is kept as it came", async () => {
  const { town } = await newTown("edge-registry");
  expect(await town("GET", "/container-registry")).toEqual({ status: 200, body: { success: true, data: [] } });
  const entries = [{ agentId: "a1", request: { model: "m" }, workdir: "/w", env: {} }];
  expect(await town("POST", "/container-registry", entries)).toEqual({ status: 200, body: { success: true } });
  expect(await town("GET", "/container-registry")).toEqual({ status: 200, body: { success: true, data: entries } });
  expect(await town("POST", "/container-registry", {})).toMatchObject({ status: 400, body: { success: false } });
});

test("the way into a container that does not run is closed, and nobody starts it to look", async () => {
  const { id, owner } = await newTown("edge-container");
  const ask = (method, path, body) => send(method, `/api/towns/${id}${path}`, owner, body);
  const gone = refused(404, "The container does not run");
  expect(await ask("GET", "/container/health?wake=1")).toEqual(gone);
  expect(await ask("GET", "/container/agents/a/status")).toEqual(gone);
  expect(await ask("POST", "/container/agents/a/stop", {})).toEqual(gone);
  expect(await ask("POST", "/container/agents/a/stream-ticket")).toEqual(gone);
  expect(await ask("GET", "/container/agents/a/pty/p")).toEqual(gone);
  for (const path of ["start", "a/message"]) {
    expect(await ask("POST", `/container/agents/${path}`)).toEqual(refused(400, "Invalid JSON body"));
  }
  const ids = await ask("GET", "/cloudflare-debug");
  expect(ids.body.data).toEqual({ townDoId: env.TOWN.idFromName(id).toString(), containerDoId: null });
});

test("sockets need a ticket or a token of the owner", async () => {
  const { id, owner } = await newTown("edge-sockets");
  const open = (path, headers) =>
    exports.default.fetch(`http://worker/api/towns/${id}${path}`, { headers: { upgrade: "websocket", ...headers } });
  const said = async (path, headers) => {
    const response = await open(path, headers);
    return [response.status, (await response.json()).error];
  };
  const authorization = `Bearer ${owner}`;
  expect(await said("/status/ws")).toEqual([401, "Missing Authorization header"]);
  expect(await said("/status/ws?ticket=a.b.c")).toEqual([401, "Token validation failed"]);
  const stranger = `Bearer ${await containerToken(id)}`;
  expect((await open("/status/ws", { authorization: stranger })).status).toBe(401);
  expect((await send("GET", `/api/towns/${id}/status/ws`, owner)).status).toBe(426);
  const { body } = await send("POST", `/api/towns/${id}/status/ticket`, owner);
  expect(body.data.url).toBe(`/api/towns/${id}/status/ws`);
  for (const [path, headers] of [[`/status/ws?ticket=${body.data.ticket}`, {}], ["/status/ws", { authorization }]]) {
    const socket = new Socket(await open(path, headers));
    expect(await socket.next()).toMatchObject({ agents: expect.any(Object), beads: expect.any(Object) });
    socket.close();
  }
  for (const path of ["/container/agents/a/stream", "/container/agents/a/pty/p/connect"]) {
    expect(await said(path)).toEqual([401, "Missing ticket"]);
    expect(await said(path, { authorization })).toEqual([404, "No ticket"]);
    expect((await open(`${path}?ticket=any`)).status).toBe(410);
  }
});
