// Viewers through the built Worker: tickets, replay, live frames. The session object is evicted after each step, and its sockets hibernate.

import { runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";

import { bindings } from "./bindings.mjs";
import { headersOf, sign } from "./tokens.mjs";
import { askTicket, handshake, isConnected, ofType, ticketFor, watch } from "./viewer.mjs";
import { complete, idle, newSession, numbers, refusal, runningSession } from "./wrapper.mjs";

const MIB = 1024 * 1024;

const delta = { streamEventType: "kilocode", data: { event: "message.part.delta", properties: {} } };

/** Sends and waits until it is stored. */
async function store(session, wrapper, events) {
  wrapper.send(events);
  const { seq } = events.at(-1);
  await wrapper.next((frame) => frame.type === "ack" && frame.seq === seq);
  await session.evict();
}

/** `count` events from number `first` on, in one frame. */
const idles = (first, count, data) => Array.from({ length: count }, (_, index) => idle(first + index, data));

const ids = (frames) => frames.map((frame) => frame.eventId);

test("a ticket is for the back end of the session's owner", async () => {
  const session = await newSession("ticket");
  const body = { cloudAgentSessionId: session.id };
  const without = (name) => Object.fromEntries(Object.entries(session.headers).filter(([key]) => key !== name));
  const status = async (headers, input = body) => (await askTicket(headers, input)).status;
  expect(await status(without("x-internal-api-key"))).toBe(401);
  expect(await status({ ...session.headers, "x-internal-api-key": "wrong" })).toBe(401);
  expect(await status(without("authorization"))).toBe(401);
  expect(await status(session.headers, {})).toBe(400);
  expect(await status(session.headers, { cloudAgentSessionId: "7" })).toBe(400);
  expect(await status(await headersOf("oauth/stranger:1"))).toBe(403);
  const response = await askTicket(session.headers, body);
  expect([response.status, await response.json()]).toEqual([200, { ticket: expect.any(String), expiresAt: expect.any(Number) }]);
});

test("a stream opens only with a valid ticket for that very session", async () => {
  const session = await newSession("guard");
  const cloudAgentSessionId = session.id;
  const ticket = await ticketFor(session);
  const refused = (query, headers) => refusal(handshake(query, headers));
  expect(await refused({ cloudAgentSessionId, ticket }, {})).toEqual([426, "Expected WebSocket upgrade"]);
  expect(await refused({ ticket })).toEqual([400, "Missing cloudAgentSessionId parameter"]);
  expect(await refused({ cloudAgentSessionId })).toEqual([401, "Missing ticket"]);
  expect((await refused({ cloudAgentSessionId, ticket: "x" }))[0]).toBe(401);
  expect(await refused({ cloudAgentSessionId, ticket: `${ticket}x` })).toEqual([401, "Invalid ticket signature"]);
  const userToken = session.headers.authorization.slice("Bearer ".length);
  expect((await refused({ cloudAgentSessionId, ticket: userToken }))[0]).toBe(401);
  const claims = { type: "stream_ticket", userId: session.user, kiloSessionId: "ses_x", cloudAgentSessionId, nonce: "n", iat: 0, exp: 1 };
  const expired = await sign(bindings.NEXTAUTH_SECRET, claims);
  expect(await refused({ cloudAgentSessionId, ticket: expired })).toEqual([401, "Ticket expired"]);
  const other = `${cloudAgentSessionId.slice(0, -1)}${cloudAgentSessionId.endsWith("0") ? "1" : "0"}`;
  expect(await refused({ cloudAgentSessionId: other, ticket })).toEqual([403, "Session mismatch"]);
  const tooLong = "x".repeat(9 * 1024);
  expect(await refused({ cloudAgentSessionId, ticket, eventTypes: tooLong })).toEqual([400, "The filters are too long"]);
});

test("a viewer that was there before sees the preparation step by step", async () => {
  const session = await newSession("steps");
  const viewer = await watch(session);
  expect(await viewer.next()).toMatchObject({ streamEventType: "connected", eventId: 0, data: { cloudStatus: { type: "preparing" } } });
  const work = await session.work();
  const steps = ["disk_check", "cloning", "branch"];
  for (const [index, step] of steps.entries()) {
    // At least once: what comes twice is shown once.
    await session.report(work, index + 1, step);
    await session.report(work, index + 1, step);
  }
  for (const step of steps) {
    expect(await viewer.next()).toMatchObject({ streamEventType: "preparing", eventId: 0, executionId: `prep_${session.id}`, data: { step } });
    expect(await viewer.next()).toMatchObject({ streamEventType: "cloud.status", data: { cloudStatus: { type: "preparing", step } } });
  }
  await session.report(work, 4, "kilo_server", { type: "done", branch: "b", resume: "fresh" });
  const start = await session.work();
  expect(start.attempt).toBe(2);
  await session.report(start, 1, "kilo_server", { type: "done", branch: "b", resume: "fresh" });
  // `ready` unlocks the front end's input: the end of the preparation alone does not say it.
  expect(await viewer.next()).toMatchObject({ streamEventType: "preparing", data: { step: "ready", branch: "b" } });
  expect(await viewer.next()).toMatchObject({ streamEventType: "cloud.status", data: { cloudStatus: { type: "ready" } } });
});

test("what is stored is replayed, then the viewer is connected, then it gets what happens", async () => {
  const { session, wrapper, turn } = await runningSession("replay");
  await store(session, wrapper, idles(1, 3));
  const viewer = await watch(session);
  const replay = await viewer.until(isConnected);
  expect(ids(replay)).toEqual([1, 2, 3, 0]);
  expect(replay[0]).toEqual({
    eventId: 1,
    executionId: turn.executionId,
    sessionId: session.id,
    streamEventType: "kilocode",
    timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
    data: { event: "session.idle", n: 1 },
  });
  expect(replay[3]).toMatchObject({ executionId: null, sessionId: session.id, data: { cloudStatus: { type: "ready" } } });
  wrapper.send(delta);
  await store(session, wrapper, [idle(4), complete(5)]);
  const live = await viewer.until(ofType("complete"));
  // What is volatile is no cursor, and costs no id.
  expect(ids(live)).toEqual([0, 4, 5]);
  expect(ids(await (await watch(session)).until(isConnected))).toEqual([1, 2, 3, 4, 5, 0]);
});

test("the wrapper is asked for a snapshot when a viewer comes", async () => {
  const { session, wrapper } = await runningSession("snapshot");
  await watch(session);
  expect(await wrapper.next()).toEqual({ type: "request_snapshot" });
});

test("a viewer resumes from its cursor, and misses no update of what it has seen", async () => {
  const { session, wrapper } = await runningSession("resume");
  const part = (seq, text) => ({
    streamEventType: "kilocode",
    seq,
    data: { event: "message.part.updated", properties: { part: { id: "prt_1", messageID: "msg_1", text } } },
  });
  await store(session, wrapper, [part(1, "a"), idle(2)]);
  const first = await (await watch(session)).until(isConnected);
  expect(ids(first)).toEqual([1, 2, 0]);
  await store(session, wrapper, [part(3, "ab"), idle(4), part(5, "abc")]);
  const rest = await (await watch(session, { fromId: "2" })).until(isConnected);
  expect(ids(rest)).toEqual([4, 5, 0]);
  expect(rest[1].data.properties.part.text).toBe("abc");
  expect(ids(await (await watch(session, { replay: "false" })).until(isConnected))).toEqual([0]);
});

test("a viewer's filters outlive an eviction, in replay and live", async () => {
  const { session, wrapper, turn } = await runningSession("filters");
  await store(session, wrapper, idles(1, 2));
  const [byType, byRun, byOther] = [
    await watch(session, { eventTypes: "complete, wrapper_disconnected" }),
    await watch(session, { executionIds: turn.executionId, startTime: "0" }),
    await watch(session, { executionIds: "exc_other" }),
  ];
  await store(session, wrapper, [idle(3), complete(4)]);
  expect(ids(await byType.until(ofType("complete")))).toEqual([0, 4]);
  expect(ids(await byRun.until(ofType("complete")))).toEqual([1, 2, 0, 3, 4]);
  byOther.close();
  await byOther.closed();
  expect(byOther.frames.map((frame) => frame.streamEventType)).toEqual(["connected"]);
});

test("with batch=1 the replay comes as arrays, in order", async () => {
  const { session, wrapper } = await runningSession("batch");
  for (const first of [1, 401]) await store(session, wrapper, idles(first, 400));
  const viewer = await watch(session, { batch: "1" });
  const frames = await viewer.until(isConnected);
  expect(frames.map((frame) => frame.length)).toEqual([500, 300, undefined]);
  expect(numbers(frames.slice(0, -1).flat())).toEqual(numbers(idles(1, 800)));
});

test("every viewer gets every event, and one that goes away costs the others nothing", async () => {
  const { session, wrapper } = await runningSession("several");
  const viewers = [await watch(session), await watch(session), await watch(session)];
  await store(session, wrapper, [idle(1)]);
  viewers[1].close(1000, "bye");
  expect((await viewers[1].closed()).code).toBe(1000);
  await store(session, wrapper, [idle(2), complete(3)]);
  for (const viewer of [viewers[0], viewers[2]]) {
    expect(ids(await viewer.until(ofType("complete")))).toEqual([0, 1, 2, 3]);
  }
  expect(ids(viewers[1].frames)).toEqual([0, 1]);
});

test("what a viewer says changes nothing", async () => {
  const { session, wrapper } = await runningSession("mute");
  const viewer = await watch(session);
  viewer.send(complete(1));
  viewer.send(new Uint8Array(8));
  await store(session, wrapper, [idle(1)]);
  expect(ids(await viewer.until(ofType("kilocode")))).toEqual([0, 1]);
  expect((await session.view()).execution.status).toBe("running");
});

test("a replay of several rounds has no gap and no double while events arrive", async () => {
  const { session, wrapper } = await runningSession("rounds");
  const text = "x".repeat(MIB / 16);
  for (let first = 1; first <= 45; first += 15) await store(session, wrapper, idles(first, 15, { text }));
  const opening = watch(session);
  for (let seq = 46; seq <= 65; seq += 1) {
    wrapper.send(idle(seq));
    await wrapper.next((frame) => frame.seq === seq);
  }
  const viewer = await opening;
  await store(session, wrapper, [complete(66)]);
  const frames = await viewer.until(ofType("complete"));
  expect(ids(frames).filter((id) => id > 0)).toEqual(Array.from({ length: 66 }, (_, index) => index + 1));
  expect(frames.filter(isConnected)).toHaveLength(1);
  // 2.8 MiB are more than one round: some of what came meanwhile was live, or `connected` would be last.
  expect(frames.findIndex(isConnected)).toBeGreaterThan(44);
});

test("a connection that has replayed 32 MiB is closed, and the next one goes on from its cursor", async () => {
  const { session } = await runningSession("bound");
  await runInDurableObject(session.object, (_object, { storage }) => {
    const data = JSON.stringify({ event: "session.idle", text: "x".repeat(MIB) });
    for (let id = 1; id <= 34; id += 1) {
      storage.sql.exec("INSERT INTO log (id, execution, seq, type, at, data) VALUES (?, 'exc', NULL, 'kilocode', 0, ?)", id, data);
    }
  });
  const viewer = await watch(session);
  expect(await viewer.closed()).toEqual({ code: 1013, reason: "Resume with fromId" });
  expect(ids(viewer.frames)).toEqual(Array.from({ length: 32 }, (_, index) => index + 1));
  const rest = await (await watch(session, { fromId: "32" })).until(isConnected);
  expect(ids(rest)).toEqual([33, 34, 0]);
});
