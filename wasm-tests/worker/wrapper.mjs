/**
 * A session of the built Worker, and its container's side as `sandboxd` plays it: the work that is asked for, its progress, the ingest socket.
 *
 * No container host listens in these tests, so the work is read where it is owed: in the object's own row. The object is evicted after each
 * step; its sockets hibernate.
 */

import { env, evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";

import { ANSWER_MS, Socket, eventually } from "./socket.mjs";
import { headersOf } from "./tokens.mjs";

/** A debt that is retried later than this from now is being tried: the pause after a failure is shorter, at first. A callback's is known exactly. */
const TRY_MS = 9_000;

const DONE = { type: "done", branch: "session/test", resume: "fresh" };

/** Calls the Worker. A URL that the Worker made itself counts by its path and query. */
export function ask(url, init) {
  const { pathname, search } = new URL(url, "http://worker");
  return exports.default.fetch(`http://worker${pathname}${search}`, { signal: AbortSignal.timeout(ANSWER_MS), ...init });
}

/** An answer's status and text: all that a refused handshake says. */
export async function refusal(response) {
  const { status } = await response;
  return [status, await (await response).text()];
}

/** A new session of a user of its own, whose first turn is to begin by itself. */
export async function newSession(name, fields) {
  const user = `oauth/${name}:1`;
  const headers = await headersOf(user);
  const input = { prompt: "go", mode: "code", model: "scripted", gitUrl: "file:///nowhere.git", autoInitiate: true, ...fields };
  const response = await ask("/trpc/prepareSession", { method: "POST", headers, body: JSON.stringify(input) });
  const { cloudAgentSessionId } = (await response.json()).result.data;
  const session = new Session(user, headers, cloudAgentSessionId);
  await session.evict();
  return session;
}

/** A session whose first turn runs, with its wrapper connected. */
export async function runningSession(name, fields) {
  const session = await newSession(name, fields);
  await session.report(await session.work(), 1, "kilo_server", DONE);
  const start = await session.work();
  const wrapper = await session.connect(start.turn);
  const resume = await wrapper.next();
  if (resume.type !== "resume" || resume.lastSeq !== 0) throw new Error(`not a new log: ${JSON.stringify(resume)}`);
  await session.report(start, 1, "kilo_server", DONE);
  return { session, wrapper, turn: start.turn, report: start.report, snapshot: start.snapshot };
}

class Session {
  constructor(user, headers, id) {
    this.user = user;
    this.headers = headers;
    this.id = id;
  }

  /** A new stub each time: one that has seen its object crash is broken. */
  get object() {
    return env.CLOUD_AGENT_SESSION.get(env.CLOUD_AGENT_SESSION.idFromName(`${this.user}:${this.id}`));
  }

  /**
   * Ends the object's instance. Its tables and its sockets remain.
   *
   * A try that is under way comes to its end first: cut short, it would leave a promise to the platform that nobody keeps, for which the
   * test runner waits half a minute.
   */
  async evict() {
    const pause = "CASE WHEN key LIKE 'callback/%' THEN 60000 << (attempt - 1) ELSE 0 END";
    const underWay = `SELECT key FROM owed WHERE dead IS NULL AND attempt > 0 AND retry_at > ${Date.now() + TRY_MS} + ${pause}`;
    await eventually(() => this.rows(underWay), (rows) => rows.length === 0);
    await evictDurableObject(this.object, { webSockets: "hibernate" });
  }

  /** Rows of the object's database. */
  rows(sql) {
    return runInDurableObject(this.object, (_object, state) => state.storage.sql.exec(sql).toArray());
  }

  /** When the object's alarm rings; null if it is not set. */
  alarm() {
    return runInDurableObject(this.object, (_object, state) => state.storage.getAlarm());
  }

  /** Rings the alarm as the platform would. False: none was set. */
  async ring() {
    const rang = await runDurableObjectAlarm(this.object);
    await this.evict();
    return rang;
  }

  /** The work that the session asks its container for, as it asks the first time. */
  async work() {
    const [owed] = await this.rows("SELECT effect FROM owed WHERE key LIKE 'work/%'");
    const { work } = JSON.parse(owed.effect).work;
    if (work.turn) work.turn.ingestUrl += "&generation=1";
    return work;
  }

  /** Reports progress, as often and as late as a container may. */
  async report(work, n, step, outcome) {
    const response = await ask(work.report.url, {
      method: "POST",
      headers: { authorization: `Bearer ${work.report.token}`, "content-type": "application/json" },
      body: JSON.stringify({ attempt: work.attempt, n, step, message: step, outcome }),
    });
    if (response.status !== 200) throw new Error(`the report was refused: ${await response.text()}`);
    await this.evict();
  }

  /** Shakes hands for the ingest socket with what the job says, unless `changes` says otherwise. */
  handshake(turn, { url = turn.ingestUrl, ...headers } = {}) {
    return ask(url, { headers: { upgrade: "websocket", authorization: `Bearer ${turn.ingestSecret}`, ...headers } });
  }

  /** Connects a wrapper. */
  async connect(turn, changes) {
    const socket = new Socket(await this.handshake(turn, changes));
    await this.evict();
    return socket;
  }

  /** Calls a mutation as the session's owner: its status and its data, or its error. */
  async mutate(procedure, input) {
    const response = await ask(`/trpc/${procedure}`, { method: "POST", headers: this.headers, body: JSON.stringify(input) });
    const { result, error } = await response.json();
    return { status: response.status, data: result?.data, error };
  }

  /** `getSession`; undefined if there is none. */
  async view() {
    const input = encodeURIComponent(JSON.stringify({ cloudAgentSessionId: this.id }));
    const response = await ask(`/trpc/getSession?input=${input}`, { headers: this.headers });
    return (await response.json()).result?.data;
  }
}

/** A stored event: a row of the log. */
export function idle(seq, data) {
  return { streamEventType: "kilocode", seq, data: { event: "session.idle", n: seq, ...data } };
}

/** Its number, in the order of `seq`: what `idle` made, as it is stored or streamed. */
export function numbers(events) {
  return events.map(({ data }) => (typeof data === "string" ? JSON.parse(data) : data).n);
}

export const complete = (seq) => ({ streamEventType: "complete", seq, data: { exitCode: 0 } });
