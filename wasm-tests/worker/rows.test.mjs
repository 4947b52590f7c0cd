// Rows are money: what a session writes for its events, counted by SQLite itself in the object's own database.

import { expect, test } from "vitest";

import { complete, idle, runningSession } from "./wrapper.mjs";

const EVENTS = 1_000;
const BATCH = 100;

/** Beside its event, at most one row per batch; in truth the stamp of the last activity, which is written twice a minute. */
const OTHER_ROWS_MAX = 3;

/** Every row that this instance of the object has changed since it opened its database: those of its alarm too. */
async function rowsWritten(session) {
  const [{ rows }] = await session.rows("SELECT total_changes() AS rows");
  return rows;
}

/** The rows that `EVENTS` events cost which `eventOf` makes of their numbers. */
async function costOf(session, wrapper, first, eventOf) {
  const before = await rowsWritten(session);
  for (let seq = first; seq < first + EVENTS; seq += BATCH) {
    wrapper.send(Array.from({ length: BATCH }, (_, index) => eventOf(seq + index)));
    expect(await wrapper.next()).toEqual({ type: "ack", seq: seq + BATCH - 1 });
  }
  return (await rowsWritten(session)) - before;
}

test("1,000 stored events cost 1,000 rows and next to nothing beside them", async () => {
  const { session, wrapper } = await runningSession("rows");
  const part = (seq) => ({
    streamEventType: "kilocode",
    seq,
    data: { event: "message.part.updated", properties: { part: { id: `prt_${seq % 7}`, messageID: "msg_1", text: "x".repeat(seq) } } },
  });
  const counts = () => session.rows("SELECT (SELECT COUNT(*) FROM log) AS log, (SELECT COUNT(*) FROM entity) AS entity");

  for (const [first, eventOf, stored] of [
    [1, (seq) => idle(seq), { log: EVENTS, entity: 0 }],
    [EVENTS + 1, part, { log: EVENTS, entity: 7 }],
  ]) {
    const cost = await costOf(session, wrapper, first, eventOf);
    expect(cost).toBeGreaterThanOrEqual(EVENTS);
    expect(cost).toBeLessThanOrEqual(EVENTS + OTHER_ROWS_MAX);
    expect(await counts()).toEqual([stored]);
    await session.evict();
  }
});

test("what is known already, what is volatile and what is looked at costs nothing", async () => {
  const { session, wrapper } = await runningSession("free");
  wrapper.send(idle(1));
  await wrapper.next();
  const before = await rowsWritten(session);
  expect(before).toBeGreaterThan(0);
  for (let n = 0; n < 50; n += 1) {
    wrapper.send({ streamEventType: "heartbeat", data: {} });
    wrapper.send({ streamEventType: "kilocode", data: { event: "message.part.delta", properties: {} } });
    wrapper.send(idle(1));
    expect(await wrapper.next()).toEqual({ type: "ack", seq: 1 });
  }
  await session.view();
  expect(await rowsWritten(session)).toBe(before);
  wrapper.send(complete(2));
  await wrapper.next();
  expect(await rowsWritten(session)).toBeGreaterThan(before);
});
