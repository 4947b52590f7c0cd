// The routes of a town for users (spec/town.md 2.5) through the built Worker: a user's towns and rigs, configuration, convoys, escalations, the mayor.

import { env, runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";

import { eventually } from "./socket.mjs";
import { newTown, refused, send, userToken } from "./towns.mjs";

test("a user has towns and rigs, and they end together", async () => {
  const user = "users-home";
  const { id, rigId, owner, ok, object } = await newTown(user);
  const town = { id, name: "Home", owner_user_id: user };
  const get = async (path) => send("GET", `/api/users/${user}${path}`, owner);
  expect((await get("/towns")).body.data).toMatchObject([town]);
  expect((await get(`/towns/${id}`)).body.data).toMatchObject(town);
  expect((await get(`/towns/${id}/rigs`)).body.data).toMatchObject([{ id: rigId, town_id: id, name: "app" }]);
  expect((await get(`/rigs/${rigId}`)).body.data).toMatchObject({ git_url: "https://git.example/app.git" });
  const { bead, agent } = await ok.rig("POST", "/sling", { title: "t" });
  expect((await get(`/towns/${id}/events`)).body.data.map((event) => event.bead_id)).toContain(bead.bead_id);
  await ok.rig("POST", "/agent-events", { agent_id: agent.id, event_type: "said", data: {} });

  const remove = (path) => send("DELETE", `/api/users/${user}${path}`, owner);
  expect(await remove(`/rigs/${rigId}`)).toEqual({ status: 200, body: { success: true, data: { deleted: true } } });
  expect(await remove(`/rigs/${rigId}`)).toEqual(refused(404, "Rig not found"));
  expect(await ok.tool("GET", "/rigs")).toEqual([]);
  expect(await remove(`/towns/${id}`)).toEqual({ status: 200, body: { success: true, data: { deleted: true } } });
  expect(await remove(`/towns/${id}`)).toEqual(refused(404, "Town not found"));
  expect(await get(`/towns/${id}/rigs`)).toEqual(refused(404, "Town not found"));
  expect(await send("GET", `/api/towns/${id}/config`, owner)).toEqual(refused(404, "Town not found"));
  // No container host listens here: whether a container still runs nobody knows, so its end stays owed.
  const left = () =>
    runInDurableObject(object, (_object, state) =>
      state.storage.sql.exec("SELECT bead_id AS left FROM beads UNION ALL SELECT key FROM owed").toArray().map((row) => row.left),
    );
  await eventually(left, (rows) => rows.join() === "end");
  const log = env.AGENT.get(env.AGENT.idFromName(`${id}/${agent.id}`));
  const events = await runInDurableObject(log, (_object, state) => state.storage.sql.exec("SELECT * FROM event").toArray());
  expect(events).toEqual([]);
});

test("what a town does not take is taken back", async () => {
  const user = "users-back";
  const { id, rigId, owner, rig } = await newTown(user);
  await rig("POST", "/beads", { type: "issue", title: "unfinished" });
  const again = { town_id: id, name: "app", git_url: "https://git.example/other.git" };
  expect(await send("POST", `/api/users/${user}/rigs`, owner, again)).toEqual(refused(500, "Failed to configure rig"));
  const { body } = await send("GET", `/api/users/${user}/towns/${id}/rigs`, owner);
  expect(body.data.map((left) => left.id)).toEqual([rigId]);
  const elsewhere = { ...again, town_id: "nowhere" };
  expect(await send("POST", `/api/users/${user}/rigs`, owner, elsewhere)).toEqual(refused(404, "Town not found"));
  const nameless = await send("POST", `/api/users/${user}/towns`, owner, { name: " " });
  expect(nameless).toMatchObject({ status: 400, body: { error: "Invalid request body", issues: [{ path: ["name"] }] } });
});

test("a town is its owner's alone", async () => {
  const { id, container } = await newTown("users-owner");
  const stranger = await userToken("users-stranger");
  const at = (path) => `/api/towns/${id}${path}`;
  for (const path of ["/config", "/escalations", "/mayor/status", "/status", "/cloudflare-debug", "/container/health"]) {
    expect(await send("GET", at(path), stranger)).toEqual(refused(403, "Forbidden"));
    expect(await send("GET", at(path))).toEqual(refused(401, "Missing Authorization header"));
    expect((await send("GET", at(path), container)).status).toBe(401);
  }
  const caller = { "x-holdfast-caller": "user:users-owner" };
  expect(await send("GET", at("/config"), stranger, undefined, caller)).toEqual(refused(403, "Forbidden"));
  expect(await send("GET", "/api/towns/nowhere/config", stranger)).toEqual(refused(404, "Town not found"));
  expect(await send("GET", "/api/users/users-owner/towns", stranger)).toEqual(refused(403, "Forbidden"));
  expect((await send("GET", "/api/users/users-owner/towns")).status).toBe(401);
  expect(await send("GET", "/api/orgs/o/towns", stranger)).toEqual(refused(501, "Not implemented"));
});

test("a configuration is shown without its secrets, and keeps them when it comes back", async () => {
  const { ok, user, town, id, owner } = await newTown("users-config");
  const secret = "kilo-0123456789";
  const set = await ok.user("PATCH", "/config", { kilocode_token: secret, env_vars: { KEY: "value-0123456789" }, default_model: "m" });
  expect(set).toMatchObject({ kilocode_token: "****6789", env_vars: { KEY: "****6789" }, owner_user_id: "users-config" });
  expect(JSON.stringify(await ok.user("GET", "/config"))).not.toContain("0123456789");
  await ok.user("PATCH", "/config", { kilocode_token: "****6789", owner_user_id: "somebody" });
  expect(await ok.user("GET", "/config")).toMatchObject({ owner_user_id: "users-config" });
  await ok.user("POST", "/mayor/ensure");
  const second = { town_id: id, name: "two", git_url: "https://git.example/two.git", kilocode_token: "other-9876543210" };
  expect((await send("POST", "/api/users/users-config/rigs", owner, second)).body.data).not.toHaveProperty("kilocode_token");
  expect(await ok.user("GET", "/config")).toMatchObject({ kilocode_token: "****3210" });
  await ok.user("PATCH", "/config", { kilocode_token: secret });
  const own = await town("GET", "/mayor-id");
  expect(own).toMatchObject({ status: 200, body: { success: true, kilocodeToken: secret, model: "m" } });
  expect(own.body.agentId).toMatch(/^[0-9a-f-]{36}$/);
  const bad = await user("PATCH", "/config", { max_polecats_per_rig: 51 });
  expect(bad).toEqual(refused(400, "Invalid configuration: max_polecats_per_rig must be 1 to 50"));
});

test("convoys, escalations and the mayor are there for the user", async () => {
  const { ok, user, town, rigId, id } = await newTown("users-mayor");
  expect(await town("GET", "/mayor-id")).toEqual({ status: 200, body: { success: true, agentId: null } });
  expect(await ok.user("GET", "/mayor/status")).toEqual({ configured: true, townId: id, session: null });
  const bead = await ok.rig("POST", "/beads", { type: "issue", title: "one" });
  const convoy = { title: "All of it", beads: [{ bead_id: bead.bead_id, rig_id: rigId }] };
  const made = await user("POST", "/convoys", convoy);
  expect(made).toMatchObject({ status: 201, body: { data: { status: "active", total_beads: 1, closed_beads: 0, created_by: "users-mayor" } } });
  const closed = { convoyId: made.body.data.id, beadId: bead.bead_id };
  expect(await ok.user("POST", "/convoys/bead-closed", closed)).toEqual({ acknowledged: true });
  const raised = await ok.rig("POST", "/escalations", { title: "Help", priority: "high" });
  expect(await ok.user("GET", "/escalations?acknowledged=false")).toMatchObject([{ bead_id: raised.bead_id }]);
  expect(await ok.user("POST", `/escalations/${raised.bead_id}/acknowledge`)).toMatchObject({ status: "closed" });
  expect(await user("POST", "/escalations/nope/acknowledge")).toEqual(refused(404, "Escalation not found"));

  expect(await ok.user("POST", "/mayor/configure")).toEqual({ configured: true });
  expect(await ok.user("POST", "/mayor/destroy")).toEqual({ destroyed: true });
  const reached = await ok.user("POST", "/mayor/message", { message: "hello" });
  expect(reached).toEqual({ agentId: expect.any(String), sessionStatus: "starting" });
  const session = { agentId: reached.agentId, sessionId: reached.agentId, status: "active", lastActivityAt: expect.any(String) };
  expect(await ok.user("GET", "/mayor/status")).toEqual({ configured: true, townId: id, session });
  expect(await ok.user("POST", "/mayor/completed", { status: "completed" })).toEqual({ acknowledged: true });
  expect(await ok.user("POST", "/mayor/ui-action", { action: { type: "navigate", page: "beads" } })).toEqual({ broadcast: true });
  expect(await ok.user("GET", "/status")).toMatchObject({ beads: { open: expect.any(Number) }, recentEvents: expect.any(Array) });
  expect(await ok.user("GET", `/beads/${bead.bead_id}/why`)).toMatchObject({ bead_id: bead.bead_id, reasons: expect.any(Array) });
});
