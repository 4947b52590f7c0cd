// The agent asks a person: a viewer sees the question, an answer or a refusal reaches the agent, and the run goes on.

import assert from "node:assert/strict";
import { test } from "node:test";

import { events } from "../scripts/lib/stream.mjs";
import { holdfast } from "./harness.mjs";

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

/** Runs a turn that asks, and says `verdict` to the question. */
async function runAsking(prompt, verdict) {
  const { cloudAgentSessionId: sessionId } = await it.api.mutate("prepareSession", {
    prompt,
    mode: "code",
    model: "scripted",
    gitUrl: it.gitUrl,
    autoInitiate: true,
  });
  const seen = { sessionId, types: [], tools: [] };
  for await (const { streamEventType, data } of turn(sessionId)) {
    seen.types.push(streamEventType === "kilocode" ? data.event : streamEventType);
    if (data?.event === "message.part.updated" && data.properties.part.type === "tool") seen.tools.push(data.properties.part);
    if (data?.event === "question.asked" && !seen.question) {
      seen.question = data.properties;
      seen.answer = await verdict(sessionId, seen.question.id);
      seen.again = await verdict(sessionId, seen.question.id);
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
  assert.deepEqual(seen.question.questions[0].options.map(({ label }) => label), ["Left", "Right"]);
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

test("an answer that nobody waits for is not taken, and says why", { timeout: 60_000 }, async () => {
  const sessionId = `agent_${crypto.randomUUID()}`;
  await assert.rejects(it.api.mutate("rejectQuestion", { sessionId, questionId: "que_1" }), { status: 404 });
  const answer = await it.api.mutate("answerPermission", { sessionId: over, permissionId: "per_1", response: "once" });
  assert.deepEqual(answer, { success: false, message: "No active execution" });
});
