// The mayor's tools (spec/town.md 2.6) through the built Worker.

import { expect, test } from "vitest";

import { agentToken, newTown, refused, send } from "./towns.mjs";

test("the mayor slings convoys, starts, changes and closes them", async () => {
  const { ok, tool, rigId } = await newTown("tools-convoys");
  expect(await ok.tool("GET", "/rigs")).toMatchObject([{ id: rigId, name: "app", default_branch: "main" }]);
  const tasks = [{ title: "one" }, { title: "two", depends_on: [0] }];
  const batch = { rig_id: rigId, convoy_title: "Two steps", tasks, staged: true };
  const slung = await tool("POST", "/sling-batch", batch);
  expect(slung.status).toBe(201);
  const { convoy, beads } = slung.body.data;
  expect(beads.map(({ bead, agent }) => [bead.title, agent])).toEqual([["one", null], ["two", null]]);
  expect(convoy).toMatchObject({ title: "Two steps", staged: true, total_beads: 2, merge_mode: "review-then-land" });
  const [first, second] = beads.map(({ bead }) => bead.bead_id);
  const path = `/convoys/${convoy.id}`;
  expect(await ok.tool("GET", path)).toMatchObject({ dependency_edges: [{ bead_id: second, depends_on_bead_id: first }] });
  expect(await ok.tool("PATCH", path, { merge_mode: "review-and-merge" })).toMatchObject({ merge_mode: "review-and-merge" });
  expect(await ok.tool("POST", `${path}/start`)).toMatchObject({ convoy: { staged: false }, beads: [{ agent: null }, {}] });
  expect(await tool("POST", `${path}/start`)).toEqual(refused(404, "Convoy not found or not staged"));
  expect(await ok.tool("GET", "/convoys")).toMatchObject([{ id: convoy.id }]);

  const third = await ok.rig("POST", "/beads", { type: "issue", title: "three" });
  expect(await ok.tool("POST", `${path}/add-bead`, { bead_id: third.bead_id, depends_on: [second] })).toEqual({ total_beads: 3 });
  const circle = { bead_id: first, depends_on: [third.bead_id] };
  expect(await tool("POST", `${path}/add-bead`, circle)).toEqual(refused(400, "Dependencies must not form a cycle"));
  expect(await ok.tool("POST", `${path}/remove-bead`, { bead_id: third.bead_id })).toEqual({ total_beads: 2 });
  expect(await tool("POST", `${path}/remove-bead`, { bead_id: third.bead_id })).toEqual(refused(404, "Bead not found"));
  expect(await ok.tool("POST", `${path}/close`)).toMatchObject({ status: "landed", closed_beads: 2 });
  expect(await tool("GET", "/convoys/nope")).toEqual(refused(404, "Convoy not found"));
  const unordered = { ...batch, tasks: [{ title: "one" }, { title: "two" }] };
  expect(await tool("POST", "/sling-batch", unordered)).toMatchObject({ status: 400, body: { issues: [{ path: ["tasks"] }] } });
});

test("the mayor hands out, changes and takes back work", async () => {
  const { ok, tool, rigId } = await newTown("tools-work");
  const slung = await tool("POST", "/sling", { rig_id: rigId, title: "work" });
  expect(slung).toMatchObject({ status: 201, body: { data: { bead: { title: "work" }, agent: { role: "polecat" } } } });
  const { bead, agent } = slung.body.data;
  const beads = `/rigs/${rigId}/beads`;
  const own = `${beads}/${bead.bead_id}`;
  expect(await ok.tool("GET", `${beads}?type=issue`)).toMatchObject([{ bead_id: bead.bead_id }]);
  expect(await ok.tool("GET", `/rigs/${rigId}/agents`)).toMatchObject([{ id: agent.id }]);
  expect(await ok.tool("PATCH", own, { title: "other work", body: null, labels: ["gt:held"] })).toMatchObject({ title: "other work", body: null });
  expect(await tool("PATCH", own, { rig_id: "elsewhere" })).toEqual(refused(403, "Rig not found in this town"));
  const other = await ok.rig("POST", "/agents", { role: "polecat", name: "Maple", identity: "maple@tools" });
  expect(await ok.tool("POST", `${own}/reassign`, { agent_id: other.id })).toMatchObject({ assignee_agent_bead_id: other.id });
  expect(await tool("POST", `${own}/reassign`, { agent_id: "nobody" })).toEqual(refused(404, "Target agent not found"));
  expect(await ok.tool("POST", `/rigs/${rigId}/agents/${other.id}/reset`)).toEqual({ reset: true });
  const mail = { rig_id: rigId, from_agent_id: agent.id, to_agent_id: other.id, subject: "s", body: "b" };
  expect(await ok.tool("POST", "/mail", mail)).toEqual({ sent: true });
  expect(await ok.tool("GET", `/rigs/${rigId}/agents/${other.id}/pending-nudges`)).toEqual([]);
  const raised = await ok.rig("POST", "/escalations", { title: "Help" });
  expect(await ok.tool("POST", `/escalations/${raised.bead_id}/acknowledge`)).toMatchObject({ status: "closed" });

  const more = [await ok.rig("POST", "/beads", { type: "issue", title: "a" }), await ok.rig("POST", "/beads", { type: "issue", title: "b" })];
  expect(await ok.tool("POST", `${beads}/bulk-delete`, { bead_ids: [more[0].bead_id, "gone"] })).toEqual({ deleted: 1 });
  expect(await ok.tool("DELETE", `${beads}/${more[1].bead_id}`)).toEqual({ deleted: true });
  expect(await ok.tool("POST", `${beads}/delete-by-status`, { status: "open", type: "issue" })).toEqual({ deleted: expect.any(Number) });
  const action = { type: "open_bead_drawer", beadId: "b", rigId: "elsewhere" };
  expect(await tool("POST", "/ui-action", { action })).toEqual(refused(400, "Rig not found in this town"));
  expect(await ok.tool("POST", "/ui-action", { action: { ...action, rigId } })).toEqual({ broadcast: true });
});

test("a bead goes to another rig only when it is at rest", async () => {
  const { id, ok, owner, rigId, tool } = await newTown("tools-move");
  const other = await send("POST", "/api/users/tools-move/rigs", owner, { town_id: id, name: "lib", git_url: "https://git.example/lib.git" });
  const move = { rig_id: other.body.data.id };
  const { bead, agent } = await ok.tool("POST", "/sling", { rig_id: rigId, title: "work", labels: ["gt:held"] });
  const own = `/rigs/${rigId}/beads/${bead.bead_id}`;
  const why = `Bead ${bead.bead_id} cannot go to another rig while agent ${agent.id} has it: it must be open or over, and on no agent's hook`;
  expect(await tool("PATCH", own, { ...move, title: "moved" })).toEqual(refused(409, why));
  expect(await ok.rig("GET", `/beads/${bead.bead_id}`)).toMatchObject({ rig_id: rigId, title: "work" });
  expect(await ok.tool("POST", `/rigs/${rigId}/agents/${agent.id}/reset`)).toEqual({ reset: true });
  expect(await ok.tool("PATCH", own, move)).toMatchObject({ ...move, status: "open" });
});

test("the tools are for tokens of this town and rigs of this town", async () => {
  const { tool, id, rigId } = await newTown("tools-guard");
  expect(await tool("POST", "/sling", { rig_id: "elsewhere", title: "t" })).toEqual(refused(403, "Rig not found in this town"));
  expect(await tool("GET", "/rigs/elsewhere/beads")).toEqual(refused(403, "Rig not found in this town"));
  const at = `/api/mayor/${id}/tools/rigs`;
  expect(await send("GET", at)).toEqual(refused(401, "Authentication required"));
  const other = await agentToken("another-town", rigId, "a");
  expect(await send("GET", at, other)).toEqual(refused(403, "Token townId does not match route"));
  expect((await send("GET", at, await agentToken(id, "any", "mayor"))).status).toBe(200);
});
