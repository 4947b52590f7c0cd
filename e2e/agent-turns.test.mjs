// What the real agent does in its turns, as the session's log has it: every way to run, to be stopped and to fail.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { readRepository } from "../scripts/lib/repository.mjs";
import { holdfast, until } from "./harness.mjs";
import { Turns, begins, kind, says } from "./turns.mjs";

const it = holdfast("agent-turns");
/** All turns of this file are of one session: each is a follow-up of the one before, in the same agent server. */
const turns = new Turns(it);

const called = (tools) => tools.map(({ tool, state }) => [tool, state.status]);

describe("the turns of one session", { timeout: 400_000 }, () => {
  test("a text is in the log as it was said", async () => {
    const { texts, kinds } = await turns.run("@say One two three.");
    assert.deepEqual(texts, ["One two three."]);
    assert.equal(kinds.at(-1), "complete");
    assert.equal(kinds.filter((name) => name === "session.turn.close").length, 1);
  });

  test("a follow-up uses tools, and their results are in the log and in the repository", async () => {
    const { tools, texts } = await turns.run("@write made.txt by the agent\n@bash cat made.txt\n@say Written.");
    assert.deepEqual(called(tools), [["write", "completed"], ["bash", "completed"]]);
    assert.match(tools[1].state.output, /by the agent/);
    assert.deepEqual(texts, ["Written."]);
    assert.equal(readRepository(it.gitUrl, "show", `session/${turns.sessionId}:made.txt`), "by the agent");
  });

  test("a burst of 5,000 pieces is one text in the log, whole", async () => {
    const { texts, live, kinds } = await turns.run("@burst 5000 8");
    assert.deepEqual(texts.map((text) => text.length), [5_000 * 8 - 1]);
    const said = live.filter(({ data }) => data?.event === "message.part.delta").map(({ data }) => data.properties.delta);
    assert.ok(said.join("").length >= 5_000 * 8 - 1, "a live viewer missed something");
    assert.ok(said.length < 2_000, `${said.length} frames: pieces were not joined`);
    assert.equal(kinds.at(-1), "complete");
  });

  test("an abort in a text keeps what was said", async () => {
    let stopped;
    const { texts, kinds, end } = await turns.run("@slow 400 50\n@say never", (frame) => {
      if (says(frame, "tok3")) stopped ??= turns.interrupt();
    });
    await stopped;
    assert.match(texts.join(""), /^tok0 tok1 tok2/);
    assert.equal(end.streamEventType, "interrupted");
    assert.ok(!texts.join("").includes("never") && !kinds.includes("complete"), `${kinds}`);
  });

  test("an abort in a tool ends the tool", async () => {
    let stopped;
    const { end, tools } = await turns.run("@bash sleep 600\n@say never", (frame) => {
      if (begins(frame, "bash")) stopped ??= turns.interrupt();
    });
    await stopped;
    assert.deepEqual([end.streamEventType, tools.map(({ tool }) => tool)], ["interrupted", ["bash"]]);
    await until("the tool has ended", () => !turns.tools().some((args) => args.includes("sleep 600")), 10_000);
  });

  test("a turn that is committed and condensed is complete after both", async () => {
    const condense = { condenseOnComplete: true };
    const { live, kinds, log } = await turns.run("@write condensed.txt kept\n@say Much was said.", undefined, condense);
    const at = ["autocommit_started", "autocommit_completed", "session.compacted", "complete"].map((name) => live.map(kind).indexOf(name));
    assert.ok(at.every((place, n) => place > (at[n - 1] ?? -1)), `${at} of ${live.map(kind)}`);
    assert.ok(log.some(({ data }) => data.properties?.info?.summary === true), "the summary is part of the conversation");
    assert.equal(kinds.at(-1), "complete");
    assert.equal(readRepository(it.gitUrl, "show", `session/${turns.sessionId}:condensed.txt`), "kept");
  });

  test("a condensed conversation goes on", async () => {
    const { texts, kinds } = await turns.run("@say And on.");
    assert.deepEqual([texts, kinds.at(-1)], [["And on."], "complete"]);
  });

  test("a model that wants to be paid ends the turn at once", async () => {
    const { end, kinds } = await turns.run("@fail 402 insufficient credits");
    assert.equal(end.streamEventType, "error");
    assert.match(end.data.error, /credits/);
    assert.ok(!kinds.includes("complete"), `${kinds}`);
  });

  test("a model that is tried again and again can be interrupted", async () => {
    let stopped;
    const { end, live } = await turns.run("@fail 500 busy", (frame) => {
      if (frame.data?.properties?.status?.type === "retry") stopped ??= turns.interrupt();
    });
    await stopped;
    assert.ok(live.some(({ data }) => data?.properties?.status?.type === "retry"));
    assert.equal(end.streamEventType, "interrupted");
  });

  test("a sub-agent's end is not the turn's, and what it said is in the log", async () => {
    const task = JSON.stringify({ description: "Say something", prompt: "@say From the sub-agent.", subagent_type: "general" });
    const { texts, tools, kinds, log } = await turns.run(`@tool task ${task}\n@say From the agent.`);
    assert.deepEqual(called(tools), [["task", "completed"]]);
    assert.ok(texts.includes("From the sub-agent.") && texts.at(-1) === "From the agent.", JSON.stringify(texts));
    const ends = log.filter((frame) => kind(frame) === "session.turn.close").map(({ data }) => data.properties.sessionID);
    assert.equal(new Set(ends).size, 2, "the sub-agent has a turn of its own");
    assert.equal(kinds.at(-1), "complete");
  });

  test("nothing of all this is left running", () => {
    assert.deepEqual(turns.tools(), []);
  });
});
