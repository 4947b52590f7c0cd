// Who may do what: keys, tokens, owners. Nothing of one user is seen or touched by another.

import { expect, test } from "vitest";

import { bindings } from "./bindings.mjs";
import { headersOf, sign } from "./tokens.mjs";
import { askTicket, handshake, ticketFor } from "./viewer.mjs";
import { ask, newSession } from "./wrapper.mjs";

const INPUT = { prompt: "go", mode: "code", model: "scripted", gitUrl: "file:///nowhere.git", autoInitiate: true };

async function post(procedure, headers, input) {
  const response = await ask(`/trpc/${procedure}`, { method: "POST", headers, body: JSON.stringify(input) });
  const { result, error } = await response.json();
  return { status: response.status, data: result?.data, error };
}

async function get(procedure, headers, input) {
  const response = await ask(`/trpc/${procedure}?input=${encodeURIComponent(JSON.stringify(input))}`, { headers });
  const { result, error } = await response.json();
  return { status: response.status, data: result?.data, error };
}

test("a session is not there for anybody but its owner", async () => {
  const session = await newSession("owner");
  const stranger = await headersOf("oauth/owner:2");
  const byId = { cloudAgentSessionId: session.id };
  const before = await session.view();
  expect((await get("getSession", stranger, byId)).error.message).toBe("Session not found");
  for (const [procedure, input] of [
    ["initiateFromKilocodeSessionV2", byId],
    ["sendMessageV2", { ...byId, prompt: "p", mode: "code", model: "m" }],
    ["updateSession", { ...byId, model: "other" }],
  ]) {
    expect(await post(procedure, stranger, input), procedure).toMatchObject({ status: 404, error: { message: "Session not found" } });
  }
  expect((await post("interruptSession", stranger, { sessionId: session.id })).data).toMatchObject({ success: false, message: "Session not found" });
  const deleted = await post("deleteSession", stranger, { sessionId: session.id });
  expect(deleted.data).toEqual({ success: true, message: "Session not found or already deleted" });
  expect((await get("listSessions", stranger, {})).data.sessions).toEqual([]);
  expect(await session.view()).toEqual(before);
});

test("preparing and updating need the internal key beside the token, and every procedure needs the token", async () => {
  const { "x-internal-api-key": key, authorization, ...plain } = await headersOf("oauth/keys:1");
  const update = { cloudAgentSessionId: `agent_${crypto.randomUUID()}`, model: "m" };
  for (const [procedure, input] of [["prepareSession", INPUT], ["updateSession", update]]) {
    for (const headers of [
      { ...plain, authorization },
      { ...plain, authorization, "x-internal-api-key": "" },
      { ...plain, authorization, "x-internal-api-key": `${key}x` },
      { ...plain, "x-internal-api-key": key },
    ]) {
      expect((await post(procedure, headers, input)).status, procedure).toBe(401);
    }
  }
  for (const procedure of ["initiateFromKilocodeSessionV2", "sendMessageV2", "interruptSession", "deleteSession", "answerQuestion", "rejectQuestion"]) {
    expect((await post(procedure, plain, {})).error.data, procedure).toMatchObject({ code: "UNAUTHORIZED", path: procedure });
  }
  for (const procedure of ["getSession", "getWrapperLogs", "health", "listSessions"]) {
    expect((await get(procedure, plain, {})).status, procedure).toBe(401);
  }
  expect((await get("listSessions", { authorization }, {})).data.sessions).toEqual([]);
});

test("sessions of a user, of an organisation and of a bot are prepared in containers of their own, and deleted", async () => {
  const user = "oauth/kinds:1";
  const personal = await headersOf(user);
  const claims = { kiloUserId: user, version: 3, botId: "reviewer", exp: Math.floor(Date.now() / 1000) + 3600 };
  const bot = { ...personal, authorization: `Bearer ${await sign(bindings.NEXTAUTH_SECRET, claims)}` };
  const org = { ...INPUT, kilocodeOrganizationId: crypto.randomUUID() };
  const sandboxes = [];
  for (const [headers, input] of [[personal, INPUT], [personal, org], [bot, INPUT], [bot, org]]) {
    const { cloudAgentSessionId } = (await post("prepareSession", headers, input)).data;
    sandboxes.push((await get("getSession", headers, { cloudAgentSessionId })).data.sandboxId);
    expect((await post("deleteSession", headers, { sessionId: cloudAgentSessionId })).data).toEqual({ success: true });
    expect((await get("getSession", headers, { cloudAgentSessionId })).status).toBe(404);
  }
  expect(sandboxes.map((id) => id.slice(0, 4))).toEqual(["usr-", "org-", "ubt-", "bot-"]);
  expect(new Set(sandboxes).size).toBe(4);
});

test("of an organisation's sessions each user lists and watches his own", async () => {
  const organizationId = crypto.randomUUID();
  const [one, other] = [await headersOf("oauth/org:1"), await headersOf("oauth/org:2")];
  const prepare = async (headers, fields) => (await post("prepareSession", headers, { ...INPUT, ...fields })).data.cloudAgentSessionId;
  const ofOne = await prepare(one, { kilocodeOrganizationId: organizationId });
  const ofOther = await prepare(other, { kilocodeOrganizationId: organizationId });
  const own = await prepare(one);
  const listed = async (headers, input) => (await get("listSessions", headers, input)).data.sessions.map((entry) => entry.cloudAgentSessionId);
  expect(await listed(one, { organizationId })).toEqual([ofOne]);
  expect(await listed(other, { organizationId })).toEqual([ofOther]);
  expect(await listed(one, {})).toEqual([own]);
  expect(await listed(one, { organizationId: crypto.randomUUID() })).toEqual([]);
  expect((await get("listSessions", one, { organizationId: "acme" })).status).toBe(400);

  const watched = async (headers, body) => {
    const { ticket } = await (await askTicket(headers, body)).json();
    const response = await handshake({ cloudAgentSessionId: body.cloudAgentSessionId, ticket: ticket ?? "none" });
    response.webSocket?.accept();
    return [!!ticket, response.status];
  };
  expect(await watched(one, { cloudAgentSessionId: ofOne, organizationId })).toEqual([true, 101]);
  expect(await watched(one, { cloudAgentSessionId: ofOne })).toEqual([false, 401]);
  expect((await watched(other, { cloudAgentSessionId: ofOne, organizationId }))[1]).not.toBe(101);
});

test("deleting what is not there succeeds, and what is no session id is refused", async () => {
  const headers = await headersOf("oauth/nothing:1");
  const unknown = { sessionId: `agent_${crypto.randomUUID()}` };
  expect((await post("deleteSession", headers, unknown)).data).toEqual({ success: true, message: "Session not found or already deleted" });
  for (const sessionId of ["", "agent_1", `agent_${crypto.randomUUID()}x`, `sess_${crypto.randomUUID()}`, "agent_0123456789ab-cdef-0123-456789abcdef", null, 7]) {
    const { status, error } = await post("deleteSession", headers, { sessionId });
    expect([status, error.data.code]).toEqual([400, "BAD_REQUEST"]);
  }
});

test("an object that cannot delete says so, and can be asked again", async () => {
  const session = await newSession("broken");
  await session.rows("ALTER TABLE entity RENAME TO entity_away");
  const failed = await post("deleteSession", session.headers, { sessionId: session.id });
  expect([failed.status, failed.error.message]).toEqual([500, "Failed to clean up session metadata"]);
  await session.rows("ALTER TABLE entity_away RENAME TO entity");
  expect((await session.view()).sessionId).toBe(session.id);
  expect((await post("deleteSession", session.headers, { sessionId: session.id })).data).toEqual({ success: true });
});

test("a browser's page may watch only if its origin is listed", async () => {
  const session = await newSession("origins");
  const watch = async (origin) => {
    const query = new URLSearchParams({ cloudAgentSessionId: session.id, ticket: await ticketFor(session) });
    const response = await ask(`/stream?${query}`, { headers: { upgrade: "websocket", ...(origin && { origin }) } });
    response.webSocket?.accept();
    return [response.status, response.webSocket ? "" : await response.text()];
  };
  for (const origin of [undefined, "https://app.example", "https://other.example"]) expect((await watch(origin))[0]).toBe(101);
  for (const origin of ["https://evil.example", "null", "https://app.example.evil", "http://app.example"]) {
    expect(await watch(origin)).toEqual([403, "Origin not allowed"]);
  }
});

test("an environment value of 4,096 bytes is taken whole, from the request to the container", async () => {
  const session = await newSession("limit", { envVars: { LONG: "v".repeat(4096), SHORT: "" } });
  expect((await session.work()).workspace.env).toEqual({ LONG: "v".repeat(4096), SHORT: "" });
  const tooLong = { ...INPUT, envVars: { LONG: "v".repeat(4097) } };
  expect((await post("prepareSession", session.headers, tooLong)).status).toBe(400);
  for (const envVars of [{ HOME: "x" }, { SESSION_ID: "x" }, { SESSION_HOME: "x" }, { HOME: "x", SESSION_ID: "y", SESSION_HOME: "z" }]) {
    expect((await post("prepareSession", session.headers, { ...INPUT, envVars })).status).toBe(400);
  }
  expect((await post("prepareSession", session.headers, { ...INPUT, envVars: {} })).status).toBe(200);
});

test("every option of a preparation reaches the container", async () => {
  const ofWorkspace = {
    gitToken: "t",
    setupCommands: ["true"],
    mcpServers: { s: { type: "local", command: ["x"] } },
    upstreamBranch: "topic/a",
    appendSystemPrompt: "be brief",
    permissions: "ask",
    shallow: true,
  };
  const ofTurn = { variant: "high", autoCommit: true, condenseOnComplete: true };
  const renamed = { envVars: { A: "1" }, mode: "architect", initialMessageId: "msg_0123456789abABCDEFGHIJKLMN" };
  const session = await newSession("options", { ...ofWorkspace, ...ofTurn, ...renamed });
  const { workspace } = await session.work();
  expect(workspace).toMatchObject({ ...ofWorkspace, sessionId: session.id, gitUrl: "file:///nowhere.git", env: renamed.envVars });
  await session.report(await session.work(), 1, "kilo_server", { type: "done", branch: "topic/a", resume: "fresh" });
  const { turn } = await session.work();
  expect(turn).toMatchObject({ ...ofTurn, prompt: "go", agent: "plan", model: "scripted", messageId: renamed.initialMessageId });
});
