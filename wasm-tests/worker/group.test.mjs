// Group commit: frames that come while the object is busy are one transaction, and no frame knows of it.

import { expect, test } from "vitest";

import { eventually } from "./socket.mjs";
import { ofType, watch } from "./viewer.mjs";
import { complete, idle, numbers, runningSession } from "./wrapper.mjs";

const part = (seq) => ({
  streamEventType: "kilocode",
  seq,
  data: { event: "message.part.updated", properties: { part: { id: "prt_1", messageID: "msg_1" } } },
});
const isAck = ({ type }) => type === "ack";
const stored = async (session) => (await session.rows("SELECT COUNT(*) AS n FROM log"))[0].n;

test("each frame of a burst is acknowledged, in order, and every viewer gets its event", async () => {
  const { session, wrapper } = await runningSession("burst");
  const viewer = await watch(session);
  for (let seq = 1; seq <= 600; seq += 1) wrapper.send(idle(seq));
  for (let seq = 1; seq <= 600; seq += 1) expect(await wrapper.next(isAck)).toEqual({ type: "ack", seq });
  const frames = await viewer.until(({ data }) => data.n === 600);
  const events = frames.filter(ofType("kilocode"));
  expect(numbers(events)).toEqual(Array.from({ length: 600 }, (_, index) => index + 1));
  expect(events.map(({ eventId }) => eventId)).toEqual(events.map(({ eventId }) => eventId).toSorted((a, b) => a - b));
});

test("what a wrapper sends right before it closes is stored before it counts as gone", async () => {
  const { session, wrapper } = await runningSession("parting");
  for (let seq = 1; seq <= 40; seq += 1) wrapper.send(idle(seq));
  wrapper.send(complete(41));
  wrapper.close();
  await eventually(() => stored(session), (n) => n === 41);
  expect((await session.view()).lastExecution.status).toBe("completed");
});

test("a frame that cannot be stored closes its socket; what came before it in the group is kept", async () => {
  const { session, wrapper, turn } = await runningSession("poison");
  await session.rows("CREATE TRIGGER poison BEFORE INSERT ON entity BEGIN SELECT RAISE(ABORT, 'poison'); END");
  for (const event of [idle(1), idle(2), idle(3), part(4), idle(5)]) wrapper.send(event);
  expect((await wrapper.closed()).code).toBe(1011);
  expect(wrapper.frames.filter(({ type }) => type === "ack").map(({ seq }) => seq)).toEqual([1, 2, 3]);
  await session.rows("DROP TRIGGER poison");

  const again = await session.connect(turn);
  expect(await again.next()).toEqual({ type: "resume", lastSeq: 3 });
  again.send([part(4), idle(5)]);
  expect(await again.next()).toEqual({ type: "ack", seq: 5 });
});

test("a frame that is too large is refused unread, and costs the others nothing", async () => {
  const { wrapper } = await runningSession("large");
  wrapper.send({ streamEventType: "output", data: "x".repeat(1024 * 1024) });
  wrapper.send(idle(1));
  expect(await wrapper.next()).toMatchObject({ type: "error", code: "WS_PROTOCOL_ERROR" });
  expect(await wrapper.next()).toEqual({ type: "ack", seq: 1 });
});

test("batch=1 gets live events in arrays, and no viewer misses one", async () => {
  const { session, wrapper } = await runningSession("arrays");
  const [plain, batched] = [await watch(session), await watch(session, { batch: "1" })];
  const isLast = (event) => event.data?.n === 200;
  for (let seq = 1; seq <= 200; seq += 1) wrapper.send(idle(seq));
  const one = (await plain.until(isLast)).filter(ofType("kilocode"));
  const frames = await batched.until((frame) => Array.isArray(frame) && frame.some(isLast));
  const many = frames.filter(Array.isArray).flat().filter(ofType("kilocode"));
  expect(many).toEqual(one);
});
