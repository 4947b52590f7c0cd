// One long life of a session, with every object evicted after every single step: nothing that matters lives in memory.

import { abortAllDurableObjects, env, evictDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";

import { Socket, eventually } from "./socket.mjs";
import { handshake, isConnected, ofType, ticketFor } from "./viewer.mjs";
import { ask, complete, idle, newSession, numbers } from "./wrapper.mjs";

const DONE = { type: "done", branch: "session/test", resume: "fresh" };

const TABLES = ["session", "execution", "work", "log", "entity", "owed", "ticket", "tombstone"];

/** Ends an object's instance, if it has one. */
async function evict(object) {
  await evictDurableObject(object).catch((error) => expect(`${error}`).toContain("not currently running"));
}

/** A session whose every step is followed by the eviction of all objects that had a part in it. */
class Life {
  steps = 0;

  constructor(session) {
    this.session = session;
  }

  /** Takes one step. The alarm outlives the eviction, and a session that lives always has one. */
  async step(act) {
    const result = await act();
    await this.session.evict();
    const { sandboxId } = (await this.session.view()) ?? {};
    const before = await this.session.alarm();
    for (const [binding, name] of [[env.USER, `user:${this.session.user}`], [env.SANDBOX, sandboxId]]) {
      if (name) await evict(binding.get(binding.idFromName(name)));
    }
    await this.session.evict();
    const after = await this.session.alarm();
    expect(after === null, `after step ${this.steps} the alarm was ${before} and is ${after}`).toBe(false);
    this.steps += 1;
    return result;
  }

  /** One frame of the wrapper, acknowledged. */
  send(wrapper, events) {
    const { seq } = [events].flat().at(-1);
    return this.step(async () => {
      wrapper.send(events);
      await wrapper.next((frame) => frame.type === "ack" && frame.seq === seq);
    });
  }

  /** Opens a stream. */
  watch(filters) {
    return this.step(async () => {
      const query = { cloudAgentSessionId: this.session.id, ticket: await ticketFor(this.session), ...filters };
      return new Socket(await handshake(query));
    });
  }

  /** Connects a wrapper, which learns where its log stands. */
  connect(turn, lastSeq) {
    return this.step(async () => {
      const wrapper = new Socket(await this.session.handshake(turn));
      expect(await wrapper.next()).toEqual({ type: "resume", lastSeq });
      return wrapper;
    });
  }

  /** A piece of work is asked for, reported step by step, and done. */
  async work(steps) {
    const work = await this.session.work();
    for (const [index, step] of steps.entries()) await this.step(() => this.session.report(work, index + 1, step));
    return work;
  }
}

const part = (seq, text) => ({
  streamEventType: "kilocode",
  seq,
  data: { event: "message.part.updated", properties: { part: { id: "prt_1", messageID: "msg_1", text } } },
});

const stored = (frames) => frames.filter((frame) => frame.eventId > 0);

test("a whole life, evicted after every step, keeps every acknowledged event once and in order, and leaves nothing", async () => {
  const life = new Life(await newSession("evictions"));
  const { session } = life;

  // Preparation, step by step.
  const preparation = await life.work(["disk_check", "workspace_setup", "cloning", "branch", "kilo_session"]);
  await life.step(() => session.report(preparation, 6, "kilo_server", DONE));
  expect(await session.view()).toMatchObject({ preparedAt: expect.any(Number), execution: { status: "pending" } });
  const start = await life.work(["kilo_server"]);
  let wrapper = await life.connect(start.turn, 0);
  await life.step(() => session.report(start, 2, "kilo_server", DONE));
  expect((await session.view()).execution.status).toBe("running");

  // Events, before and after a viewer comes.
  await life.send(wrapper, [idle(1), part(2, "a")]);
  let viewer = await life.watch();
  const seen = stored(await viewer.until(isConnected));
  await life.send(wrapper, part(3, "ab"));
  await life.send(wrapper, [idle(4), idle(5)]);
  seen.push(...stored(await viewer.until((frame) => frame.data.n === 5)));

  // The viewer goes, and comes back by its cursor.
  await life.step(() => viewer.close());
  await life.send(wrapper, [idle(6), part(7, "abc")]);
  viewer = await life.watch({ fromId: `${seen.at(-1).eventId}` });
  seen.push(...stored(await viewer.until(isConnected)));

  // The wrapper goes, and comes back with what was not acknowledged, and more.
  await life.step(() => wrapper.close(4000, "crash"));
  await eventually(() => session.rows("SELECT disconnected_at FROM execution"), ([row]) => row.disconnected_at !== null);
  wrapper = await life.connect(start.turn, 7);
  await viewer.next(ofType("wrapper_reconnected"));
  await life.send(wrapper, [idle(6), part(7, "abc"), idle(8)]);
  await life.send(wrapper, complete(9));
  seen.push(...stored(await viewer.until(ofType("complete"))));
  expect((await session.view()).lastExecution).toMatchObject({ id: start.turn.executionId, status: "completed" });

  // Every stored event once, in the producer's order; the viewer saw all of it, and each later state of what it had seen.
  expect(await session.rows("SELECT seq FROM log ORDER BY id")).toEqual([1, 4, 5, 6, 8, 9].map((seq) => ({ seq })));
  expect(await session.rows("SELECT seq FROM entity")).toEqual([{ seq: 7 }]);
  const ids = seen.map((frame) => frame.eventId);
  expect(ids).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  expect(numbers(seen.filter((frame) => frame.data.event === "session.idle"))).toEqual([1, 4, 5, 6, 8]);

  // A follow-up. An object that somebody waits for is not evicted, so it is killed: the caller is lost, the turn is not.
  const asked = session.mutate("sendMessageV2", { cloudAgentSessionId: session.id, prompt: "more" }).catch(() => ({ status: 0 }));
  await eventually(() => session.rows("SELECT key FROM owed WHERE key LIKE 'work/%'"), (rows) => rows.length === 1);
  await abortAllDurableObjects();
  expect((await asked).status).not.toBe(200);
  const again = await life.work(["kilo_server"]);
  expect(again.turn).toMatchObject({ prompt: "more" });
  wrapper = await life.connect(again.turn, 0);
  await life.step(() => session.report(again, 2, "kilo_server", DONE));
  await life.send(wrapper, idle(1, { text: "second" }));

  // It is interrupted: nobody runs the container, so nobody else would ever end it.
  await life.step(async () => {
    const answer = await session.mutate("interruptSession", { sessionId: session.id });
    expect(answer.data.success).toBe(true);
    expect(await wrapper.next((frame) => frame.type === "kill")).toBeTruthy();
  });
  expect((await session.view()).lastExecution).toMatchObject({ id: again.turn.executionId, status: "failed" });
  expect((await session.view()).execution).toBe(null);
  const last = await life.watch({ fromId: "9" });
  expect(stored(await last.until(isConnected)).map((frame) => frame.eventId)).toEqual([10, 11]);

  // It is deleted: no row, no alarm, no entry.
  expect((await session.mutate("deleteSession", { sessionId: session.id })).data).toEqual({ success: true });
  await session.evict();
  await session.ring();
  await eventually(() => session.rows("SELECT key FROM owed"), (rows) => rows.length === 0);
  for (const table of TABLES) expect(await session.rows(`SELECT * FROM ${table}`), table).toEqual([]);
  expect(await session.alarm()).toBe(null);
  const listed = await (await ask("/trpc/listSessions", { headers: session.headers })).json();
  expect(listed.result.data.sessions).toEqual([]);
  expect(await session.view()).toBe(undefined);
  expect(life.steps).toBeGreaterThan(25);
}, 120_000);
