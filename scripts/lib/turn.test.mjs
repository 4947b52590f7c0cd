import assert from "node:assert/strict";
import { test } from "node:test";

import { Turn } from "./turn.mjs";

const EXECUTION = "exc_1";
const frame = (streamEventType, data, executionId = EXECUTION) => ({ streamEventType, data, executionId });
const agent = (event, properties) => frame("kilocode", { event, type: event, properties });
const assistant = agent("message.updated", { info: { id: "msg_a", role: "assistant" } });
const text = (value, end) =>
  agent("message.part.updated", { part: { id: "prt_1", messageID: "msg_a", type: "text", text: value, time: { start: 1, end } } });
const delta = (value, partID = "prt_1") =>
  agent("message.part.delta", { partID, messageID: "msg_a", field: "text", delta: value });
const tool = (status, more = {}) =>
  agent("message.part.updated", {
    part: { id: "prt_2", messageID: "msg_a", type: "tool", callID: "c", tool: "bash", state: { status, input: { command: "ls" }, ...more } },
  });

function take(...frames) {
  const turn = new Turn();
  return frames.flatMap((it) => turn.take(it));
}

test("a text is shown once, whether it comes in pieces, whole, or both", () => {
  const spoken = (...frames) =>
    take(assistant, ...frames)
      .map((milestone) => milestone.text)
      .join("");
  assert.equal(spoken(text(""), delta("Hel"), delta("lo"), text("Hello", 2)), "Hello");
  assert.equal(spoken(text("Hello", 2)), "Hello");
  assert.equal(spoken(text(""), delta("Hel"), text("Hello there", 2)), "Hello there");
  assert.equal(spoken(text("Hello", 2), text("Hello", 2), delta("!")), "Hello");
});

test("the user's words and the agent's thoughts are not shown", () => {
  assert.deepEqual(take(text("@say x", 2)), []);
  assert.deepEqual(take(assistant, delta("hm", "prt_thought")), []);
});

test("a tool call is shown when its input is known, and again when it failed", () => {
  assert.deepEqual(take(assistant, tool("pending"), tool("running"), tool("running"), tool("completed")), [
    { event: "tool", tool: "bash", input: "ls", status: "called" },
  ]);
  const failed = take(assistant, tool("running"), tool("error", { error: "no such file" }));
  assert.deepEqual(failed.at(-1), { event: "tool", tool: "bash", input: "ls", status: "failed: no such file" });
});

test("a turn ends with the branch that it worked on", () => {
  const ready = frame("preparing", { step: "ready", message: "Session ready", branch: "session/1" }, "prep_1");
  assert.deepEqual(take(ready, frame("complete", { exitCode: 0 })).at(-1), { event: "end", status: "completed", branch: "session/1" });
  assert.equal(take(ready, frame("complete", { exitCode: 0, currentBranch: "b" })).at(-1).branch, "b");
});

test("a failed preparation ends it, also for a viewer who was away; an error that is not fatal does not", () => {
  const failed = frame("preparing", { step: "failed", message: "no" }, "prep_1");
  assert.deepEqual(take(failed).at(-1), { event: "end", status: "failed", error: "no" });
  const connected = frame("connected", { cloudStatus: { type: "error", message: "no" } }, null);
  assert.deepEqual(take(connected), [{ event: "end", status: "failed", error: "no" }]);
  assert.equal(take(frame("error", { error: "e", fatal: true }))[0].event, "end");
  assert.equal(take(frame("error", { error: "e" }))[0].event, "notice");
});

test("what is unknown is passed over", () => {
  assert.deepEqual(take(frame("heartbeat", {}), frame("output", { content: "x" }), agent("session.idle"), frame("connected", {}, null)), []);
});
