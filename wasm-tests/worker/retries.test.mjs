// A call whose answer is lost on the way, after the object has taken it, by a failure that the platform calls retryable.

import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { expect, inject, test } from "vitest";

import { eventually } from "./socket.mjs";
import { newTown, send } from "./towns.mjs";
import { complete, newSession, runningSession } from "./wrapper.mjs";

const DONE = { type: "done", branch: "session/test", resume: "fresh" };

/** The next answers of the object of a session or a town are lost, once it has done what `taken` waits for. Returns how often it was called. */
function loseAnswers(asked, { times = Infinity, taken = () => undefined } = {}) {
  let calls = 0;
  const lose = (object) => {
    const real = object.fetch.bind(object);
    object.fetch = async (request) => {
      calls += 1;
      if (calls > times) return real(request);
      real(request).catch(() => undefined);
      await taken();
      // A connection that ends without an answer is such a failure, and its mark is passed on.
      await fetch(`${inject("receiver")}/hook/lost-${asked.id}/drop`, { method: "POST", body: "" });
      throw new Error("the connection was to end");
    };
  };
  return runInDurableObject(asked.object, lose).then(() => () => calls);
}

const turns = (session) => session.rows("SELECT id FROM execution ORDER BY number");

test("a message that names itself no id is known when it is sent again, and begins one turn", async () => {
  const { session, wrapper } = await runningSession("again");
  wrapper.send(complete(1));
  await wrapper.next((frame) => frame.type === "ack");
  const begun = () => eventually(() => turns(session), (rows) => rows.length === 2);
  const calls = await loseAnswers(session, { times: 1, taken: begun });
  const asked = session.mutate("sendMessageV2", { cloudAgentSessionId: session.id, prompt: "more" });
  await begun();
  await eventually(calls, (count) => count >= 2);
  await session.report(await session.work(), 1, "kilo_server", DONE);
  const { status, data } = await asked;
  const [, second] = await turns(session);
  expect([status, data?.executionId]).toEqual([200, second.id]);
  expect(await turns(session)).toHaveLength(2);
});

test("what has one effect however often it arrives is asked three times, and what its first arrival would refuse once", async () => {
  for (const [procedure, fields, expected] of [
    ["interruptSession", {}, 3],
    ["answerQuestion", { questionId: "que_1", answers: [["yes"]] }, 1],
    ["initiateFromKilocodeSessionV2", {}, 1],
  ]) {
    const session = await newSession(`lost-${procedure}`);
    const calls = await loseAnswers(session);
    const { status, error } = await session.mutate(procedure, { sessionId: session.id, cloudAgentSessionId: session.id, ...fields });
    expect([procedure, calls(), status, error?.data.retryable]).toEqual([procedure, expected, 503, true]);
  }
});

test("what is posted to a town arrives once, and what is read is asked for three times", async () => {
  const town = await newTown("lost-posts");
  const beads = `/api/towns/${town.id}/rigs/${town.rigId}/beads`;
  for (const [method, body, expected] of [["POST", { type: "issue", title: "once" }, 1], ["GET", undefined, 3]]) {
    const calls = await loseAnswers(town);
    const { status } = await send(method, beads, town.container, body);
    expect([method, calls(), status >= 500]).toEqual([method, expected, true]);
    await evictDurableObject(town.object);
  }
  expect(await town.ok.rig("GET", "/beads?type=issue")).toMatchObject([{ title: "once" }]);
});
