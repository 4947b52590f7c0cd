/** Turns of one session, one after the other, and what its log has of each. */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";

import { events } from "../scripts/lib/stream.mjs";
import { until } from "./harness.mjs";

/** From an empty disk to a prompt that was taken, on a busy machine. */
const START_MS = 120_000;
const ENDS = new Set(["complete", "interrupted"]);
const isEnd = ({ streamEventType, data }) => ENDS.has(streamEventType) || (streamEventType === "error" && data.fatal);

/** An event's name: the agent's own, or ours. */
export const kind = ({ streamEventType, data }) => (streamEventType === "kilocode" ? data.event : streamEventType);
/** Whether the agent says `text` in this piece. */
export const says = ({ data }, text) => data?.event === "message.part.delta" && data.properties.delta.includes(text);
/** Whether this tool has just begun. */
export const begins = ({ data }, tool) =>
  data?.event === "message.part.updated" && data.properties.part.tool === tool && data.properties.part.state.status === "running";

export class Turns {
  #holdfast;
  /** @type {string | undefined} made by the first turn */
  sessionId;
  /** @type {string | undefined} the agent's own, if {@link start} made the session */
  kiloSessionId;

  /** @param {ReturnType<import("./harness.mjs").holdfast>} holdfast */
  constructor(holdfast) {
    this.#holdfast = holdfast;
  }

  /**
   * Runs a turn to its end.
   *
   * @param {string} prompt
   * @param {(frame: object) => unknown} [react] to each frame of this turn
   * @param {object} [options] of the message
   * @returns what a viewer saw (`live`), what one gets that comes late (`log`), and what is in that
   */
  async run(prompt, react = () => undefined, options = {}) {
    const { api, gitUrl } = this.#holdfast;
    const turn = { prompt, mode: "code", model: "scripted", autoCommit: true, ...options };
    if (this.sessionId === undefined) {
      ({ cloudAgentSessionId: this.sessionId } = await api.mutate("prepareSession", { ...turn, gitUrl, autoInitiate: true }));
      return this.#follow(undefined, react);
    }
    const { executionId } = await api.mutate("sendMessageV2", { ...turn, cloudAgentSessionId: this.sessionId });
    return this.#follow(executionId, react);
  }

  /** Begins a turn without waiting for its end, and returns its execution. The first makes the session. */
  async start(prompt) {
    const { api, gitUrl } = this.#holdfast;
    const turn = { prompt, mode: "code", model: "scripted" };
    if (this.sessionId === undefined) {
      const made = await api.mutate("prepareSession", { ...turn, gitUrl }, START_MS);
      [this.sessionId, this.kiloSessionId] = [made.cloudAgentSessionId, made.kiloSessionId];
      return (await api.mutate("initiateFromKilocodeSessionV2", { cloudAgentSessionId: this.sessionId }, START_MS)).executionId;
    }
    return (await api.mutate("sendMessageV2", { ...turn, cloudAgentSessionId: this.sessionId }, START_MS)).executionId;
  }

  /** Stops what runs. */
  interrupt() {
    return this.#holdfast.api.mutate("interruptSession", { sessionId: this.sessionId });
  }

  /** What a viewer gets that comes now. An entity that changes between two rounds of the replay comes again. */
  async replayed() {
    const frames = [];
    const stop = new AbortController();
    for await (const frame of events(this.#holdfast.api, this.sessionId, stop.signal)) {
      if (frame.streamEventType === "connected") break;
      frames.push(frame);
    }
    stop.abort();
    const ids = frames.map(({ eventId }) => eventId);
    assert.ok(ids.every((id, n) => id > (ids[n - 1] ?? 0)), "ids do not rise");
    return frames;
  }

  /** The log of a session at rest: every stored event once, in order. */
  async replay() {
    const frames = await this.replayed();
    const keys = frames.map(entityKey).filter(Boolean);
    assert.equal(new Set(keys).size, keys.length, "an entity is in the log twice");
    return frames;
  }

  /** The processes of the session that are no agent server, by their mark. */
  tools() {
    const found = [];
    for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
      try {
        const environment = readFileSync(`/proc/${pid}/environ`, "utf8").split("\0");
        const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
        if (environment.includes(`HOLDFAST_SESSION=${this.sessionId}`) && !args.includes("kilo serve")) found.push(args);
      } catch {
        // it ended meanwhile
      }
    }
    return found;
  }

  async #follow(executionId, react) {
    const live = [];
    const stop = new AbortController();
    for await (const frame of events(this.#holdfast.api, this.sessionId, stop.signal)) {
      if (executionId && frame.executionId !== executionId) continue;
      live.push(frame);
      await react(frame);
      if (isEnd(frame)) break;
    }
    stop.abort();
    return { live, ...(await this.#stored(live.at(-1))) };
  }

  async #stored(last) {
    const of = async () => (await this.replay()).filter(({ executionId }) => executionId === last.executionId);
    // Of an agent that is stopped, the end is said first; what it says of its last words follows. One that was killed says nothing more.
    const isOver = (frame) => kind(frame) === "session.turn.close" || frame.data?.error === "Wrapper restarted";
    const log = await until(`the agent's own turn is over, too, after ${JSON.stringify(last)}`, async () => {
      const log = await of();
      return log.some(isOver) && log;
    });
    return { log, end: log.find(isEnd), texts: texts(log), tools: parts(log).filter(({ type }) => type === "tool"), kinds: log.map(kind) };
  }
}

const parts = (log) => log.filter((frame) => kind(frame) === "message.part.updated").map(({ data }) => data.properties.part);

/** What the agent said; not what it was told. */
function texts(log) {
  const users = new Set(log.filter(({ data }) => data?.properties?.info?.role === "user").map(({ data }) => data.properties.info.id));
  return parts(log).filter(({ type, messageID }) => type === "text" && !users.has(messageID)).map(({ text }) => text.trim());
}

/** The key of what is stored once, in its newest state; nothing for what is stored each time. */
export function entityKey({ data }) {
  const { info, part } = data?.properties ?? {};
  if (data?.event === "message.updated") return `message/${info.id}`;
  return data?.event === "message.part.updated" ? `part/${part.messageID}/${part.id}` : undefined;
}
