/** The HTTP API of towns as a front end, a mayor and an operator use it (spec/town.md 2). */

import { call } from "./api.mjs";
import { sign, userToken } from "./tokens.mjs";

/** A container token is good for 8 h, whatever it says itself (spec/town.md 2.1). */
const TOKEN_SECONDS = 8 * 3600;

/**
 * @typedef {object} Bead
 * @property {string} bead_id
 * @property {string} type
 * @property {"open" | "in_progress" | "in_review" | "closed" | "failed"} status
 * @property {string} title
 * @property {string | null} body
 * @property {string | null} assignee_agent_bead_id
 * @property {number} dispatch_attempts
 * @property {Record<string, any>} metadata
 */

export class TownApi {
  #services;
  #userId;

  /**
   * @param {import("./services.mjs").Services} services that run
   * @param {string} [userId] who owns what is made
   */
  constructor(services, userId = "local-user") {
    this.#services = services;
    this.#userId = userId;
  }

  /** Makes a town, and returns its id. */
  async createTown(name) {
    return (await this.#asUser("POST", `/api/users/${this.#userId}/towns`, { name })).id;
  }

  /**
   * Changes a town's configuration.
   *
   * @param {string} town
   * @param {object} changes
   */
  configure(town, changes) {
    return this.#asUser("PATCH", `/api/towns/${town}/config`, changes);
  }

  /** Adds a repository to a town, and returns the rig's id. */
  async addRig(town, { name, gitUrl, defaultBranch = "main" }) {
    const rig = { town_id: town, name, git_url: gitUrl, default_branch: defaultBranch };
    return (await this.#asUser("POST", `/api/users/${this.#userId}/rigs`, rig)).id;
  }

  /**
   * Hands out a convoy.
   *
   * @param {string} town
   * @param {{rig_id: string, convoy_title: string, tasks: {title: string, body?: string, depends_on?: number[]}[]}} batch
   * @returns {Promise<{convoy: {id: string}, beads: {bead: Bead}[]}>}
   */
  slingBatch(town, batch) {
    return this.#asContainer(town, "POST", `/api/mayor/${town}/tools/sling-batch`, batch);
  }

  /** Hands out one bead. */
  sling(town, task) {
    return this.#asContainer(town, "POST", `/api/mayor/${town}/tools/sling`, task);
  }

  /** Changes a bead. */
  updateBead(town, rig, bead, changes) {
    return this.#asContainer(town, "PATCH", `/api/mayor/${town}/tools/rigs/${rig}/beads/${bead}`, changes);
  }

  /** A convoy with its beads. */
  convoy(town, convoy) {
    return this.#asContainer(town, "GET", `/api/mayor/${town}/tools/convoys/${convoy}`);
  }

  /**
   * The beads of a rig, newest first.
   *
   * @param {string} town
   * @param {string} rig
   * @param {Record<string, string>} [filter]
   * @returns {Promise<Bead[]>}
   */
  beads(town, rig, filter = {}) {
    return this.#asContainer(town, "GET", `/api/towns/${town}/rigs/${rig}/beads?${new URLSearchParams({ limit: "1000", ...filter })}`);
  }

  /** What happened to a bead, newest first. */
  history(town, rig, bead) {
    return this.#asContainer(town, "GET", `/api/towns/${town}/rigs/${rig}/events?${new URLSearchParams({ bead_id: bead, limit: "500" })}`);
  }

  /** The agents of a rig, oldest first. */
  agents(town, rig) {
    return this.#asContainer(town, "GET", `/api/towns/${town}/rigs/${rig}/agents`);
  }

  /** Whether the town drains. */
  drain(town) {
    return this.#asContainer(town, "GET", `/api/towns/${town}/drain-status`);
  }

  /** The town's container on the host; undefined if it never ran. */
  async container(town) {
    return this.#host("GET", `/containers/town-${town}`).catch((error) => {
      if (error.status === 404) return undefined;
      throw error;
    });
  }

  /**
   * Does to the town's container what a platform that evicts it does.
   *
   * @param {string} town
   * @param {"SIGTERM" | "SIGKILL"} signal
   */
  evict(town, signal = "SIGTERM") {
    return this.#host("POST", `/containers/town-${town}/signal`, { signal });
  }

  /** The address of a town's status stream, and the headers that open it. */
  statusSocket(town) {
    const url = new URL(`/api/towns/${town}/status/ws`, this.#services.url.replace(/^http/, "ws"));
    return { url, headers: { authorization: `Bearer ${this.#userToken()}` } };
  }

  #userToken() {
    return userToken(this.#services.secrets.NEXTAUTH_SECRET, this.#userId);
  }

  #asUser(method, path, body) {
    return this.#town(method, path, body, this.#userToken());
  }

  /** As the town's container, or an agent in it, does. */
  #asContainer(town, method, path, body) {
    const iat = Math.floor(Date.now() / 1000);
    const claims = { townId: town, userId: this.#userId, scope: "container", iat, exp: iat + TOKEN_SECONDS };
    return this.#town(method, path, body, sign(this.#services.secrets.GASTOWN_JWT_SECRET, claims));
  }

  async #town(method, path, body, token) {
    const headers = { authorization: `Bearer ${token}` };
    return (await call(this.#services.url + path, { method, headers, body: body && JSON.stringify(body) })).data;
  }

  #host(method, path, body) {
    const headers = { authorization: `Bearer ${this.#services.secrets.HOLDFAST_HOST_TOKEN}` };
    return call(this.#services.hostUrl + path, { method, headers, body: body && JSON.stringify(body) });
  }
}
