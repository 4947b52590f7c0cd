// Viewers at their worst: one that never reads, a log that cannot be read, events of any size. The session object is evicted after each step.

import { runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";

import { Socket } from "./socket.mjs";
import { handshake, isConnected, ofType, ticketFor, watch } from "./viewer.mjs";
import { complete, idle, newSession, runningSession } from "./wrapper.mjs";

const MIB = 1024 * 1024;

const ids = (frames) => frames.map((frame) => frame.eventId);

async function store(session, wrapper, events) {
  wrapper.send(events);
  const { seq } = [events].flat().at(-1);
  await wrapper.next((frame) => frame.type === "ack" && frame.seq === seq);
  await session.evict();
}

test("viewers that never read cost the others and the wrapper nothing", async () => {
  const { session, wrapper } = await runningSession("deaf");
  const viewer = await watch(session);
  // Their clients take no frame; the platform keeps what was sent, and an object whose sockets are full of it is not evicted.
  const deaf = [];
  for (let n = 0; n < 2; n += 1) deaf.push(await handshake({ cloudAgentSessionId: session.id, ticket: await ticketFor(session) }));
  expect(deaf.map((response) => response.status)).toEqual([101, 101]);
  const text = "x".repeat(MIB / 8);
  for (let seq = 1; seq <= 40; seq += 1) {
    wrapper.send(idle(seq, { text }));
    await wrapper.next((frame) => frame.type === "ack" && frame.seq === seq);
  }
  wrapper.send(complete(41));
  expect(ids(await viewer.until(ofType("complete")))).toEqual([0, ...Array.from({ length: 41 }, (_, index) => index + 1)]);
  for (const response of deaf) expect(ids(await new Socket(response).until(ofType("complete"))).at(-1)).toBe(41);
});

test("a viewer that went without a word is forgotten, and the others go on", async () => {
  const { session, wrapper } = await runningSession("dead");
  const [gone, viewer] = [await watch(session), await watch(session)];
  await gone.next(isConnected);
  // An abnormal end, as a broken network makes it.
  gone.close(4999, "gone");
  await gone.closed();
  await store(session, wrapper, [idle(1), complete(2)]);
  expect(ids(await viewer.until(ofType("complete")))).toEqual([0, 1, 2]);
  const open = await runInDurableObject(session.object, (_object, state) => state.getWebSockets("stream").length);
  expect(open).toBe(1);
});

test("a log that cannot be read is said in a frame, and the viewer stays for what comes", async () => {
  const { session, wrapper } = await runningSession("unreadable");
  await store(session, wrapper, idle(1));
  await session.rows("ALTER TABLE entity RENAME TO entity_away");
  const viewer = await watch(session);
  expect(await viewer.next()).toEqual({ type: "error", code: "WS_INTERNAL_ERROR", message: "Failed to replay historical events" });
  expect(await viewer.next()).toMatchObject({ streamEventType: "connected" });
  await session.rows("ALTER TABLE entity_away RENAME TO entity");
  await store(session, wrapper, idle(2));
  expect(ids([await viewer.next()])).toEqual([2]);
});

test("an empty log is replayed as nothing, and one huge event is sent whole", async () => {
  const { session } = await runningSession("sizes");
  expect(ids(await (await watch(session)).until(isConnected))).toEqual([0]);
  await runInDurableObject(session.object, (_object, { storage }) => {
    const data = JSON.stringify({ event: "session.idle", text: "x".repeat(MIB + MIB / 2) });
    for (const id of [1, 2]) storage.sql.exec("INSERT INTO log (id, execution, type, at, data) VALUES (?, 'exc', 'kilocode', 0, ?)", id, data);
  });
  const frames = await (await watch(session)).until(isConnected);
  expect(ids(frames)).toEqual([1, 2, 0]);
  expect(frames[1].data.text).toHaveLength(MIB + MIB / 2);
});

test("an update of what was replayed already comes again, in its new place, while the replay goes on", async () => {
  const { session, wrapper } = await runningSession("moving");
  const part = (seq, text) => ({
    streamEventType: "kilocode",
    seq,
    data: { event: "message.part.updated", properties: { part: { id: "prt_1", messageID: "msg_1", text } } },
  });
  const text = "x".repeat(MIB / 4);
  await store(session, wrapper, part(1, "old"));
  for (let seq = 2; seq <= 14; seq += 3) await store(session, wrapper, [idle(seq, { text }), idle(seq + 1, { text }), idle(seq + 2, { text })]);
  const opening = watch(session);
  wrapper.send(part(17, "new"));
  const viewer = await opening;
  await store(session, wrapper, complete(18));
  const frames = (await viewer.until(ofType("complete"))).filter((frame) => frame.eventId > 0);
  expect(ids(frames)).toEqual([...new Set(ids(frames))].sort((a, b) => a - b));
  const parts = frames.filter((frame) => frame.data.event === "message.part.updated").map((frame) => frame.data.properties.part.text);
  expect(parts.at(-1)).toBe("new");
});

test("who comes late to a preparation sees its step, and who comes after its failure sees why", async () => {
  const session = await newSession("late");
  const work = await session.work();
  await session.report(work, 1, "cloning");
  const during = await (await watch(session)).next();
  expect(during).toMatchObject({ streamEventType: "connected", data: { cloudStatus: { type: "preparing", step: "cloning", message: "cloning" } } });
  const ticket = await ticketFor(session);
  await session.report(work, 2, "failed", { type: "failed", code: "WORKSPACE_SETUP_FAILED", message: "no such branch", retryable: false });
  const after = new Socket(await handshake({ cloudAgentSessionId: session.id, ticket }));
  expect(await after.next()).toMatchObject({ data: { cloudStatus: { type: "error", message: "no such branch" } } });
});
