// Every procedure through the published tRPC client, as it comes: the wire format of queries, mutations and errors.

import { TRPCClientError, createTRPCClient, httpBatchLink, httpLink } from "@trpc/client";
import { expect, test } from "vitest";

import { headersOf } from "./tokens.mjs";
import { ask, runningSession } from "./wrapper.mjs";

const PREPARE = { prompt: "p", mode: "code", model: "scripted", gitUrl: "file:///nowhere.git", autoInitiate: true };
const NOBODY = { sessionId: "agent_00000000-0000-4000-8000-000000000000" };

/** What the client sent, as `METHOD procedure`. */
const sent = [];

function clientOf(headers, link = httpLink) {
  const fetch = (url, init) => {
    sent.push(`${init?.method ?? "GET"} ${new URL(url).pathname.slice("/trpc/".length)}`);
    return ask(url, init);
  };
  return createTRPCClient({ links: [link({ url: "http://worker/trpc", headers, fetch })] });
}

/** The failure of a call, as a front end sees it. */
async function failure(call) {
  const error = await call.then(
    (data) => Promise.reject(new Error(`it succeeded: ${JSON.stringify(data)}`)),
    (reason) => reason,
  );
  expect(error).toBeInstanceOf(TRPCClientError);
  return error;
}

/** Its code, HTTP status and procedure. */
async function facts(call) {
  const { data } = await failure(call);
  return [data.code, data.httpStatus, data.path];
}

test("each procedure answers the client", async () => {
  const { session, turn } = await runningSession("client");
  const trpc = clientOf(session.headers);
  const sessionId = session.id;
  const of = { cloudAgentSessionId: sessionId };
  sent.length = 0;

  expect(await trpc.health.query()).toMatchObject({ status: "ok" });
  const prepared = await trpc.prepareSession.mutate(PREPARE);
  expect(prepared.cloudAgentSessionId).toMatch(/^agent_/);
  expect(await trpc.getSession.query(of)).toMatchObject({ sessionId, execution: { id: turn.executionId } });
  expect((await trpc.listSessions.query({ limit: 1 })).sessions).toHaveLength(1);

  const running = await failure(trpc.sendMessageV2.mutate({ ...of, prompt: "more" }));
  expect(running.data).toMatchObject({ error: "EXECUTION_IN_PROGRESS", activeExecutionId: turn.executionId, httpStatus: 409 });
  expect(await facts(trpc.initiateFromKilocodeSessionV2.mutate(of))).toEqual([
    "CONFLICT",
    409,
    "initiateFromKilocodeSessionV2",
  ]);
  expect(await facts(trpc.updateSession.mutate({ ...of, variant: "high" }))).toEqual(["BAD_REQUEST", 400, "updateSession"]);
  expect(await trpc.updateSession.mutate({ ...of, callbackTarget: null })).toEqual({ success: true });

  const { executionId } = turn;
  expect(await facts(trpc.getWrapperLogs.query({ sessionId, executionId }))).toEqual(["NOT_FOUND", 404, "getWrapperLogs"]);

  // No container runs here: whether the agent has the answer is not known, or it says that it does not wait for one.
  for (const call of [
    trpc.answerQuestion.mutate({ sessionId, questionId: "que_1", answers: [["A"]] }),
    trpc.rejectQuestion.mutate({ sessionId, questionId: "que_1" }),
    trpc.answerPermission.mutate({ sessionId, permissionId: "per_1", response: "once" }),
  ]) {
    const answer = await call.catch((error) => error.data);
    expect([answer.success, answer.retryable]).toEqual(answer.httpStatus ? [undefined, true] : [false, undefined]);
  }
  expect(await facts(trpc.rejectQuestion.mutate({ ...NOBODY, questionId: "que_1" }))).toEqual([
    "NOT_FOUND",
    404,
    "rejectQuestion",
  ]);

  expect(await trpc.interruptSession.mutate({ sessionId })).toMatchObject({ success: true });
  expect(await trpc.deleteSession.mutate({ sessionId })).toEqual({ success: true });
  expect(await trpc.deleteSession.mutate({ sessionId: prepared.cloudAgentSessionId })).toEqual({ success: true });

  expect([...new Set(sent)].sort()).toEqual([
    "GET getSession",
    "GET getWrapperLogs",
    "GET health",
    "GET listSessions",
    "POST answerPermission",
    "POST answerQuestion",
    "POST deleteSession",
    "POST initiateFromKilocodeSessionV2",
    "POST interruptSession",
    "POST prepareSession",
    "POST rejectQuestion",
    "POST sendMessageV2",
    "POST updateSession",
  ]);
});

test("errors have the shape that the client reads", async () => {
  const headers = await headersOf("client-errors");
  const trpc = clientOf(headers);
  const invalid = await failure(trpc.prepareSession.mutate({ ...PREPARE, mode: "shout", model: "not a model" }));
  expect(invalid.data).toEqual({ code: "BAD_REQUEST", httpStatus: 400, path: "prepareSession" });
  expect(JSON.parse(invalid.message).map(({ path }) => path)).toEqual([["mode"], ["model"]]);

  expect(await facts(clientOf({}).health.query())).toEqual(["UNAUTHORIZED", 401, "health"]);
  const browser = clientOf({ authorization: headers.authorization });
  expect(await facts(browser.prepareSession.mutate(PREPARE))).toEqual(["UNAUTHORIZED", 401, "prepareSession"]);
  expect(await facts(trpc.nothing.query())).toEqual(["NOT_FOUND", 404, "nothing"]);
  expect(await facts(trpc.getSession.mutate({}))).toEqual(["METHOD_NOT_SUPPORTED", 405, "getSession"]);
  expect(await facts(trpc.getSession.query({}))).toEqual(["BAD_REQUEST", 400, "getSession"]);
});

test("a batch is refused in words, for each of its calls", async () => {
  const trpc = clientOf(await headersOf("client-batch"), httpBatchLink);
  const calls = [trpc.health.query(), trpc.listSessions.query({}), trpc.getSession.query(NOBODY)];
  for (const error of await Promise.all(calls.map(failure))) {
    expect([error.message, error.data.code]).toEqual(["Batches are not supported: use httpLink", "BAD_REQUEST"]);
  }
  const alone = await failure(trpc.deleteSession.mutate(NOBODY));
  expect(alone.message).toBe("Batches are not supported: use httpLink");
});
