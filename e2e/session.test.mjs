// The main job: from one request to a pushed commit, with the real agent and real git.

import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { test } from "node:test";

import { readRepository } from "../scripts/lib/repository.mjs";
import { runSession } from "../scripts/lib/session.mjs";
import { events } from "../scripts/lib/stream.mjs";
import { holdfast, processesUnder } from "./harness.mjs";

const it = holdfast("session");

const PROMPT = `Please.
@say I begin.
@write HELLO.md Hello
@bash echo from-bash > BASH.txt && cat setup.txt
@say That is all.`;

test("a session goes from the request to a pushed commit", { timeout: 180_000 }, async (t) => {
  const shown = [];
  const work = { gitUrl: it.gitUrl, prompt: PROMPT, model: "scripted", setupCommands: ["echo set-up > setup.txt"] };
  const outcome = await runSession(it.api, work, (milestone) => shown.push(milestone));
  t.diagnostic(JSON.stringify(outcome.phases));
  const { sessionId } = outcome;

  await t.test("it completes, and says on which branch", () => {
    assert.deepEqual([outcome.status, outcome.error], ["completed", undefined]);
    assert.equal(outcome.branch, `session/${sessionId}`);
  });

  await t.test("viewers see each step of the preparation, in order", () => {
    const steps = shown.filter(({ event }) => event === "step").map(({ step }) => step);
    // The start of the turn may look at the disk again; `ready` comes once, and last.
    assert.equal(steps.indexOf("ready"), steps.length - 1);
    assert.deepEqual(
      [...new Set(steps)],
      ["disk_check", "workspace_setup", "cloning", "branch", "setup_commands", "kilo_session", "kilo_server", "ready"],
    );
  });

  await t.test("they see the agent's words and tool calls, but not the user's", () => {
    const text = shown.filter(({ event }) => event === "text").map((milestone) => milestone.text);
    assert.match(text.join(""), /I begin\.\s+That is all\./);
    assert.doesNotMatch(text.join(""), /@say/);
    assert.deepEqual(
      shown.filter(({ event }) => event === "tool").map(({ tool, status }) => [tool, status]),
      [
        ["write", "called"],
        ["bash", "called"],
      ],
    );
  });

  await t.test("the remote has the commit, with the files of the agent and of the set-up", () => {
    assert.match(outcome.commit, /^[0-9a-f]{40}$/);
    assert.equal(readRepository(it.gitUrl, "show", `${outcome.commit}:HELLO.md`), "Hello");
    assert.equal(readRepository(it.gitUrl, "show", `${outcome.commit}:BASH.txt`), "from-bash");
    assert.equal(readRepository(it.gitUrl, "show", `${outcome.commit}:setup.txt`), "set-up");
    assert.equal(readRepository(it.gitUrl, "rev-parse", `${outcome.commit}^`), readRepository(it.gitUrl, "rev-parse", "main"));
  });

  await t.test("the session says the same, and is in the user's directory", async () => {
    const session = await it.api.session(sessionId);
    assert.equal(session.lastExecution.status, "completed");
    assert.equal(session.execution, null);
    assert.ok(session.preparedAt && session.initiatedAt);
    const { sessions } = await it.api.query("listSessions", {});
    assert.ok(JSON.stringify(sessions).includes(sessionId));
  });

  await t.test("a late viewer gets every stored event once, in order", async () => {
    const ids = [];
    const types = [];
    const stop = new AbortController();
    for await (const frame of events(it.api, sessionId, stop.signal)) {
      if (frame.streamEventType === "connected") break;
      assert.equal(frame.sessionId, sessionId);
      ids.push(frame.eventId);
      types.push(frame.streamEventType);
    }
    stop.abort();
    assert.ok(ids.length > 5, `only ${ids.length} events`);
    assert.ok(ids.every((id, index) => id > (ids[index - 1] ?? 0)), `ids do not rise: ${ids}`);
    assert.ok(types.indexOf("autocommit_completed") < types.indexOf("complete"), `${types}`);
  });

  await t.test("what was written for the import is removed", () => {
    const files = readdirSync(it.services.containers, { recursive: true }).map((file) => `${file}`);
    assert.ok(files.some((file) => file.includes(sessionId)), "the container's disk is there");
    assert.deepEqual(files.filter((file) => /(empty|export)-ses_\w+\.json$/.test(file)), []);
  });

  await t.test("it was the real agent", () => {
    // Beside it, the same program may be writing the snapshot of the turn that ended.
    const agents = processesUnder(it.services.containers).filter(({ exe, args }) => exe.endsWith("/bin/kilo") && / serve\b/.test(args));
    assert.equal(agents.length, 1, "one agent server should be waiting for the next turn");
  });
});
