// The agent asks a person, for an answer or for permission: a viewer sees it, the person's word reaches the agent, and the run goes on.

import assert from "node:assert/strict";
import { test } from "node:test";

import { readRepository } from "../scripts/lib/repository.mjs";
import { events } from "../scripts/lib/stream.mjs";
import { holdfast, until } from "./harness.mjs";

const it = holdfast("question");

const ENDS = new Set(["complete", "interrupted"]);

/** The events of one turn, up to its end. */
async function* turn(sessionId) {
  const stop = new AbortController();
  try {
    for await (const frame of events(it.api, sessionId, stop.signal)) {
      yield frame;
      if (ENDS.has(frame.streamEventType) || frame.data?.fatal) return;
    }
  } finally {
    stop.abort();
  }
}

/** Runs a turn that asks, and says `verdict` to the first question or request. */
async function runAsking(prompt, verdict, options = {}) {
  const { cloudAgentSessionId: sessionId } = await it.api.mutate("prepareSession", {
    prompt,
    mode: "code",
    model: "scripted",
    gitUrl: it.gitUrl,
    autoInitiate: true,
    ...options,
  });
  const seen = { sessionId, types: [], tools: [] };
  for await (const { streamEventType, data } of turn(sessionId)) {
    seen.types.push(streamEventType === "kilocode" ? data.event : streamEventType);
    if (data?.event === "message.part.updated" && data.properties.part.type === "tool") seen.tools.push(data.properties.part);
    if (/^(question|permission)\.asked$/.test(data?.event) && !seen.asked) {
      seen.asked = data.properties;
      seen.answer = await verdict(sessionId, seen.asked.id);
      seen.again = await verdict(sessionId, seen.asked.id);
    }
  }
  return seen;
}

let over;

test("an answered question lets the run complete with the answer", { timeout: 120_000 }, async () => {
  const seen = await runAsking("@question Which one?|Left|Right\n@say Thanks.", (sessionId, questionId) =>
    it.api.mutate("answerQuestion", { sessionId, questionId, answers: [["Right"]] }),
  );
  over = seen.sessionId;
  assert.deepEqual(seen.asked.questions[0].options.map(({ label }) => label), ["Left", "Right"]);
  assert.equal(seen.answer.success, true);
  assert.equal(seen.again.success, false, "one question takes one answer");
  assert.ok(seen.types.includes("question.replied"), `${seen.types}`);
  assert.match(seen.tools.at(-1).state.output, /Right/);
  assert.equal(seen.types.at(-1), "complete");
});

test("a refused question leaves the agent to itself, and the run ends", { timeout: 120_000 }, async () => {
  const seen = await runAsking("@question Which one?|Left|Right\n@say Never mind.", (sessionId, questionId) =>
    it.api.mutate("rejectQuestion", { sessionId, questionId }),
  );
  assert.equal(seen.answer.success, true);
  assert.equal(seen.again.success, false);
  assert.ok(seen.types.includes("question.rejected"), `${seen.types}`);
  assert.ok(ENDS.has(seen.types.at(-1)), `${seen.types.at(-1)}`);
});

const ASK = { permissions: "ask", autoCommit: true };
const RISKY = "@bash git rm --quiet README.md\n@say Removed.";
const answer = (response) => (sessionId, permissionId) => it.api.mutate("answerPermission", { sessionId, permissionId, response });

test("a permission given once lets the agent do it once", { timeout: 120_000 }, async () => {
  const { sessionId, asked, ...seen } = await runAsking(RISKY, answer("once"), ASK);
  assert.deepEqual([asked.permission, asked.patterns], ["bash", ["git rm --quiet README.md"]]);
  assert.deepEqual([seen.answer.success, seen.again.success], [true, false], "one request takes one answer");
  assert.ok(seen.types.includes("permission.replied"), `${seen.types}`);
  assert.equal(seen.tools.at(-1).state.status, "completed");
  assert.equal(seen.types.at(-1), "complete");
  assert.equal(readRepository(it.gitUrl, "ls-tree", "--name-only", `session/${sessionId}`), "", "the agent did it");
});

test("a permission that is refused keeps the agent from doing it, and the run ends", { timeout: 120_000 }, async () => {
  const { answer: taken, again, types, tools } = await runAsking(RISKY, answer("reject"), ASK);
  assert.deepEqual([taken.success, again.success], [true, false]);
  assert.match(tools.at(-1).state.error, /rejected permission/);
  assert.equal(types.at(-1), "complete");
});

test("an abort withdraws what the agent asks", { timeout: 120_000 }, async () => {
  const interrupt = (sessionId) => it.api.mutate("interruptSession", { sessionId });
  const { sessionId, asked, types } = await runAsking(RISKY, interrupt, ASK);
  assert.equal(types.at(-1), "interrupted");
  const late = await it.api.mutate("sendMessageV2", { cloudAgentSessionId: sessionId, prompt: "@slow 100 100" });
  const taken = await it.api.mutate("answerPermission", { sessionId, permissionId: asked.id, response: "once" });
  assert.equal(taken.success, false, "nobody waits for it any more");
  await it.api.mutate("interruptSession", { sessionId });
  await until("the end", async () => (await it.api.session(sessionId)).execution === null);
  assert.ok(late.executionId);
});

test("where everything is allowed nobody is asked", { timeout: 120_000 }, async () => {
  const { asked, types, tools } = await runAsking(RISKY, () => assert.fail("the agent asks"));
  assert.deepEqual([asked, types.at(-1), tools.at(-1).state.status], [undefined, "complete", "completed"]);
});

test("an answer that nobody waits for is not taken, and says why", { timeout: 60_000 }, async () => {
  const sessionId = `agent_${crypto.randomUUID()}`;
  await assert.rejects(it.api.mutate("rejectQuestion", { sessionId, questionId: "que_1" }), { status: 404 });
  const answer = await it.api.mutate("answerPermission", { sessionId: over, permissionId: "per_1", response: "once" });
  assert.deepEqual(answer, { success: false, message: "No active execution" });
});
