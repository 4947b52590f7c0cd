// Every tool of a town's agents (spec/town.md 7), called by the real agent through MCP and answered by the real Worker.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";

import { call } from "../scripts/lib/api.mjs";
import { fastLimits } from "../scripts/lib/limits.mjs";
import { sign, userToken } from "../scripts/lib/tokens.mjs";
import { tool } from "../scripts/lib/town-tasks.mjs";
import { holdfast, until } from "./harness.mjs";
import { Town } from "./towns.mjs";

/** Agents stay until they are spoken to. */
const limits = fastLimits();
limits.sandbox_town.idle_ms = limits.sandbox_town.refinery_idle_ms = 600_000;

const it = holdfast("town-tools", {}, { limits });

/** A start of the real agent, and a handful of tool calls, on a busy machine. */
const PATIENCE_MS = 240_000;
const HELD = "gt:held";

let town;
/** Who worked last, to be sent home before the next: an agent server is 0.8 GB. */
let working;

const bearer = (token) => ({ authorization: `Bearer ${token}` });

async function ask(token, method, path, body) {
  const answer = await call(it.services.url + path, { method, headers: bearer(token), body: body && JSON.stringify(body) });
  return answer.data ?? answer;
}

const asUser = (method, path, body) =>
  ask(userToken(it.services.secrets.NEXTAUTH_SECRET, "local-user"), method, `/api/towns/${town.id}/${path}`, body);

/** As the town's container. */
function asContainer(method, path, body) {
  const iat = Math.floor(Date.now() / 1000);
  const claims = { townId: town.id, userId: "local-user", scope: "container", iat, exp: iat + 3600 };
  return ask(sign(it.services.secrets.GASTOWN_JWT_SECRET, claims), method, `/api/${path}`, body);
}

const ofRig = (method, path, body) => asContainer(method, `towns/${town.id}/rigs/${town.rig}/${path}`, body);

/** A bead that nobody is sent to. */
const heldBead = async (title) => (await ofRig("POST", "beads", { type: "issue", title, labels: [HELD] })).bead_id;

const agents = () => town.api.agents(town.id, town.rig);

/** Waits until an agent that fits has said its first word. */
async function atWork(what, fits) {
  const agent = await until(`${what} is at work`, async () => (await agents()).find((agent) => agent.current_hook_bead_id && fits(agent)), PATIENCE_MS);
  await idle(town.rig, agent.id);
  return agent;
}

/** What an agent did after an event of it. */
const events = (rig, agent, since) =>
  asContainer("GET", `towns/${town.id}/rigs/${rig}/agents/${agent}/events?after_id=${since}&limit=500`);

/** Waits until what an agent did since is enough; events may come in another order than they happened. */
async function heard(what, rig, agent, since, isEnough) {
  const all = [];
  await until(`agent ${agent} ${what}`, async () => {
    const news = await events(rig, agent, all.at(-1)?.id ?? since);
    all.push(...news);
    return isEnough(all);
  }, PATIENCE_MS);
  return all;
}

/** Waits until an agent has ended its first turn. */
const idle = (rig, agent) =>
  heard("rests", rig, agent, 0, (all) => all.some(({ event_type: type }) => type === "session.idle"));

/** The tool calls that have ended, in the order in which they began. */
function endedCalls(all) {
  const parts = all.map(({ data }) => data?.part).filter((part) => part?.type === "tool");
  const ended = parts.filter(({ state }) => state.status === "completed" || state.status === "error");
  const byCall = new Map(ended.map((part) => [part.callID, part]));
  return [...byCall.values()].toSorted((one, other) => one.state.time.start - other.state.time.start);
}

/**
 * Has an agent call tools, in this order.
 *
 * @param {string} agent
 * @param {[string, object][]} calls
 * @param {string} [rig]
 * @returns {Promise<any[]>} what each of them said
 */
async function use(agent, calls, rig = town.rig) {
  let since = 0;
  for (let news = [{}]; news.length > 0; since = news.at(-1)?.id ?? since) news = await events(rig, agent, since);
  const prompt = calls.map(([name, args]) => tool(name, args)).join("\n");
  await asUser("POST", `container/agents/${agent}/message`, { prompt });
  const all = await heard("has called its tools", rig, agent, since, (all) => endedCalls(all).length >= calls.length);
  const ended = endedCalls(all);
  assert.deepEqual(ended.map((part) => part.tool), calls.map(([name]) => name));
  return ended.map(({ tool: name, state }) => {
    assert.equal(state.status, "completed", `${name}: ${state.error}`);
    try {
      return JSON.parse(state.output);
    } catch {
      return state.output;
    }
  });
}

describe("the tools of a town's agents", { timeout: 1_800_000 }, () => {
  before(async () => (town = await Town.make(it)));

  test("a polecat reads, talks, follows its steps and is done", async () => {
    const bead = await town.sling("Use the tools", ["Wait until you are told what to do."]);
    const me = await atWork("a polecat", (agent) => agent.current_hook_bead_id === bead);
    const other = await ofRig("POST", "agents", { role: "polecat", name: "Other", identity: "other" });
    const spare = await heldBead("Spare");
    const steps = ["One", "Two"].map((title) => ({ title, instructions: `Do ${title}.` }));
    await ofRig("POST", "molecules", { bead_id: bead, formula: { steps } });

    const [prime, read, said, mailed, mail, nudged, escalated, left, step, next, ended, none, closed] = await use(me.id, [
      ["gt_prime", {}],
      ["gt_bead_status", { bead_id: spare }],
      ["gt_status", { message: "Trying every tool" }],
      ["gt_mail_send", { to_agent_id: other.id, subject: "Hello", body: "There" }],
      ["gt_mail_check", {}],
      ["gt_nudge", { target_agent_id: other.id, message: "Wake up", mode: "queue" }],
      ["gt_escalate", { title: "What now?", body: "Tell me.", priority: "low", metadata: { a: 1 } }],
      ["gt_checkpoint", { data: '{"half":true}' }],
      ["gt_mol_current", {}],
      ["gt_mol_advance", { summary: "Did one" }],
      ["gt_mol_advance", { summary: "Did two" }],
      ["gt_mol_current", {}],
      ["gt_bead_close", { bead_id: spare }],
    ]);
    assert.deepEqual([prime.agent.id, prime.hooked_bead.bead_id], [me.id, bead]);
    assert.equal(read.title, "Spare");
    assert.deepEqual([said, mailed, mail], [{ ok: true }, { sent: true }, []]);
    assert.ok(nudged.nudge_id && escalated.bead_id && left.written, JSON.stringify([nudged, escalated, left]));
    assert.deepEqual([step.step.title, next.current_step, next.status, ended.status], ["One", 1, "active", "completed"]);
    assert.match(none, /no molecule/);
    assert.equal(closed.status, "closed");

    const seen = (await agents()).find(({ id }) => id === me.id);
    assert.deepEqual([seen.agent_status_message, seen.checkpoint], ["Trying every tool", { half: true }]);
    assert.deepEqual((await ofRig("GET", `agents/${other.id}/mail`)).map(({ subject, from_agent_id: from }) => [subject, from]), [["Hello", me.id]]);
    assert.deepEqual((await ofRig("GET", `agents/${other.id}/pending-nudges`)).map(({ message }) => message), ["Wake up"]);

    const pushed = "git commit -q --allow-empty -m Work && git push -q --set-upstream origin HEAD";
    const [, done] = await use(me.id, [["bash", { command: pushed, description: "push" }], ["gt_done", { summary: "It is empty." }]]);
    assert.deepEqual(done, { done: true });
    await until("the bead is in review", async () => (await town.bead(bead)).status === "in_review");
    working = me.id;
  });

  test("a refinery sends work back", async () => {
    const refinery = await atWork("the refinery", ({ role }) => role === "refinery");
    await asUser("POST", `container/agents/${working}/stop`, {});
    const [sent] = await use(refinery.id, [["gt_request_changes", { feedback: "Say more.", files: ["README.md"] }]]);
    assert.equal((await town.bead(sent.rework_bead_id)).type, "issue");
    await asUser("POST", `container/agents/${refinery.id}/stop`, {});
  });

  test("a triage agent decides", async () => {
    const beads = () => town.api.beads(town.id, town.rig);
    const labelled = async (label) => (await beads()).find(({ labels }) => labels.includes(label));
    const batch = await until("a triage batch is handed out", () => labelled("gt:triage"), PATIENCE_MS);
    const agent = await atWork("the triage agent", ({ current_hook_bead_id: hook }) => hook === batch.bead_id);
    const request = await labelled("gt:triage-request");
    const decision = { triage_request_bead_id: request.bead_id, action: "PROVIDE_GUIDANCE", resolution_notes: "Go on." };
    await use(agent.id, [["gt_triage_resolve", decision]]);
    assert.equal((await town.bead(request.bead_id)).status, "closed");
    await asUser("POST", `container/agents/${agent.id}/stop`, {});
  });

  test("the mayor hands out, looks after, changes and deletes", async () => {
    const rig_id = town.rig;
    const staged = (title) => ({ rig_id, convoy_title: title, tasks: [{ title: `${title} 1` }, { title: `${title} 2`, depends_on: [0] }], staged: true });
    const [first, second] = [await town.api.slingBatch(town.id, staged("First")), await town.api.slingBatch(town.id, staged("Second"))];
    const ids = ["Changed", "Deleted 1", "Deleted 2", "Added", "Given"];
    const [changed, deleted, too, added, given] = await Promise.all(ids.map(heldBead));
    const [one, two] = await Promise.all(["One", "Two"].map((name) => ofRig("POST", "agents", { role: "polecat", name, identity: name })));
    await ofRig("POST", `agents/${one.id}/hook`, { bead_id: given });
    const [escalation] = await asUser("GET", "escalations");

    const { agentId: mayor } = await asUser("POST", "mayor/message", { message: "Wait until you are told what to do." });
    const home = `mayor-${town.id}`;
    await idle(home, mayor);
    const convoy_id = first.convoy.id;
    const said = await use(mayor, [
      ["gt_list_rigs", {}],
      ["gt_list_beads", { rig_id, status: "open", type: "issue", limit: 3 }],
      ["gt_list_agents", { rig_id }],
      ["gt_list_convoys", {}],
      ["gt_convoy_status", { convoy_id }],
      ["gt_convoy_update", { convoy_id, merge_mode: "review-and-merge" }],
      ["gt_convoy_add_bead", { convoy_id, bead_id: added }],
      ["gt_convoy_remove_bead", { convoy_id, bead_id: added }],
      ["gt_convoy_close", { convoy_id }],
      ["gt_mail_send", { rig_id, to_agent_id: two.id, subject: "Order", body: "Do it." }],
      ["gt_nudge", { rig_id, target_agent_id: two.id, message: "Now", mode: "queue" }],
      ["gt_bead_update", { rig_id, bead_id: changed, title: "As it should be", priority: "high", metadata: { a: 1 } }],
      ["gt_bead_reassign", { rig_id, bead_id: given, agent_id: two.id }],
      ["gt_bead_delete", { rig_id, bead_ids: [deleted, too] }],
      ["gt_agent_reset", { rig_id, agent_id: one.id }],
      ["gt_escalation_acknowledge", { escalation_id: escalation.id ?? escalation.bead_id }],
      ["gt_ui_action", { action_json: '{"type":"navigate","page":"beads"}' }],
      ["gt_sling", { rig_id, title: "Handed out", labels: [HELD] }],
      ["gt_sling_batch", { rig_id, convoy_title: "Third", tasks: [{ title: "Only" }], staged: true }],
      ["gt_convoy_start", { convoy_id: second.convoy.id }],
    ], home);
    const of = Object.fromEntries(said.map((answer, at) => [at, answer]));
    assert.deepEqual(of[0].map(({ id }) => id), [town.rig]);
    assert.equal(of[1].length, 3);
    assert.ok(of[2].some(({ id }) => id === two.id) && of[3].length > 0);
    assert.deepEqual([of[4].id, of[5].merge_mode], [convoy_id, "review-and-merge"]);
    assert.deepEqual([of[6].total_beads, of[7].total_beads], [3, 2]);
    assert.deepEqual([of[9], of[14], of[16]], [{ sent: true }, { reset: true }, { broadcast: true }]);
    assert.deepEqual([of[11].title, of[11].priority], ["As it should be", "high"]);
    assert.deepEqual(of[13], { deleted: 2 });
    assert.equal(of[15].status, "closed");
    assert.equal(of[17].bead.title, "Handed out");
    assert.equal(of[18].beads.length, 1);

    assert.equal((await agents()).find(({ id }) => id === two.id).current_hook_bead_id, given);
    assert.equal(await town.bead(deleted), undefined);
    assert.equal((await ofRig("GET", `agents/${two.id}/mail`))[0].subject, "Order");
  });
});
