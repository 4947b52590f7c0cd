// Pull requests are looked at on their host: what it is asked, what its answers mean, and who is not asked at all.

import { afterEach, expect, inject, test, vi } from "vitest";

import { eventually } from "../worker/socket.mjs";
import { newTown } from "./town.mjs";

const SECOND = 1_000;

afterEach(() => vi.useRealTimers());

const setPull = (path, status, body) =>
  fetch(`${inject("host")}/play`, { method: "PUT", body: JSON.stringify({ [path]: [status, body] }) });
const asked = async (path) => (await (await fetch(`${inject("host")}/play`)).json()).filter((request) => request.path === path);

/** A town with work that was reviewed, whose pull request is open at `url`. */
async function withPull(name, config, url) {
  vi.useFakeTimers({ toFake: ["Date"] });
  const town = await newTown(name, { merge_strategy: "pr", ...config });
  const { bead, agent } = await town.sling("Work");
  await town.rest();
  await town.inRig("POST", `/agents/${agent.id}/done`, { branch: "gt/b" });
  await town.ring(5 * SECOND);
  const started = await town.asked(/^\/agents\/start/, 2);
  await town.rest();
  await town.inRig("POST", `/agents/${started.at(-1).body.agentId}/done`, { branch: "gt/b", pr_url: url });
  await town.ring(5 * SECOND);
  await town.evict();
  return { town, bead };
}

/** Rings until a minute has passed, when the next look is due. */
async function look(town) {
  await town.ring(61 * SECOND);
  await town.evict();
}

test("a pull request of GitHub is asked for by its number, with the town's first token, until it is merged", async () => {
  const path = "/github/repos/owner/merged/pulls/7";
  await setPull(path, 200, { state: "open", merged: false });
  const config = { github_cli_pat: "personal", git_auth: { github_token: "app" } };
  const { town, bead } = await withPull("pull-merged", config, "https://github.com/owner/merged/pull/7");
  await look(town);
  const [first] = await eventually(() => asked(path), (requests) => requests.length > 0);
  expect(first).toMatchObject({
    method: "GET",
    headers: { accept: "application/vnd.github+json", authorization: "Bearer personal", "user-agent": "holdfast", "x-github-api-version": "2022-11-28" },
  });
  await town.rest();
  expect((await town.bead(bead.bead_id)).status).toBe("in_review");
  await setPull(path, 200, { state: "closed", merged: true });
  await look(town);
  await town.rest();
  await town.ring(5 * SECOND);
  expect((await town.bead(bead.bead_id)).status).toBe("closed");
});

test("a merge request of GitLab that is closed unmerged gives the work back", async () => {
  const path = "/gitlab/api/v4/projects/group%2Fsub%2Fproject/merge_requests/3";
  await setPull(path, 200, { state: "closed" });
  const { town, bead } = await withPull("pull-gitlab", { git_auth: { gitlab_token: "gl" } }, "https://gitlab.com/group/sub/project/-/merge_requests/3");
  await look(town);
  const [request] = await eventually(() => asked(path), (requests) => requests.length > 0);
  expect(request).toMatchObject({ method: "GET", headers: { "private-token": "gl" } });
  expect(request.headers).not.toHaveProperty("authorization");
  await town.rest();
  await town.ring(5 * SECOND);
  expect(["open", "in_progress"]).toContain((await town.bead(bead.bead_id)).status);
});

test("an answer that says nothing leaves the work in review, and a redirect is not followed", async () => {
  const path = "/github/repos/owner/broken/pulls/1";
  const { town, bead } = await withPull("pull-broken", { git_auth: { github_token: "t" } }, "https://github.com/owner/broken/pull/1");
  for (const [status, body] of [[500, {}], [302, {}], [200, []]]) {
    await setPull(path, status, body);
    const before = (await asked(path)).length;
    await look(town);
    await eventually(() => asked(path), (requests) => requests.length > before);
  }
  expect((await town.bead(bead.bead_id)).status).toBe("in_review");
});

test("a host that is neither known nor the town's own is not asked, and gets no token", async () => {
  const { town, bead } = await withPull("pull-foreign", { git_auth: { gitlab_token: "gl" } }, "https://evil.example/g/p/-/merge_requests/1");
  await look(town);
  const owed = await town.sql("SELECT key, attempt FROM owed WHERE key LIKE 'poll/%'");
  expect(owed).toEqual([]);
  expect((await town.bead(bead.bead_id)).status).toBe("in_review");
});
