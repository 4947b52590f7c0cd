// Secrets go where they must and nowhere else: a canary in every secret field, and a look at everything that comes out.

import { afterEach, expect, inject, test, vi } from "vitest";

import { Socket, eventually } from "./socket.mjs";
import { headersOf } from "./tokens.mjs";
import { handshake, isConnected, ofType } from "./viewer.mjs";
import { ask, complete, idle, newSession, runningSession } from "./wrapper.mjs";

const RECEIVER = inject("receiver");

/** Everything that came out: answers, frames, lines of the log. */
let out;

const canaries = [];
const canary = (name) => {
  const text = `canary-${name}-${crypto.randomUUID()}`;
  canaries.push(text);
  return text;
};

const SECRETS = {
  gitToken: canary("git-token"),
  envVars: { PASSWORD: canary("env"), OTHER: canary("env") },
  mcpServers: {
    remote: { type: "remote", url: "https://mcp.example/", headers: { authorization: canary("mcp-header") } },
    local: { type: "local", command: ["x"], environment: { KEY: canary("mcp-environment") } },
  },
  callbackTarget: { url: `${RECEIVER}/hook/${canary("callback-url")}/500`, headers: { "x-key": canary("callback-header") } },
};

/** Listens to the log of the Worker, which runs beside this test. */
function listen() {
  out = [];
  for (const level of ["debug", "error", "info", "log", "warn"]) {
    vi.spyOn(console, level).mockImplementation((...words) => out.push(`log: ${words.join(" ")}`));
  }
}

afterEach(() => vi.restoreAllMocks());

/** Calls the Worker and keeps all that it answers. */
async function call(path, init) {
  const response = await ask(path, init);
  out.push(`answer to ${path.split("?")[0]}: ${JSON.stringify([...response.headers])} ${response.webSocket ? "" : await response.clone().text()}`);
  return response;
}

/** Opens a stream and keeps all that it says. */
async function watch(session, filters) {
  const body = JSON.stringify({ cloudAgentSessionId: session.id });
  const { ticket } = await (await ask("/api/cloud-agent-next/sessions/stream-ticket", { method: "POST", headers: session.headers, body })).json();
  canaries.push(ticket);
  const socket = new Socket(await handshake({ cloudAgentSessionId: session.id, ticket, ...filters }));
  const until = socket.until.bind(socket);
  socket.until = async (matches) => {
    const frames = await until(matches);
    out.push(...frames.map((frame) => `frame: ${JSON.stringify(frame)}`));
    return frames;
  };
  return socket;
}

/** Of each kind of output there was some, and in none of it a secret. */
function expectSilence(...kinds) {
  for (const kind of kinds) expect(out.some((text) => text.startsWith(`${kind}`)), `no ${kind} was seen`).toBe(true);
  for (const text of out) {
    for (const secret of canaries) expect(text.includes(secret), `${secret} in ${text.slice(0, 300)}`).toBe(false);
  }
}

test("no answer, frame, log line or error of a whole life shows a secret", async () => {
  listen();
  const { session, wrapper, turn } = await runningSession("canary", SECRETS);
  canaries.push(turn.ingestSecret, session.headers.authorization.split(" ")[1], session.headers["x-internal-api-key"]);
  const byId = { cloudAgentSessionId: session.id };
  const post = (procedure, input) => call(`/trpc/${procedure}`, { method: "POST", headers: session.headers, body: JSON.stringify(input) });
  const get = (procedure, input) => call(`/trpc/${procedure}?input=${encodeURIComponent(JSON.stringify(input))}`, { headers: session.headers });

  const viewer = await watch(session);
  await viewer.until(isConnected);
  await get("getSession", byId);
  await get("listSessions", {});
  // While it runs these are refused; the refusals are answers too.
  await post("initiateFromKilocodeSessionV2", byId);
  await post("sendMessageV2", { ...byId, prompt: "more", gitToken: canary("follow-up-token") });
  await post("updateSession", { ...byId, envVars: { NEW: canary("update-env") }, gitToken: canary("update-token") });
  await post("updateSession", { ...byId, callbackTarget: { ...SECRETS.callbackTarget, headers: { "x-key": canary("update-header") } } });
  await post("interruptSession", { sessionId: session.id });
  wrapper.send([idle(1), complete(2)]);
  const commands = await wrapper.until((frame) => frame.type === "ack");
  out.push(...commands.map((frame) => `command: ${JSON.stringify(frame)}`));
  await eventually(() => session.rows("SELECT attempt FROM owed WHERE key LIKE 'callback/%'"), ([row]) => row?.attempt >= 1);
  await get("getSession", byId);
  await (await watch(session)).until(isConnected);

  // Wrong credentials, a wrong execution, reports that nobody asked for.
  const forged = canary("forged");
  for (const bearer of [forged, `${forged}.a.b`]) {
    out.push(await (await session.handshake(turn, { authorization: `Bearer ${bearer}` })).text());
    await call(`/sessions/u/${session.id}/progress`, { method: "POST", headers: { authorization: `Bearer ${bearer}` }, body: "{}" });
    await call("/trpc/getSession", { headers: { authorization: `Bearer ${bearer}` } });
    await call(`/stream?${new URLSearchParams({ ...byId, ticket: bearer })}`, { headers: { upgrade: "websocket" } });
  }
  // A replay that fails is logged.
  await session.rows("ALTER TABLE entity RENAME TO entity_away");
  await (await watch(session)).until(isConnected);
  await session.rows("ALTER TABLE entity_away RENAME TO entity");
  await post("deleteSession", { sessionId: session.id });
  expectSilence("answer", "frame", "command", "log");
});

test("an input that is refused is named by its field and never repeated", async () => {
  listen();
  const headers = await headersOf("oauth/refused:1");
  const base = { prompt: "go", mode: "code", model: "scripted", gitUrl: "file:///nowhere.git" };
  const value = canary("refused");
  for (const input of [
    { ...base, gitUrl: `https://user:${value}@example.com/r.git` },
    { ...base, gitToken: `${value}\n` },
    { ...base, gitToken: [value] },
    { ...base, gitUrl: undefined, githubRepo: "a/b", gitToken: value },
    { ...base, envVars: { HOME: value } },
    { ...base, envVars: { "A=B": value } },
    { ...base, envVars: { A: [value] } },
    { ...base, envVars: value },
    { ...base, mcpServers: [value] },
    { ...base, mcpServers: { a: value } },
    { ...base, callbackTarget: { url: `https://${value}@example.com/`, headers: {} } },
    { ...base, callbackTarget: { url: "https://example.com/", headers: { "a b": value } } },
    { ...base, callbackTarget: { url: "https://example.com/", headers: { a: `${value}\n` } } },
    { ...base, callbackTarget: { url: "https://example.com/", headers: value } },
    { ...base, encryptedSecrets: { A: value } },
  ]) {
    const response = await call("/trpc/prepareSession", { method: "POST", headers, body: JSON.stringify(input) });
    expect(response.status, JSON.stringify(input)).toBe(400);
  }
  await call("/trpc/prepareSession", { method: "POST", headers, body: `{"gitToken":"${value}",` });
  expectSilence("answer");
});

test("a preparation that fails says why, and what it says is what the container said", async () => {
  listen();
  const session = await newSession("canary-failure", { ...SECRETS, callbackTarget: undefined });
  const viewer = await watch(session);
  await viewer.until(isConnected);
  const work = await session.work();
  canaries.push(work.report.token);
  await session.report(work, 1, "failed", { type: "failed", code: "WORKSPACE_SETUP_FAILED", message: "boom", retryable: false });
  const frames = await viewer.until(ofType("cloud.status"));
  expect(frames.at(-1).data.cloudStatus).toEqual({ type: "error", message: "boom" });
  await (await watch(session).catch(() => undefined))?.until(isConnected);
  expectSilence("frame");
});
