// The Worker dies without a word in the middle of a preparation, and the session completes all the same.

import assert from "node:assert/strict";
import { test } from "node:test";

import { readRepository } from "../scripts/lib/repository.mjs";
import { runSession } from "../scripts/lib/session.mjs";
import { holdfast } from "./harness.mjs";

const it = holdfast("restart");

test("SIGKILL of workerd in the middle of a preparation loses nothing", { timeout: 240_000 }, async () => {
  let restarted;
  const restart = async () => {
    await it.services.killWorker();
    await assert.rejects(fetch(`${it.services.url}/health`), "the Worker should be dead");
    await it.services.startWorker();
  };
  const work = {
    gitUrl: it.gitUrl,
    prompt: "@write AFTER.md still here\n@say done",
    model: "scripted",
    setupCommands: ["echo run >> runs.txt; sleep 5"],
  };
  const outcome = await runSession(it.api, work, (milestone) => {
    if (milestone.event === "step" && milestone.step === "setup_commands") restarted ??= restart();
  });

  assert.ok(restarted, "the preparation was over before it could be interrupted");
  await restarted;
  assert.deepEqual([outcome.status, outcome.error], ["completed", undefined]);
  assert.equal(readRepository(it.gitUrl, "show", `${outcome.commit}:AFTER.md`), "still here");
  assert.equal(readRepository(it.gitUrl, "show", `${outcome.commit}:runs.txt`), "run", "the setup command should have run once");
});
