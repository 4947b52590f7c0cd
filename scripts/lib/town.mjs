/** A town's first convoy, from sling to merge, with an eviction of the container in the middle: what `npm start -- --town` shows. */

import { readRepository } from "./repository.mjs";
import { FILES, HALF_WAY, TASKS } from "./town-tasks.mjs";
import { TownWatch } from "./town-watch.mjs";

/** From the sling to the moment in which the eviction is interesting: a clone, and two agents that start. Some seconds; on a busy machine, minutes. */
const HALF_WAY_MS = 240_000;
/** Longer than the longest drain with the fast limits, and a start. */
const DRAIN_MS = 60_000;
/** Five agents that start one after the other. */
const REST_MS = 480_000;
const TITLE = "A first convoy";

/**
 * Runs it.
 *
 * @param {import("./town-api.mjs").TownApi} api
 * @param {{gitUrl: string, model: string}} work
 * @param {(milestone: {event: string} & Record<string, unknown>) => void} show
 * @returns {Promise<{status: "completed" | "failed", beads: number, landed: boolean, files: string[], missing: string[], times: Record<string, number>}>}
 */
export async function runTown(api, { gitUrl, model }, show) {
  const started = performance.now();
  const since = () => Math.round(performance.now() - started);
  const times = {};
  const town = await api.createTown("A first town");
  await api.configure(town, { default_model: model, small_model: model });
  const rig = await api.addRig(town, { name: "sample", gitUrl });
  show({ event: "town", town, rig, gitUrl });

  const watch = new TownWatch(api, town, rig, show);
  watch.start();
  try {
    const batch = { rig_id: rig, convoy_title: TITLE, tasks: TASKS, merge_mode: "review-and-merge", parallel: true };
    const { convoy, beads } = await api.slingBatch(town, batch);
    show({ event: "convoy", convoy: convoy.id, title: TITLE, beads: beads.length });

    await watch.until("no agent is half way", () => watch.said.some(({ message }) => message === HALF_WAY), HALF_WAY_MS);
    times["half way"] = since();
    await evict(api, town, watch, show);
    times.replaced = since();
    for (const { bead } of beads) await showReceipts(api, town, rig, bead, show);

    const issues = () => watch.beads.filter(({ type }) => type === "issue");
    const ended = ({ status }) => status === "closed" || status === "failed";
    await watch.until("not every bead is over", () => issues().length >= beads.length && issues().every(ended), REST_MS);
    const landed = await land(api, town, convoy.id, watch);
    times.total = since();

    const missing = Object.keys(FILES).filter((path) => readRepository(gitUrl, "show", `main:${path}`) !== FILES[path]);
    const failed = issues().filter(({ status }) => status !== "closed");
    const files = Object.keys(FILES).filter((path) => !missing.includes(path));
    const status = landed && missing.length === 0 && failed.length === 0 ? "completed" : "failed";
    return { status, beads: issues().length - failed.length, landed, files, missing, times };
  } finally {
    watch.stop();
  }
}

/** Takes the container away, as a platform does, and waits until another one is at work. */
async function evict(api, town, watch, show) {
  const before = watch.instance;
  show({ event: "eviction", instance: before });
  await api.evict(town);
  await watch.until("the town does not drain", () => watch.drainStarted !== undefined, DRAIN_MS);
  await watch.until("the drain does not end", () => watch.drainStarted === undefined, DRAIN_MS);
  await watch.until("there is no replacement", () => watch.instance !== before, DRAIN_MS);
}

/** Where the work of the agents went that were taken away: the container's receipts, as the ledger keeps them. */
async function showReceipts(api, town, rig, { bead_id: bead, title }, show) {
  const history = await api.history(town, rig, bead);
  for (const { agent_name: agent, branch, commit, pushed, reason } of history.map(({ metadata }) => metadata.eviction_receipt).filter(Boolean)) {
    show({ event: "receipt", bead, title, agent, branch, commit, pushed, reason });
  }
}

/** Whether the convoy lands: a tick after its last bead. */
async function land(api, town, convoy, watch) {
  let status;
  const ask = async () => {
    status = (await api.convoy(town, convoy)).status;
  };
  await ask();
  const asking = setInterval(() => ask().catch(() => {}), 500);
  try {
    await watch.until("the convoy does not land", () => status === "landed", DRAIN_MS);
    return true;
  } finally {
    clearInterval(asking);
  }
}
