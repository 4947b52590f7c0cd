/** A town of its own on a repository of its own, for tests of evictions: what is handed out, what the ledger says, what the remote holds. */

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { join } from "node:path";

import { follow } from "../scripts/lib/command.mjs";
import { fastLimits } from "../scripts/lib/limits.mjs";
import { readRepository, sampleRepository } from "../scripts/lib/repository.mjs";
import { TownApi } from "../scripts/lib/town-api.mjs";
import { until } from "./harness.mjs";

/** Longer than three starts of the real agent on a busy machine. */
const START_MS = 480_000;
/** Longer than the longest drain with the fast limits, and the start of a replacement. */
const DRAIN_MS = 60_000;

/** The fast limits, for agents that start at once and have nothing to finish: a drain is over in a second. Who is slow on a busy machine is not taken for dead. */
export function playedLimits() {
  const { town, sandbox_town: container, ...others } = fastLimits();
  return {
    ...others,
    town: { ...town, tick_active_ms: 250, orphan_bead_ms: 1_000, drain_handoff_retry_ms: 500 },
    sandbox_town: { ...container, drain_wait_ms: 600 },
  };
}

export class Town {
  /**
   * @param {ReturnType<import("./harness.mjs").holdfast>} it that runs
   * @param {{url: string}} [server] of the folder `remotes`, if agents are not to write there themselves: {@link serveRepositories}
   */
  static async make(it, server) {
    const town = new Town();
    town.api = new TownApi(it.services);
    const name = `${randomUUID()}.git`;
    town.repository = await sampleRepository(join(it.folder, "remotes", name));
    town.gitUrl = server ? `${server.url}/${name}` : town.repository;
    town.id = await town.api.createTown("A town under test");
    await town.api.configure(town.id, { default_model: it.services.model, small_model: it.services.model });
    town.rig = await town.api.addRig(town.id, { name: "rig", gitUrl: town.gitUrl });
    return town;
  }

  /** Hands out one bead, and returns its id. */
  async sling(title, script) {
    const { bead } = await this.api.sling(this.id, { rig_id: this.rig, title, body: script.join("\n") });
    return bead.bead_id;
  }

  /** What the next agent of a bead will do. The one that has it now goes on with what it was given. */
  rewrite(bead, script) {
    return this.api.updateBead(this.id, this.rig, bead, { body: script.join("\n") });
  }

  /** What the ledger says of a bead. */
  async bead(id) {
    return (await this.api.beads(this.id, this.rig)).find(({ bead_id: bead }) => bead === id);
  }

  /** Waits until every one of these beads is closed; a failed one ends the wait. */
  async closed(ids, timeoutMs) {
    await until(
      "the beads are closed",
      async () => {
        const beads = (await this.api.beads(this.id, this.rig)).filter(({ bead_id: bead }) => ids.includes(bead));
        for (const { title, status } of beads) assert.notEqual(status, "failed", title);
        return beads.length === ids.length && beads.every(({ status }) => status === "closed");
      },
      timeoutMs,
    );
  }

  /** Waits until the agent that has the bead has said this of its work. */
  said(bead, message, timeoutMs = START_MS) {
    return until(
      `somebody says "${message}"`,
      async () => {
        const agents = await this.api.agents(this.id, this.rig);
        return agents.find((agent) => agent.current_hook_bead_id === bead && agent.agent_status_message === message);
      },
      timeoutMs,
    );
  }

  /** The branches of the remote whose last part begins a bead's id: those on which its agents worked. */
  branches(bead) {
    const all = readRepository(this.repository, "for-each-ref", "--format=%(refname:short)", "refs/heads").split("\n");
    return all.filter((branch) => bead.startsWith(branch.split("/").at(-1)));
  }

  /** The commit of a branch of the remote. */
  head(branch) {
    return readRepository(this.repository, "rev-parse", `refs/heads/${branch}`);
  }

  /** Whether a commit is part of a branch of the remote. */
  contains(branch, commit) {
    return readRepository(this.repository, "merge-base", "--is-ancestor", commit, `refs/heads/${branch}`) !== undefined;
  }

  /** A file of a branch of the remote. */
  file(branch, path) {
    return readRepository(this.repository, "show", `${branch}:${path}`);
  }

  /** A file of the branch on which a bead is worked. */
  saved(bead, path) {
    const [branch] = this.branches(bead);
    return branch && this.file(branch, path);
  }

  /** Whether the remote is whole. */
  async isSound() {
    return (await follow("git", ["--git-dir", new URL(this.repository).pathname, "fsck", "--strict", "--no-dangling"], { cwd: "/" })).code === 0;
  }

  /** The container that runs now. */
  async instance() {
    const container = await this.api.container(this.id);
    return container?.running ? container.instance : undefined;
  }

  /** Waits until another container runs than this one, and nothing drains. */
  replaced(instance) {
    return until(
      "a replacement runs",
      async () => {
        const now = await this.instance();
        return now && now !== instance && !(await this.api.drain(this.id)).draining && now;
      },
      DRAIN_MS,
    );
  }
}
