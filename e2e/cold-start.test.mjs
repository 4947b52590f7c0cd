// A session whose container is lost goes on in a new and empty one: conversation, commits and files; or says what is gone.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";

import { readRepository } from "../scripts/lib/repository.mjs";
import { runSession } from "../scripts/lib/session.mjs";
import { events } from "../scripts/lib/stream.mjs";
import { holdfast, until } from "./harness.mjs";

const it = holdfast("cold-start");

/** From an empty disk to a prompt that was taken, on a busy machine. */
const COLD_MS = 180_000;

const stop = new AbortController();
after(() => stop.abort());

/** What a viewer of a session has seen, from now on. */
function watch(sessionId) {
  const frames = [];
  const viewer = async () => {
    for await (const frame of events(it.api, sessionId, stop.signal)) frames.push(frame);
  };
  viewer().catch((error) => frames.push({ streamEventType: "lost", data: { error: error.message } }));
  return frames;
}

/** Sends a message and waits for the end of its turn. Returns what the viewer saw of it. */
async function followUp(sessionId, frames, prompt, options = {}) {
  const input = { cloudAgentSessionId: sessionId, prompt, autoCommit: false, ...options };
  const { executionId } = await it.api.mutate("sendMessageV2", input, COLD_MS);
  const seen = () => frames.filter((frame) => frame.executionId === executionId);
  const ended = ({ streamEventType }) => streamEventType === "complete" || streamEventType === "error";
  await until("the end of the turn", () => seen().some(ended), COLD_MS);
  assert.equal(seen().find(ended).streamEventType, "complete", JSON.stringify(seen().find(ended)));
  const steps = seen().filter(({ streamEventType }) => streamEventType === "preparing").map(({ data }) => data);
  return { steps, ready: steps.find(({ step }) => step === "ready"), text: JSON.stringify(seen()) };
}

async function sandboxOf(sessionId) {
  return `sandbox-${(await it.api.session(sessionId)).sandboxId}`;
}

function host(method, path, body) {
  const headers = { authorization: `Bearer ${it.services.secrets.HOLDFAST_HOST_TOKEN}`, "content-type": "application/json" };
  return fetch(`${it.services.hostUrl}/containers/${path}`, { method, headers, body: body && JSON.stringify(body) });
}

/** Signals a container's first process, and waits until nothing of the container lives. */
async function end(name, signal) {
  assert.equal((await host("POST", `${name}/signal`, { signal })).status, 202);
  await until("the container's end", async () => !(await (await host("GET", name)).json()).running, 60_000);
}

/** How often the containers have logged this. */
function logged(name, event) {
  const folder = join(it.services.containers, name);
  const logs = readdirSync(folder).filter((file) => file.endsWith(".log"));
  return logs.flatMap((file) => readFileSync(join(folder, file), "utf8").split("\n")).filter((line) => line.includes(`"event":"${event}"`)).length;
}

const FIRST = `Remember the blue door.
@write KEPT.md committed
@bash git add -A && git commit --quiet -m "By the agent"
@write DIRTY.md not committed
@say Done.`;

test("SIGTERM, then SIGKILL of the container: the session goes on in a new one", { timeout: 900_000 }, async (t) => {
  const work = { gitUrl: it.gitUrl, prompt: FIRST, model: "scripted", autoCommit: false };
  const { sessionId, status } = await runSession(it.api, work, () => {});
  assert.equal(status, "completed");
  const name = await sandboxOf(sessionId);
  const branch = `session/${sessionId}`;
  const frames = watch(sessionId);
  await until("the viewer", () => frames.some(({ streamEventType }) => streamEventType === "connected"));
  assert.equal(readRepository(it.gitUrl, "for-each-ref", "--format=%(refname)"), "refs/heads/main");

  await t.test("an ended container has put its work in progress on the remote", async () => {
    await end(name, "SIGTERM");
    const wip = `holdfast/wip/${sessionId}`;
    assert.equal(readRepository(it.gitUrl, "show", `${wip}:DIRTY.md`), "not committed");
    assert.equal(readRepository(it.gitUrl, "log", "-1", "--format=%s", `${wip}^`), "By the agent");
  });

  await t.test("a new one continues the same conversation and files, and says so", async () => {
    const { steps, ready, text } = await followUp(sessionId, frames, "And the red one.\n@recall", { autoCommit: true });
    assert.deepEqual([ready.resume, ready.branch], ["replayed", branch]);
    const names = steps.map(({ step }) => step);
    for (const step of ["disk_check", "cloning", "branch", "kilo_session", "kilo_server"]) assert.ok(names.includes(step), `${names}`);
    assert.match(text, /I remember: Remember the blue door\./);
    assert.equal((await it.api.session(sessionId)).lastExecution.resume, "replayed");
    assert.equal(readRepository(it.gitUrl, "show", `${branch}:DIRTY.md`), "not committed");
    assert.equal(readRepository(it.gitUrl, "show", `${branch}:KEPT.md`), "committed");
    assert.equal(readRepository(it.gitUrl, "log", "-1", "--format=%s", `${branch}^`), "By the agent");
    const wip = () => readRepository(it.gitUrl, "for-each-ref", "refs/heads/holdfast");
    await until("the remote is tidy", () => wip() === "", 60_000);
  });

  await t.test("one that was killed is continued from the end of its last turn", async () => {
    const kept = logged(name, "snapshot_kept");
    assert.ok(kept > 0);
    await end(name, "SIGKILL");
    const { ready, text } = await followUp(sessionId, frames, "@recall");
    assert.equal(ready.resume, "replayed");
    assert.match(text, /I remember: Remember the blue door\. \| And the red one\./);
  });

  await t.test("what is kept goes with the session", async () => {
    await it.api.mutate("deleteSession", { sessionId });
    assert.equal(await it.api.session(sessionId), undefined);
  });
});

test("a container that is killed in the first turn leaves nothing: the session says that it begins anew", { timeout: 600_000 }, async () => {
  const { cloudAgentSessionId: sessionId } = await it.api.mutate("prepareSession", {
    gitUrl: it.gitUrl,
    prompt: "Never mind.\n@bash sleep 600",
    mode: "code",
    model: "scripted",
    autoInitiate: true,
  });
  const frames = watch(sessionId);
  // Known from the moment at which the agent took the prompt.
  const begun = async () => (await it.api.session(sessionId))?.execution?.resume !== undefined;
  await until("the first turn", begun, COLD_MS);
  await end(await sandboxOf(sessionId), "SIGKILL");
  await until("the end of the turn", async () => (await it.api.session(sessionId)).execution === null, 60_000);

  const { steps, ready, text } = await followUp(sessionId, frames, "@recall");
  assert.equal(ready.resume, "fresh");
  assert.ok(steps.some(({ message }) => message.includes("the agent begins with an empty conversation")), JSON.stringify(steps));
  assert.match(text, /I remember nothing\./);
});
