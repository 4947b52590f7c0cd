// What the Worker answers for a town without its ledger (spec/town.md 2.3 to 2.5, 9): logs, snapshots, tokens, the register, the way into the container.

import { env, evictDurableObject, listDurableObjectIds, runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { expect, test } from "vitest";

import { bindings } from "./bindings.mjs";
import { Socket } from "./socket.mjs";
import { sign } from "./tokens.mjs";
import { agentToken, containerToken, newTown, refused, send } from "./towns.mjs";

test("the events of an agent are kept in order, apart from those of others", async () => {
  const { ok, rig, id } = await newTown("edge-log");
  const register = async (name) => (await ok.rig("POST", "/agents", { role: "polecat", name, identity: name })).id;
  const [a1, a2] = [await register("one"), await register("two")];
  const log = (agent_id, event_type, data) => ok.rig("POST", "/agent-events", { agent_id, event_type, data });
  expect(await log(a1, "started", { n: 1 })).toEqual({ appended: true });
  await log(a1, "ended");
  await log(a2, "started");
  await evictDurableObject(env.AGENT.get(env.AGENT.idFromName(`${id}/${a1}`)));
  const [first, second] = await ok.rig("GET", `/agents/${a1}/events`);
  expect([first, second]).toMatchObject([
    { agent_id: a1, event_type: "started", data: { n: 1 } },
    { event_type: "ended", data: {} },
  ]);
  expect(await ok.rig("GET", `/agents/${a1}/events?after_id=${first.id}&limit=1`)).toEqual([second]);
  expect(await rig("GET", `/agents/${a1}/events?limit=x`)).toMatchObject({ status: 400 });
  const nobody = { agent_id: "nobody", event_type: "said", data: {} };
  expect(await rig("POST", "/agent-events", nobody)).toEqual(refused(404, "Agent not found"));
});

test("an agent's database is kept under its town", async () => {
  const { id, rigId, container, ok } = await newTown("edge-snapshot");
  const { id: a1 } = await ok.rig("POST", "/agents", { role: "polecat", name: "one", identity: "one" });
  const at = (town) => `http://worker/api/towns/${town}/rigs/${rigId}/agents/${a1}/db-snapshot`;
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

test("a town that does not answer costs no agent its kept database", async () => {
  const { id, rigId, container, object, ok } = await newTown("edge-silent");
  const { id: a1 } = await ok.rig("POST", "/agents", { role: "polecat", name: "one", identity: "one" });
  const at = `http://worker/api/towns/${id}/rigs/${rigId}/agents/${a1}/db-snapshot`;
  const ask = (method, body) => exports.default.fetch(at, { method, body, headers: { authorization: `Bearer ${container}` } });
  expect(await (await ask("POST", new Uint8Array([1]))).json()).toEqual({ success: true });
  // It answers that the agent is there, and when it is asked again, nothing.
  await runInDurableObject(object, (town) => {
    const real = town.fetch.bind(town);
    let calls = 0;
    town.fetch = async (request) => {
      calls += 1;
      if (calls === 2) throw new Error("reset");
      return real(request);
    };
  });
  expect((await ask("POST", new Uint8Array([2]))).status).toBe(500);
  expect(new Uint8Array(await (await ask("GET")).arrayBuffer())).toEqual(new Uint8Array([2]));
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
    expect(await said(`${path}?ticket=any`)).toEqual([401, "Token validation failed"]);
    expect(await said(`${path}?ticket=${body.data.ticket}`)).toEqual([401, "Invalid ticket"]);
  }
});

test("what nobody signed reaches no object of any town", async () => {
  const open = (ticket) =>
    exports.default.fetch(`http://worker/api/towns/nowhere/container/agents/a/stream?ticket=${ticket}`, { headers: { upgrade: "websocket" } });
  const iat = Math.floor(Date.now() / 1000);
  const claims = { townId: "nowhere", scope: "agent-socket", agentId: "a", ticket: "x", iat, exp: iat + 60 };
  const signed = (changes) => sign(bindings.GASTOWN_JWT_SECRET, { ...claims, ...changes });
  const status = async (ticket) => {
    const response = await open(await ticket);
    await response.text();
    return response.status;
  };
  expect(await status("x")).toBe(401);
  expect(await status(sign("another secret", claims))).toBe(401);
  expect(await status(signed({ exp: iat - 1 }))).toBe(401);
  expect(await status(signed({ exp: undefined }))).toBe(401);
  expect(await status(signed({ agentId: "b" }))).toBe(401);
  expect(await status(signed({ townId: "elsewhere" }))).toBe(403);
  const ids = (await listDurableObjectIds(env.TOWN_CONTAINER)).map(String);
  expect(ids).not.toContain(env.TOWN_CONTAINER.idFromName("nowhere").toString());
  // One that is signed is let through: its container does not run.
  expect(await status(signed({}))).toBe(410);
});

test("operators look into a town with the internal key, outside the envelope", async () => {
  const { id, ok, owner, container } = await newTown("edge-debug");
  const ask = async (method, path, headers) => {
    const response = await exports.default.fetch(`http://worker/debug/towns/${id}${path}`, { method, headers });
    return [response.status, await response.json()];
  };
  const key = { "x-internal-api-key": bindings.INTERNAL_API_SECRET };
  expect(await ask("GET", "/drain-status", key)).toEqual([200, { draining: false, drainNonce: null }]);
  const { bead_id } = await ok.rig("POST", "/beads", { type: "issue", title: "one" });
  expect(await ask("GET", `/beads/${bead_id}`, key)).toMatchObject([200, { bead_id, title: "one" }]);
  const [status, dry] = await ask("POST", "/reconcile-dry-run", key);
  expect([status, dry.actions.length > 0]).toEqual([200, true]);
  expect(await ok.rig("GET", `/beads/${bead_id}`)).toMatchObject({ status: "open", assignee_agent_bead_id: null });
  expect(await ask("GET", "/invariants", key)).toEqual([200, { violations: [] }]);
  expect(await ask("GET", "/poisoned", key)).toEqual([200, { events: [] }]);
  expect(await ask("GET", "/status", key)).toMatchObject([200, { beads: { open: 1 } }]);
  for (const headers of [{}, { "x-internal-api-key": "x" }, { authorization: `Bearer ${owner}` }, { authorization: `Bearer ${container}` }]) {
    expect(await ask("GET", "/drain-status", headers)).toEqual([401, { success: false, error: "Unauthorized" }]);
  }
  const root = await exports.default.fetch("http://worker/");
  expect(await root.json()).toEqual({ service: "gastown", status: "ok" });
});

test("a page of another origin may call if the deployment names it, and can read why it was refused", async () => {
  const ask = (path, method, headers) => exports.default.fetch(`http://worker${path}`, { method, headers });
  const preflight = (origin) => ({ origin, "access-control-request-method": "PATCH", "access-control-request-headers": "authorization" });
  const cors = ({ headers }) => Object.fromEntries([...headers].filter(([name]) => name.startsWith("access-control-")));
  const page = "https://console.example";
  for (const path of ["/api/towns/t/config", "/trpc/getSession"]) {
    const allowed = await ask(path, "OPTIONS", preflight(page));
    expect(allowed.status).toBe(204);
    expect(cors(allowed)).toEqual({
      "access-control-allow-origin": page,
      "access-control-allow-credentials": "true",
      "access-control-allow-headers": "Content-Type, Authorization",
      "access-control-allow-methods": "GET, POST, PUT, PATCH, DELETE, OPTIONS",
      "access-control-max-age": "3600",
    });
    expect(allowed.headers.get("vary")).toBe("Origin");
    const stranger = await ask(path, "OPTIONS", preflight("https://evil.example"));
    expect([stranger.status, cors(stranger)]).toEqual([405, {}]);
    await stranger.text();
    const refused = await ask(path, "GET", { origin: page });
    expect(refused.status).toBe(401);
    expect(cors(refused)).toEqual({ "access-control-allow-origin": page, "access-control-allow-credentials": "true" });
    await refused.text();
  }
  // An answer of an object has headers that cannot be changed in place.
  const { id, owner } = await newTown("edge-cors");
  const authorization = `Bearer ${owner}`;
  const own = await ask(`/api/towns/${id}/config`, "GET", { origin: "http://localhost:3000", authorization });
  expect([own.status, cors(own)["access-control-allow-origin"], own.headers.get("content-type")]).toEqual([200, "http://localhost:3000", "application/json"]);
  await own.text();
  const silent = await ask(`/api/towns/${id}/config`, "GET", { authorization });
  expect([silent.status, cors(silent)]).toEqual([200, {}]);
  await silent.text();
});
