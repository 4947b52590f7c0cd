// The ingest socket through the built Worker. The session object is evicted after each step, and its sockets hibernate.

import { runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";

import { eventually } from "./socket.mjs";
import { headersOf } from "./tokens.mjs";
import { ask, complete, idle, newSession, numbers, refusal, runningSession } from "./wrapper.mjs";

const LOG = "SELECT data FROM log WHERE type = 'kilocode' ORDER BY id";


test("a session comes up by its container's reports, and its wrapper runs the turn to its end", async () => {
  const { session, wrapper } = await runningSession("life");
  const running = await session.view();
  expect(running.execution.status).toBe("running");
  await session.evict();
  wrapper.send([idle(1), { streamEventType: "complete", seq: 2, data: { exitCode: 0, currentBranch: "b" } }]);
  expect(await wrapper.next()).toEqual({ type: "ack", seq: 2 });
  await session.evict();
  const ended = await session.view();
  expect(ended).toMatchObject({ upstreamBranch: "b", lastExecution: { id: running.execution.id, status: "completed" } });
  expect(ended).not.toHaveProperty("execution.id");
});

test("an eviction makes a new instance, and the socket is the same one", async () => {
  const { session, wrapper } = await runningSession("instance");
  const seen = new WeakSet();
  const known = () => runInDurableObject(session.object, (instance) => seen.has(instance) || !seen.add(instance));
  expect([await known(), await known()]).toEqual([false, true]);
  await session.evict();
  wrapper.send(idle(1));
  expect(await wrapper.next()).toEqual({ type: "ack", seq: 1 });
  expect([await known(), await known()]).toEqual([false, true]);
});

test("what was acknowledged is stored once, whatever is sent again after an eviction", async () => {
  const { session, wrapper, turn } = await runningSession("once");
  const frames = [
    [idle(1), 1],
    [[idle(1), idle(2)], 2],
    [idle(2), 2],
    [[idle(1), idle(2), idle(3), idle(4)], 4],
  ];
  for (const [frame, seq] of frames) {
    wrapper.send(frame);
    expect(await wrapper.next()).toEqual({ type: "ack", seq });
    await session.evict();
  }
  expect(numbers(await session.rows(LOG))).toEqual([1, 2, 3, 4]);
  const again = await session.connect(turn);
  expect(await again.next()).toEqual({ type: "resume", lastSeq: 4 });
});

test("a gap stores nothing of its frame and closes; the next socket resumes where the log stands", async () => {
  const { session, wrapper, turn } = await runningSession("gap");
  wrapper.send(idle(1));
  expect(await wrapper.next()).toEqual({ type: "ack", seq: 1 });
  await session.evict();
  wrapper.send([idle(2), idle(4)]);
  expect(await wrapper.closed()).toEqual({ code: 4002, reason: "Gap after seq 1" });
  await session.evict();
  expect(numbers(await session.rows(LOG))).toEqual([1]);
  const again = await session.connect(turn);
  expect(await again.next()).toEqual({ type: "resume", lastSeq: 1 });
  again.send([idle(2), idle(3), idle(4)]);
  expect(await again.next()).toEqual({ type: "ack", seq: 4 });
});

test("a second socket replaces the first, which is told so, and no disconnect is noted", async () => {
  const { session, wrapper, turn } = await runningSession("replaced");
  const newer = await session.connect(turn);
  expect(await newer.next()).toEqual({ type: "resume", lastSeq: 0 });
  expect(await wrapper.closed()).toEqual({ code: 1000, reason: "Replaced by new connection" });
  await session.evict();
  newer.send(idle(1));
  expect(await newer.next()).toEqual({ type: "ack", seq: 1 });
  expect(await session.rows("SELECT disconnected_at FROM execution")).toEqual([{ disconnected_at: null }]);
});

test("each fault of a handshake has its status", async () => {
  const { session, wrapper, turn } = await runningSession("faults");
  const shake = async (changes) => {
    await session.evict();
    return refusal(session.handshake(turn, changes));
  };
  const changed = (name, value) => {
    const url = new URL(turn.ingestUrl);
    if (value === undefined) url.searchParams.delete(name);
    else url.searchParams.set(name, value);
    return { url: url.href };
  };
  const stranger = await headersOf("oauth/stranger:1");
  expect(await shake({ upgrade: "" })).toEqual([426, "Expected WebSocket upgrade"]);
  const posted = await ask(turn.ingestUrl, { method: "POST", headers: session.headers });
  expect([posted.status, await posted.text()]).toEqual([426, "Expected WebSocket upgrade"]);
  expect(await shake(changed("executionId"))).toEqual([400, "Missing executionId parameter"]);
  expect(await shake(changed("executionId", "exc_01ARZ3NDEKTSV4RRFFQ69G5FAV"))).toEqual([404, "Execution not found"]);
  expect(await shake(changed("executionId", "1; DROP TABLE log"))).toEqual([404, "Execution not found"]);
  expect(await shake(changed("generation", "0"))).toEqual([409, "Stale wrapper generation"]);
  expect(await shake({ authorization: "" })).toEqual([401, "Missing Authorization header"]);
  expect(await shake({ authorization: "Bearer wrong" })).toEqual([401, "Invalid executionId"]);
  expect(await shake({ authorization: stranger.authorization })).toEqual([403, "Token does not match session user"]);
  const forged = { authorization: "Bearer wrong", "x-holdfast-user-token": "1" };
  expect(await shake(forged)).toEqual([401, "Invalid executionId"]);
  // None of them cost the wrapper that is connected anything.
  wrapper.send(complete(1));
  expect(await wrapper.next()).toEqual({ type: "ack", seq: 1 });
  const upstream = { ...changed("generation"), authorization: session.headers.authorization };
  expect(await shake(upstream)).toEqual([409, "Execution not active"]);
});

test("within the drain window the generation that ran may deliver, and is told to stop", async () => {
  const { session, wrapper, turn } = await runningSession("drain");
  wrapper.send(complete(1));
  await wrapper.next();
  const late = await session.connect(turn);
  expect(await late.next()).toEqual({ type: "resume", lastSeq: 1 });
  expect(await late.next()).toEqual({ type: "kill" });
  late.send(idle(2));
  expect(await late.next()).toEqual({ type: "ack", seq: 2 });
  await session.evict();
  expect(numbers(await session.rows(LOG))).toEqual([2]);
  expect((await session.view()).lastExecution.status).toBe("completed");
});

test("frames that cannot be taken are answered, and the socket stays open", async () => {
  const { session, wrapper } = await runningSession("frames");
  const error = (message) => ({ type: "error", code: "WS_PROTOCOL_ERROR", message });
  for (const [frame, answer] of [
    [new Uint8Array([123, 125]), error("Binary messages not supported")],
    [{ data: {} }, error("Missing streamEventType field")],
    [[], error("A frame holds 1 to 500 events, not 0")],
    ["no event", expect.objectContaining({ type: "error", code: "WS_INTERNAL_ERROR" })],
    [idle(1), { type: "ack", seq: 1 }],
  ]) {
    wrapper.send(frame);
    expect(await wrapper.next()).toEqual(answer);
    await session.evict();
  }
  expect(numbers(await session.rows(LOG))).toEqual([1]);
});

test("a frame of 500 events and one of almost 1 MiB are taken whole", async () => {
  const { session, wrapper } = await runningSession("large");
  wrapper.send(Array.from({ length: 500 }, (_, index) => idle(index + 1)));
  expect(await wrapper.next()).toEqual({ type: "ack", seq: 500 });
  await session.evict();
  wrapper.send(idle(501, { text: "x".repeat(1024 * 1024 - 200) }));
  expect(await wrapper.next()).toEqual({ type: "ack", seq: 501 });
  await session.evict();
  const stored = await session.rows("SELECT COUNT(*) AS events, MAX(seq) AS last FROM log");
  expect(stored).toEqual([{ events: 501, last: 501 }]);
});

test("upstream's wrapper, with the user's token and without numbers, is taken at least once", async () => {
  const { session, turn } = await runningSession("upstream");
  const url = new URL(turn.ingestUrl);
  url.searchParams.delete("generation");
  const socket = await session.connect(turn, { url: url.href, authorization: session.headers.authorization });
  expect((await socket.next()).type).toBe("resume");
  const { seq, ...unnumbered } = idle(1);
  for (let n = 0; n < 2; n += 1) {
    socket.send(unnumbered);
    await session.evict();
  }
  await eventually(() => session.rows(LOG), (rows) => rows.length === 2);
  // Nothing was acknowledged: the next frame is the answer to something else.
  socket.send({});
  expect((await socket.next()).type).toBe("error");
});

test("the commands of the object reach a wrapper whose object was evicted", async () => {
  const { session, wrapper } = await runningSession("commands");
  const body = JSON.stringify({ sessionId: session.id });
  // Nobody runs the container: the answer says so, after the wrapper was told.
  const answer = await ask("/trpc/interruptSession", { method: "POST", headers: session.headers, body });
  expect((await answer.json()).result.data).toEqual({ success: true, message: "Interrupt signal sent", processesFound: false });
  expect(await wrapper.next()).toEqual({ type: "kill", signal: "SIGTERM" });
  expect((await session.view()).lastExecution.status).toBe("failed");
});

test("reports of a stale attempt and with a wrong token are refused, and change nothing", async () => {
  const session = await newSession("reports");
  const work = await session.work();
  const told = await session.rows("SELECT n, step FROM work");
  await expect(session.report({ ...work, attempt: 7 }, 1, "cloning")).rejects.toThrow("Stale attempt");
  const wrong = { ...work, report: { ...work.report, token: "wrong" } };
  await expect(session.report(wrong, 1, "cloning")).rejects.toThrow("Invalid report token");
  await session.evict();
  expect(await session.rows("SELECT n, step FROM work")).toEqual(told);
});
