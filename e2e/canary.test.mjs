// Secrets end to end: a canary in every secret field of a real session, and a look at all that comes out: every answer, every frame, every
// log, every process.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readFileSync, readdirSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";

import { runSession } from "../scripts/lib/session.mjs";
import { events } from "../scripts/lib/stream.mjs";
import { holdfast, processesUnder, until } from "./harness.mjs";

const it = holdfast("canary");

const canary = (name) => `canary-${name}-${randomUUID()}`;

const SECRETS = {
  gitToken: canary("git-token"),
  env: canary("env"),
  mcpEnvironment: canary("mcp-environment"),
  mcpHeader: canary("mcp-header"),
  callbackPath: canary("callback-path"),
  callbackHeader: canary("callback-header"),
};
/** Not a secret to its owner, but nothing for a log or an argument list. */
const PROMPT = canary("prompt");
/** Those that were given out while the test ran: tickets. */
const tickets = [];

/** Everything that the Worker answered and sent: name and text. */
const out = [];

const receiver = createServer((request, response) => {
  out.push(["callback body", request.url.includes(SECRETS.callbackPath) ? "" : request.url]);
  request.on("data", (chunk) => out.push(["callback body", `${chunk}`]));
  request.on("end", () => response.writeHead(500).end());
});

const { fetch: realFetch } = globalThis;

before(async () => {
  receiver.listen(0, "127.0.0.1");
  await once(receiver, "listening");
  globalThis.fetch = async (url, init) => {
    const response = await realFetch(url, init);
    const text = await response.clone().text();
    if (`${url}`.endsWith("/stream-ticket")) tickets.push(JSON.parse(text).ticket);
    else out.push([`answer of ${`${url}`.split("?")[0]}`, text], ["headers", JSON.stringify([...response.headers])]);
    return response;
  };
});

after(() => {
  globalThis.fetch = realFetch;
  receiver.close();
  receiver.closeAllConnections();
});

const work = () => ({
  gitUrl: it.gitUrl,
  model: "scripted",
  gitToken: SECRETS.gitToken,
  envVars: { CANARY: SECRETS.env },
  mcpServers: {
    away: { type: "remote", url: "http://127.0.0.1:9/mcp", headers: { authorization: SECRETS.mcpHeader } },
    broken: { type: "local", command: ["false"], environment: { KEY: SECRETS.mcpEnvironment } },
  },
  callbackTarget: {
    url: `http://127.0.0.1:${receiver.address().port}/${SECRETS.callbackPath}`,
    headers: { "x-receiver-key": SECRETS.callbackHeader },
  },
});

/** What the deployment keeps to itself; `ALLOW_LOOPBACK=1` is no secret. */
const keys = () => Object.fromEntries(Object.entries(it.services.secrets).filter(([, value]) => value.length >= 16));

/** All frames of a session, until the caller stops. */
function collect(sessionId) {
  const stop = new AbortController();
  const frames = [];
  const done = (async () => {
    for await (const frame of events(it.api, sessionId, stop.signal)) {
      frames.push(frame);
      out.push([`frame ${frame.streamEventType}`, JSON.stringify(frame)]);
    }
  })();
  return { frames, stop: () => (stop.abort(), done) };
}

/** What the kernel tells of a process; nothing if it has ended. */
function told(pid, file) {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "latin1");
  } catch {
    return "";
  }
}

const parentOf = (pid) => Number(told(pid, "stat").replace(/^.*\) /s, "").split(" ")[1]) || 0;

/** Whether a process is the agent server, or was started by it: those have the caller's variables, and must. */
function isAgents(pid) {
  for (let one = pid; one > 1; one = parentOf(one)) {
    if (told(one, "cmdline").split("\0")[0].endsWith("kilo")) return true;
  }
  return false;
}

/** Every process that this test has to do with. */
function processes() {
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name)).map(Number);
  const ours = (pid) => pid > 1 && (pid === process.pid || ours(parentOf(pid)));
  return new Set([...pids.filter(ours), ...processesUnder(it.folder).map(({ pid }) => pid)]);
}

function assertClean(texts, needles) {
  for (const [name, text] of texts) {
    for (const [what, needle] of Object.entries(needles)) {
      const at = text.indexOf(needle);
      assert.ok(at < 0, `${what} in ${name}: …${text.slice(Math.max(0, at - 200), at + 100)}…`);
    }
  }
}

/** Every log of ours: of the services and of the containers; the agent's own are on the container's disk. */
function logs() {
  const files = readdirSync(it.folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile() && entry.name.endsWith(".log"));
  const paths = files.map((entry) => join(entry.parentPath, entry.name)).filter((path) => !path.includes("/home/"));
  return paths.map((path) => [path, readFileSync(path, "utf8")]);
}

test("a session that works and is told to a receiver shows no secret", { timeout: 180_000 }, async (t) => {
  const seen = [];
  let watched;
  const prompt = `${PROMPT}\n@bash echo hello > a.txt\n@slow 40 100\n@say Done.`;
  const running = runSession(it.api, { ...work(), prompt }, (milestone) => {
    seen.push(milestone);
    if (milestone.event === "session") watched = collect(milestone.sessionId);
  });

  await t.test("no process but the agent's has one in its environment, and none in its arguments", async () => {
    await until("the agent speaks", () => seen.some(({ event }) => event === "text"), 90_000);
    const pids = [...processes()];
    const agents = pids.filter(isAgents);
    assert.ok(agents.some((pid) => told(pid, "environ").includes(SECRETS.env)), "the agent has what it must have");
    assertClean(pids.map((pid) => [`arguments of ${pid}`, told(pid, "cmdline")]), { ...SECRETS, PROMPT, ...keys() });
    const others = pids.filter((pid) => !agents.includes(pid));
    assert.ok(others.length > 4, `only ${others.length} processes`);
    assertClean(others.map((pid) => [`environment of ${pid}: ${told(pid, "cmdline").slice(0, 200)}`, told(pid, "environ")]), SECRETS);
    const { gitToken, callbackPath, callbackHeader } = SECRETS;
    assertClean(agents.map((pid) => [`environment of the agent ${pid}`, told(pid, "environ")]), { gitToken, callbackPath, callbackHeader });
  });

  const outcome = await running;
  assert.deepEqual([outcome.status, outcome.error], ["completed", undefined]);
  await until("the callback was tried", () => out.some(([name]) => name === "callback body"));
  const session = await it.api.session(outcome.sessionId);
  assert.equal(session.callbacks[0].executionId, session.lastExecution.id);
  await it.api.query("listSessions", {});
  await watched.stop();
  const replay = collect(outcome.sessionId);
  await until("the replay is over", () => replay.frames.some(({ streamEventType }) => streamEventType === "connected"));
  await replay.stop();
  assert.ok(watched.frames.length > 10 && replay.frames.length > 5);
});

test("a session that fails says why without them", { timeout: 120_000 }, async () => {
  const steps = [];
  const show = (milestone) => milestone.event === "step" && steps.push(milestone);
  const setupCommands = ['echo "it is $CANARY" >&2; exit 3'];
  const outcome = await runSession(it.api, { ...work(), prompt: "@say never", setupCommands }, show);
  assert.equal(outcome.status, "failed");
  const [failed] = steps.filter(({ step }) => step === "failed");
  assert.match(failed.message, /it is \[redacted\]/);
  out.push(["failed step", JSON.stringify(steps)]);
});

test("what is refused is not repeated", async () => {
  for (const wrong of [
    { gitUrl: `https://user:${SECRETS.gitToken}@example.com/r.git` },
    { envVars: { HOME: SECRETS.env } },
    { envVars: { A: [SECRETS.env] } },
    { callbackTarget: { url: `https://${SECRETS.callbackPath}@example.com/` } },
    { callbackTarget: { url: "https://example.com/", headers: { a: `${SECRETS.callbackHeader}\n` } } },
    { mcpServers: { a: SECRETS.mcpHeader } },
  ]) {
    await assert.rejects(it.api.mutate("prepareSession", { ...work(), prompt: "p", mode: "code", ...wrong }), { status: 400 });
  }
});

test("nothing that came out of all this holds a secret, and no log the prompt, a ticket or a key", () => {
  assert.ok(out.length > 50, `only ${out.length} outputs`);
  assertClean(out, { ...SECRETS, ...keys() });
  const ours = logs();
  assert.ok(ours.length >= 4, `only ${ours.map(([path]) => path)}`);
  assert.ok(tickets.length >= 3);
  // The scripted model stands in for a model: the prompt is for it.
  assertClean(ours, { ...SECRETS, ...keys(), ...tickets, PROMPT });
});
