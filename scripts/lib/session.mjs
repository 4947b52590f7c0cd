/** One session from the request to the pushed commit, as a front end runs it. */

import { setTimeout as sleep } from "node:timers/promises";

import { remoteCommit } from "./repository.mjs";
import { events } from "./stream.mjs";
import { Turn } from "./turn.mjs";

/** Preparation may take 12 minutes and a turn 30; whatever is not over then is reported as such. */
const SESSION_MS_MAX = 45 * 60_000;
/** Volatile events can be missed: the truth is asked for now and then. */
const POLL_MS = 5_000;
/** Between the end of an execution and the event that says so. */
const EVENT_GRACE_MS = 10_000;

/** How a session ends that nobody heard the end of: only a preparation that failed leaves nothing. */
const GONE = { status: "failed", error: "the session is gone: its preparation failed" };

/**
 * @typedef {object} Outcome
 * @property {string} sessionId
 * @property {string} status of the last execution; `failed` if there was none
 * @property {string} [error]
 * @property {string} [branch]
 * @property {string} [commit] that was made, and that the branch has on the remote
 * @property {Record<string, number>} phases how long each took, in milliseconds
 */

/**
 * Runs a session with one turn.
 *
 * @param {import("./api.mjs").Api} api
 * @param {{gitUrl: string, prompt: string, model: string, setupCommands?: string[]}} work
 * @param {(milestone: import("./turn.mjs").Milestone | {event: "session", sessionId: string, ms: number}) => void} show
 * @returns {Promise<Outcome>}
 */
export async function runSession(api, work, show) {
  const clock = new Clock();
  const { cloudAgentSessionId: sessionId } = await api.mutate("prepareSession", {
    mode: "code",
    autoInitiate: true,
    autoCommit: true,
    ...work,
  });
  show({ event: "session", sessionId, ms: clock.phase("answer") });

  const ending = await follow(api, sessionId, clock, show);
  const session = await api.session(sessionId);
  const status = session?.lastExecution?.status ?? "failed";
  const onRemote = ending.branch && ending.commit && (await remoteCommit(work.gitUrl, ending.branch));
  return {
    sessionId,
    status: ending.status === "completed" ? status : ending.status,
    error: ending.error ?? session?.lastExecution?.error ?? undefined,
    branch: ending.branch,
    commit: onRemote?.startsWith(ending.commit) ? onRemote : undefined,
    phases: clock.finish(),
  };
}

/** Shows what happens until it ends, by an event or by what the session says of itself. */
async function follow(api, sessionId, clock, show) {
  const turn = new Turn();
  const stop = new AbortController();
  let commit;
  const watch = async () => {
    for await (const frame of events(api, sessionId, stop.signal)) {
      for (const milestone of turn.take(frame)) {
        if (milestone.event === "step" && milestone.step === "ready") clock.phase("preparation");
        if (milestone.event === "commit") {
          clock.phase("commit and push");
          commit = milestone.success && !milestone.skipped ? milestone.commit : undefined;
        }
        if (milestone.event === "end") return milestone;
        show(milestone);
      }
      if (frame.streamEventType === "autocommit_started") clock.phase("agent");
    }
    return GONE;
  };
  try {
    return { ...(await Promise.race([watch(), poll(api, sessionId, turn, stop.signal)])), commit };
  } finally {
    stop.abort();
  }
}

async function poll(api, sessionId, turn, signal) {
  const deadline = Date.now() + SESSION_MS_MAX;
  while (Date.now() < deadline) {
    await sleep(POLL_MS, undefined, { signal, ref: true }).catch(() => {});
    if (signal.aborted) return undefined;
    const session = await api.session(sessionId).catch(() => null); // the stream says when the server is gone
    if (session === undefined) return later(GONE);
    const last = session?.lastExecution;
    if (last && !session.execution) return later({ status: last.status, error: last.error ?? undefined, branch: turn.branch });
  }
  return { status: "failed", error: `not over after ${SESSION_MS_MAX / 60_000} minutes` };
}

/** Lets the event that says the same, and more, come first. */
async function later(ending) {
  await sleep(EVENT_GRACE_MS);
  return ending;
}

/** Cuts the time from the start into phases. */
class Clock {
  #started = performance.now();
  #last = this.#started;
  #phases = {};

  /** Ends a phase now, and says how long it took in milliseconds. */
  phase(name) {
    const now = performance.now();
    this.#phases[name] = Math.round(now - this.#last);
    this.#last = now;
    return this.#phases[name];
  }

  /** Every phase, and the total. */
  finish() {
    return { ...this.#phases, total: Math.round(performance.now() - this.#started) };
  }
}
