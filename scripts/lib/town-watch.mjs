/**
 * What happens in a town, from its status stream and from polls of its ledger.
 *
 * The stream says that something happened, at once; the ledger says what is true. So a frame that was missed delays a milestone
 * to the next poll, and loses none.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { Failure } from "./failure.mjs";

const POLL_MS = 500;
/** The stream is opened again; a town that is gone is told by the polls. */
const RECONNECT_MS = 500;

export class TownWatch {
  #api;
  #town;
  #rig;
  #show;
  #stop = new AbortController();
  #changed = () => {};
  #seen = new Map();
  #failure;

  /** @type {import("./town-api.mjs").Bead[]} newest first */
  beads = [];
  /** By id. @type {Map<string, {id: string, name: string, role: string, status: string}>} */
  agents = new Map();
  /** Since when the town drains, in milliseconds; undefined if it does not. @type {number | undefined} */
  drainStarted;
  /** What agents said of their work. @type {{agent: string, message: string}[]} */
  said = [];
  /** The container that runs. @type {string | undefined} */
  instance;

  /**
   * @param {import("./town-api.mjs").TownApi} api
   * @param {string} town
   * @param {string} rig
   * @param {(milestone: {event: string} & Record<string, unknown>) => void} show
   */
  constructor(api, town, rig, show) {
    this.#api = api;
    this.#town = town;
    this.#rig = rig;
    this.#show = show;
  }

  /** Begins. */
  start() {
    this.#loop(() => this.#poll(), POLL_MS);
    this.#loop(() => this.#listen(), RECONNECT_MS);
  }

  /** Ends. */
  stop() {
    this.#stop.abort();
  }

  /**
   * Waits until something is so.
   *
   * @template T
   * @param {string} what for the message
   * @param {() => T | undefined | false} condition asked after each change
   * @param {number} timeoutMs
   * @returns {Promise<T>}
   */
  async until(what, condition, timeoutMs) {
    const deadline = Date.now() + timeoutMs;
    for (;;) {
      if (this.#failure) throw this.#failure;
      const value = condition();
      if (value) return value;
      const left = deadline - Date.now();
      if (left <= 0) throw new Failure(`The town took too long (${timeoutMs / 1000} s): ${what}.`, { detail: this.#summary() });
      const change = new Promise((resolve) => (this.#changed = resolve));
      await Promise.race([change, sleep(left, undefined, { ref: false })]);
    }
  }

  #summary() {
    const names = new Map([...this.agents].map(([id, { name }]) => [id, name]));
    return this.beads
      .map(({ title, status, assignee_agent_bead_id: agent, dispatch_attempts: tries }) => `${status.padEnd(12)} ${title} (${names.get(agent) ?? "nobody"}, tried ${tries} times)`)
      .reverse()
      .join("\n");
  }

  async #loop(once, pauseMs) {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      try {
        await once();
      } catch (error) {
        // A restart of the Worker is no failure: whoever waits has a limit.
        if (!(error instanceof TypeError) && error.name !== "TimeoutError") this.#failure ??= error;
      }
      this.#changed();
      await sleep(pauseMs, undefined, { signal }).catch(() => {});
    }
  }

  async #poll() {
    const [beads, agents, container] = await Promise.all([
      this.#api.beads(this.#town, this.#rig),
      this.#api.agents(this.#town, this.#rig),
      this.#api.container(this.#town),
    ]);
    if (this.#stop.signal.aborted) return;
    this.agents = new Map(agents.map((agent) => [agent.id, agent]));
    this.beads = beads.filter(({ type }) => type === "issue" || type === "merge_request");
    for (const bead of this.beads.toReversed()) this.#bead(bead);
    const running = container?.running ? container.instance : undefined;
    if (running && running !== this.instance) this.#show({ event: "container", instance: running, replaces: this.instance });
    this.instance = running ?? this.instance;
  }

  #bead({ bead_id: bead, type, title, status, assignee_agent_bead_id: id, metadata }) {
    const agent = this.agents.get(id)?.name;
    const key = `${status} ${status === "in_progress" ? agent : ""}`;
    if (this.#seen.get(bead) === key) return;
    this.#seen.set(bead, key);
    this.#show({ event: "bead", bead, type, title, status, agent, branch: metadata.branch });
  }

  /** One connection, to its end. */
  #listen() {
    const { url, headers } = this.#api.statusSocket(this.#town);
    const socket = new WebSocket(url, { headers });
    const { signal } = this.#stop;
    const close = () => socket.close();
    signal.addEventListener("abort", close);
    return new Promise((resolve) => {
      socket.addEventListener("message", ({ data }) => this.#frame(JSON.parse(data)));
      socket.addEventListener("close", resolve);
      socket.addEventListener("error", resolve);
    }).finally(() => signal.removeEventListener("abort", close));
  }

  #frame(frame) {
    if (frame.type === "agent_status") this.#status(frame);
    if (frame.alarm) this.#drain(frame);
    this.#changed();
  }

  #status({ agentId, message }) {
    const agent = this.agents.get(agentId)?.name ?? agentId;
    this.said.push({ agent, message });
    this.#show({ event: "agent_status", agent, message });
  }

  #drain({ draining, drainStartedAt }) {
    const started = draining ? Date.parse(drainStartedAt) : undefined;
    if (started === this.drainStarted) return;
    this.#show(draining ? { event: "drain", draining } : { event: "drain", draining: false, ms: Date.now() - this.drainStarted });
    this.drainStarted = started;
  }
}
