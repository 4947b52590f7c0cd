// The rig-scoped routes of a town (spec/town.md 2.3) through the built Worker: work from a bead to its review, with real tokens, and an object that is
// evicted between any two steps.

import { expect, test } from "vitest";

import { agentToken, newTown, refused, send } from "./towns.mjs";

test("work goes from a bead through an agent's hands to its review", async () => {
  const { ok, rig, id, rigId } = await newTown("work-flow");
  const bead = await ok.rig("POST", "/beads", { type: "issue", title: "Fix it", priority: "high", labels: ["x"], metadata: { k: 1 } });
  expect(bead).toMatchObject({ type: "issue", status: "open", rig_id: rigId, priority: "high", labels: ["x"], metadata: { k: 1 } });
  const agent = await ok.rig("POST", "/agents", { role: "polecat", name: "Toast", identity: "toast@home" });
  expect(agent).toMatchObject({ role: "polecat", name: "Toast", status: "idle", current_hook_bead_id: null, rig_id: rigId });
  const own = `/agents/${agent.id}`;
  expect(await ok.rig("POST", `${own}/hook`, { bead_id: bead.bead_id })).toEqual({ hooked: true });
  expect(await ok.rig("GET", own)).toMatchObject({ current_hook_bead_id: bead.bead_id });
  expect(await ok.rig("GET", "/agents?role=polecat")).toMatchObject([{ id: agent.id }]);

  const prime = await ok.rig("GET", `${own}/prime`);
  expect(prime).toMatchObject({ agent: { id: agent.id }, hooked_bead: { bead_id: bead.bead_id }, undelivered_mail: [] });
  expect(await ok.rig("POST", `${own}/status`, { message: "  reading  " })).toEqual({ ok: true });
  expect(await ok.rig("POST", `${own}/checkpoint`, { data: { step: 2 } })).toEqual({ written: true });
  expect(await ok.rig("GET", own)).toMatchObject({ agent_status_message: "reading", checkpoint: { step: 2 } });
  expect(await ok.rig("PATCH", `/beads/${bead.bead_id}/status`, { status: "in_progress", agent_id: agent.id })).toMatchObject({
    status: "in_progress",
  });
  expect(await ok.rig("POST", `${own}/done`, { branch: "gt/toast/1", summary: "Fixed" })).toEqual({ done: true });
  expect(await ok.rig("POST", `${own}/completed`, { status: "completed" })).toEqual({ completed: true });
  const kinds = (await ok.rig("GET", `/events?bead_id=${bead.bead_id}`)).map((event) => event.event_type);
  expect(kinds.at(-1)).toBe("created");
  expect(kinds).toContain("hooked");

  const review = { agent_id: agent.id, bead_id: bead.bead_id, branch: "gt/toast/1" };
  expect(await rig("POST", "/review-queue", review)).toEqual({ status: 201, body: { success: true, data: { submitted: true } } });
  const [entry] = await ok.rig("GET", "/beads?type=merge_request");
  expect(entry).toMatchObject({ title: "Review: gt/toast/1", metadata: { source_bead_id: bead.bead_id } });
  const merged = { status: "merged", message: "done", commit_sha: "abc" };
  expect(await ok.rig("POST", `/review-queue/${entry.bead_id}/complete`, merged)).toEqual({ completed: true });
  expect(await ok.rig("GET", `/beads/${bead.bead_id}`)).toMatchObject({ status: "closed" });
  expect(await ok.rig("GET", `/beads/${bead.bead_id}/why`)).toMatchObject({ reasons: ["terminal"] });

  const other = await agentToken(id, rigId, "somebody-else");
  const as = (token, path, body) => send("POST", `/api/towns/${id}/rigs/${rigId}${path}`, token, body);
  const said = await as(await agentToken(id, rigId, agent.id), `${own}/status`, { message: "with my own token" });
  expect(said).toEqual({ status: 200, body: { success: true, data: { ok: true } } });
  const next = await ok.rig("POST", "/beads", { type: "issue", title: "hooked by its own token" });
  const hooked = await as(await agentToken(id, rigId, agent.id), `${own}/hook`, { bead_id: next.bead_id });
  expect(hooked).toEqual({ status: 200, body: { success: true, data: { hooked: true } } });
  expect(await as(other, "/review-queue", review)).toEqual(refused(403, "agent_id does not match authenticated agent"));
  expect(await as(other, `${own}/done`, { branch: "b" })).toEqual(refused(403, "Token agentId does not match route"));
});

test("agents talk, are nudged, ask for people, and step through molecules", async () => {
  const { ok, rig } = await newTown("work-talk");
  const [one, two] = [await ok.rig("POST", "/agents/get-or-create", { role: "polecat" }), await ok.rig("POST", "/agents", {
    role: "polecat",
    name: "Maple",
    identity: "maple@home",
  })];
  const mail = { from_agent_id: one.id, to_agent_id: two.id, subject: "s", body: "b" };
  expect(await rig("POST", "/mail", mail)).toEqual({ status: 201, body: { success: true, data: { sent: true } } });
  expect(await ok.rig("GET", `/agents/${two.id}/mail`)).toMatchObject([{ from_agent_id: one.id, subject: "s", delivered: false }]);
  expect(await ok.rig("GET", `/agents/${two.id}/mail`)).toEqual([]);
  const identity = { "x-gastown-agent-id": two.id };
  expect(await rig("POST", "/mail", mail, identity)).toEqual(refused(403, "from_agent_id does not match authenticated agent"));

  const nudge = await ok.rig("POST", "/nudge", { target_agent_id: two.id, message: "look" });
  const waiting = { nudge_id: nudge.nudge_id, message: "look", mode: "wait-idle", priority: "normal", source: "agent" };
  expect(await ok.rig("GET", `/agents/${two.id}/pending-nudges`)).toEqual([waiting]);
  expect(await ok.rig("POST", `/agents/${two.id}/nudge-delivered`, { nudge_id: nudge.nudge_id })).toEqual({ marked: true });
  expect(await ok.rig("GET", `/agents/${two.id}/pending-nudges`)).toEqual([]);

  const raised = await rig("POST", "/escalations", { title: "Which port?", priority: "low" }, identity);
  expect(raised).toMatchObject({ status: 201, body: { data: { type: "escalation", created_by: two.id } } });
  const notes = { triage_request_bead_id: raised.body.data.bead_id, action: "RESTART" };
  expect(await rig("POST", "/triage/resolve", notes)).toEqual(refused(401, "Agent authentication required"));
  expect(await rig("POST", "/triage/resolve", notes, identity)).toEqual(
    refused(403, "Only triage agents can resolve triage requests"),
  );

  const bead = await ok.rig("POST", "/beads", { type: "issue", title: "Steps" });
  const formula = { steps: [{ title: "1", instructions: "first" }, { title: "2", instructions: "second" }] };
  expect(await rig("POST", "/molecules", { bead_id: bead.bead_id, formula })).toMatchObject({ status: 201, body: { data: { total_steps: 2 } } });
  await ok.rig("POST", `/agents/${two.id}/hook`, { bead_id: bead.bead_id });
  expect(await ok.rig("GET", `/agents/${two.id}/molecule/current`)).toMatchObject({ step: { title: "1" } });
  expect(await ok.rig("POST", `/agents/${two.id}/molecule/advance`, { summary: "did it" })).toMatchObject({ current_step: 1 });
  expect(await ok.rig("DELETE", `/agents/${two.id}/hook`)).toEqual({ unhooked: true });
  expect(await rig("GET", `/agents/${one.id}/molecule/current`)).toEqual(refused(404, "No active molecule for this agent"));
});

test("a receipt of an eviction is shown on the bead", async () => {
  const { ok } = await newTown("work-receipt");
  const { bead, agent } = await ok.rig("POST", "/sling", { title: "Long work" });
  expect(agent).toMatchObject({ role: "polecat", current_hook_bead_id: bead.bead_id });
  const receipt = { branch: "gt/x", agent_name: "Toast", saved_at: "2026-01-01T00:00:00.000Z", commit: "abc", pushed: false, reason: "no network" };
  expect(await ok.rig("POST", `/agents/${agent.id}/eviction-context`, receipt)).toEqual({ written: true });
  const { body } = await ok.rig("GET", `/beads/${bead.bead_id}`);
  expect(body).toContain("did not reach branch `gt/x` (commit abc)");
  const [event] = (await ok.rig("GET", `/events?bead_id=${bead.bead_id}`)).filter(({ metadata }) => metadata.eviction_receipt);
  expect(event.metadata.eviction_receipt).toEqual(receipt);
  expect(await ok.rig("POST", `/agents/${agent.id}/waiting`, { firedAt: 1 })).toEqual({ acknowledged: true });
});

test("what is not as it should be is refused by name", async () => {
  const { rig, id, ok } = await newTown("work-refused");
  const invalid = (field, message) => ({
    status: 400,
    body: { success: false, error: "Invalid request body", issues: [{ path: field ? [field] : [], message }] },
  });
  expect(await rig("POST", "/beads", "{")).toEqual(invalid("", "Expected a JSON object"));
  expect(await rig("POST", "/beads", { type: "issue" })).toEqual(invalid("title", "Expected a text of at least 1 character"));
  expect(await rig("GET", "/beads?limit=-1")).toEqual(refused(400, "limit and offset must be non-negative integers"));
  expect(await rig("GET", "/beads?status=nope")).toEqual(refused(400, "Invalid status or type filter"));
  expect(await rig("GET", "/agents?status=nope")).toEqual(refused(400, "Invalid role or status filter"));
  for (const [method, path, error] of [
    ["GET", "/beads/nope", "Bead not found"],
    ["DELETE", "/beads/nope", "Bead not found"],
    ["GET", "/agents/nope", "Agent not found"],
    ["DELETE", "/agents/nope", "Agent not found"],
    ["GET", "/agents/nope/prime", "Agent not found"],
  ]) {
    expect(await rig(method, path)).toEqual(refused(404, error));
  }
  const { agent, bead } = await ok.rig("POST", "/sling", { title: "t" });
  const other = await ok.rig("POST", "/beads", { type: "issue", title: "other" });
  const hook = await rig("POST", `/agents/${agent.id}/hook`, { bead_id: other.bead_id });
  expect(hook).toEqual(refused(409, `Agent ${agent.id} is already hooked to ${bead.bead_id}. Unhook first.`));
  const changes = await rig("POST", `/agents/${agent.id}/request-changes`, { feedback: "f" });
  expect(changes).toMatchObject({ status: 409, body: { success: false } });
  expect(await ok.rig("POST", `/beads/${other.bead_id}/close`, { agent_id: agent.id })).toMatchObject({ status: "closed" });
  expect(await ok.rig("DELETE", `/beads/${other.bead_id}`)).toEqual({ deleted: true });
  expect(await ok.rig("DELETE", `/agents/${agent.id}`)).toEqual({ deleted: true });
  expect(await rig("POST", "/agents/nope/hook", { bead_id: "../x" })).toMatchObject({ status: 400, body: { issues: [{ path: ["bead_id"] }] } });
  const elsewhere = await agentToken(id, "another-rig", "");
  expect(await send("GET", `/api/towns/${id}/rigs/r1/beads`, elsewhere)).toEqual(refused(403, "Token rigId does not match route"));
});
