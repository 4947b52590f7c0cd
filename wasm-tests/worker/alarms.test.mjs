// Deadlines of a session through the built Worker: one alarm, the nearest of them, in an object that is evicted or killed in between.

import { abortAllDurableObjects } from "cloudflare:test";
import { afterEach, expect, test, vi } from "vitest";

import { eventually } from "./socket.mjs";
import { askTicket, isConnected, ofType, watch } from "./viewer.mjs";
import { ask, complete, idle, newSession, runningSession } from "./wrapper.mjs";

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const GRACE = 10 * SECOND;

const DONE = { type: "done", branch: "b", resume: "fresh" };

afterEach(() => vi.useRealTimers());

/** Stops the isolate's clock. */
const stopClock = () => vi.useFakeTimers({ toFake: ["Date"] });

const pass = (ms) => vi.setSystemTime(Date.now() + ms);

/** The session's alarm is `ms` from now. It may take a moment: a close and a volatile frame are not answered. */
async function expectAlarmIn(session, ms) {
  expect(await eventually(() => session.alarm(), (at) => at === Date.now() + ms)).toBe(Date.now() + ms);
  await session.evict();
}

/** Once what it owes is settled, nothing wakes the session before its agent server is to be stopped; one that is gone never wakes. */
async function expectRest(session) {
  await session.ring();
  await eventually(() => session.rows("SELECT key FROM owed"), (rows) => rows.length === 0);
  const alarm = await session.alarm();
  expect(alarm === null || alarm - Date.now() > MINUTE, `the alarm is at ${alarm}`).toBe(true);
}

const disconnects = (session) => session.rows("SELECT id, data FROM log WHERE type = 'wrapper_disconnected'");

test("a wrapper that is gone for 10 s ends its run, once, before the eyes of its viewers", async () => {
  const { session, wrapper, turn } = await runningSession("gone");
  stopClock();
  const viewer = await watch(session);
  wrapper.close(4000, "crash");
  await expectAlarmIn(session, GRACE);
  pass(GRACE - 1);
  expect(await session.ring()).toBe(true);
  expect((await session.view()).execution.status).toBe("running");
  await expectAlarmIn(session, 1);
  pass(1);
  expect(await session.ring()).toBe(true);
  const data = { error: "Wrapper disconnected", fatal: true, reason: "Wrapper disconnected", wsCloseCode: 4000, wsCloseReason: "crash" };
  const frame = { eventId: 1, executionId: turn.executionId, streamEventType: "wrapper_disconnected", data };
  expect(await viewer.next(ofType("wrapper_disconnected"))).toMatchObject(frame);
  expect((await viewer.next()).data).toEqual({ cloudStatus: { type: "error", message: "Wrapper disconnected" } });
  expect((await session.view()).lastExecution).toMatchObject({ status: "failed", error: "Wrapper disconnected" });
  await expectRest(session);
  expect(await disconnects(session)).toHaveLength(1);
  expect((await (await watch(session)).until(isConnected))[0]).toMatchObject(frame);
});

test("a wrapper that comes back within the grace goes on where it was", async () => {
  const { session, wrapper, turn } = await runningSession("back");
  stopClock();
  const viewer = await watch(session);
  wrapper.close(1001, "");
  await expectAlarmIn(session, GRACE);
  pass(GRACE - 1);
  const again = await session.connect(turn);
  expect(await again.next()).toEqual({ type: "resume", lastSeq: 0 });
  expect(await viewer.next(ofType("wrapper_reconnected"))).toMatchObject({ eventId: 0 });
  // What is left is the bound on heartbeats.
  await expectAlarmIn(session, 10 * MINUTE);
  pass(SECOND);
  expect(await session.ring()).toBe(true);
  expect((await session.view()).execution.status).toBe("running");
  expect(await disconnects(session)).toEqual([]);
});

test("a killed object finds its run without a socket, and gives it its grace", async () => {
  const { session, wrapper, turn } = await runningSession("killed");
  stopClock();
  wrapper.send(idle(1));
  await wrapper.next();
  await abortAllDurableObjects();
  expect((await wrapper.closed()).code).toBe(1006);
  expect((await session.view()).execution.status).toBe("running");
  await expectAlarmIn(session, GRACE);
  pass(GRACE - 1);
  const again = await session.connect(turn);
  expect(await again.next()).toEqual({ type: "resume", lastSeq: 1 });
  pass(SECOND);
  await session.ring();
  expect((await session.view()).execution.status).toBe("running");

  await abortAllDurableObjects();
  await session.view();
  await expectAlarmIn(session, GRACE);
  pass(GRACE);
  await session.ring();
  expect((await session.view()).lastExecution).toMatchObject({ status: "failed", error: "Wrapper disconnected" });
  expect(await disconnects(session)).toHaveLength(1);
});

test("the alarm follows the nearest deadline, and what is at rest is left alone", async () => {
  const { session, wrapper } = await runningSession("nearest");
  stopClock();
  wrapper.send(idle(1));
  await wrapper.next();
  await expectAlarmIn(session, 5 * MINUTE);
  pass(MINUTE);
  const question = (event, properties) => ({ streamEventType: "kilocode", data: { event, properties } });
  // A person may take their time: until then only heartbeats count.
  wrapper.send(question("question.asked", { id: "que_1", questions: [] }));
  await expectAlarmIn(session, 10 * MINUTE);
  pass(MINUTE);
  wrapper.send(question("question.replied", { requestID: "que_1" }));
  await expectAlarmIn(session, 5 * MINUTE);
  wrapper.send(complete(2));
  await wrapper.next();
  await expectRest(session);
});

test("a run without any event for 5 minutes ends, and its wrapper is told", async () => {
  const { session, wrapper } = await runningSession("hung");
  stopClock();
  wrapper.send(idle(1));
  await wrapper.next();
  await session.evict();
  pass(5 * MINUTE);
  await session.ring();
  expect(await wrapper.next()).toEqual({ type: "kill" });
  const error = "Execution hung — no events received for 5 minutes";
  expect((await session.view()).lastExecution).toMatchObject({ status: "failed", error });
  await expectRest(session);
});

test("a run whose wrapper never connects ends 3 minutes after its prompt was taken", async () => {
  const session = await newSession("pending");
  await session.report(await session.work(), 1, "kilo_server", DONE);
  const start = await session.work();
  stopClock();
  await session.report(start, 1, "kilo_server", DONE);
  await expectAlarmIn(session, 3 * MINUTE);
  pass(3 * MINUTE);
  await session.ring();
  const error = "Execution timeout - wrapper never connected";
  expect((await session.view()).lastExecution).toMatchObject({ status: "failed", error });
  await expectRest(session);
  const late = await session.connect(start.turn);
  expect([await late.next(), await late.next()]).toEqual([{ type: "resume", lastSeq: 0 }, { type: "kill" }]);
});

test("a preparation that no container takes on is given up after 12 minutes, and leaves nothing behind", async () => {
  const session = await newSession("nobody");
  const listed = async () => {
    const response = await ask("/trpc/listSessions", { headers: session.headers });
    return (await response.json()).result.data.sessions.map((entry) => entry.cloudAgentSessionId);
  };
  expect(await listed()).toEqual([session.id]);
  const viewer = await watch(session);
  stopClock();
  pass(12 * MINUTE);
  await session.ring();
  expect(await viewer.next(ofType("preparing"))).toMatchObject({ data: { step: "failed", message: "The container did not begin in time" } });
  await eventually(listed, (sessions) => sessions.length === 0);
  await expectRest(session);
  expect(await session.view()).toBe(undefined);
  // Who comes back to it is told why; whose it is not, nothing.
  const status = { type: "error", message: "The container did not begin in time" };
  expect(await (await watch(session)).next(isConnected)).toMatchObject({ data: { cloudStatus: status } });
  const stranger = await newSession("stranger");
  expect((await askTicket(stranger.headers, { cloudAgentSessionId: session.id })).status).toBe(403);
});
