// A preparation that fails: said clearly, and nothing is left of it.

import assert from "node:assert/strict";
import { test } from "node:test";

import { readRepository } from "../scripts/lib/repository.mjs";
import { runSession } from "../scripts/lib/session.mjs";
import { holdfast, processesUnder, until } from "./harness.mjs";

const it = holdfast("setup-failure");

test("a setup command that fails ends the session, and leaves nothing", { timeout: 120_000 }, async (t) => {
  const steps = [];
  const work = {
    gitUrl: it.gitUrl,
    prompt: "@say never said",
    model: "scripted",
    setupCommands: ["sleep 300 & echo started", "echo it-is-broken >&2; exit 3", "touch never-run"],
  };
  const outcome = await runSession(it.api, work, (milestone) => milestone.event === "step" && steps.push(milestone));

  await t.test("viewers get one failed event that names the command, its code and what it said", () => {
    const failed = steps.filter(({ step }) => step === "failed");
    assert.equal(failed.length, 1);
    assert.equal(outcome.status, "failed");
    assert.match(failed[0].message, /exit 3/);
    assert.match(failed[0].message, /it-is-broken/);
    assert.ok(!steps.some(({ step }) => step === "kilo_server" || step === "ready"));
  });

  await t.test("the session and its directory entry are gone", async () => {
    assert.equal(await until("the session is gone", async () => (await it.api.session(outcome.sessionId)) === undefined), true);
    await until("the directory is empty", async () => (await it.api.query("listSessions", {})).sessions.length === 0);
  });

  await t.test("none of its processes runs", async () => {
    const left = () => processesUnder(it.services.containers).filter(({ exe }) => !exe.endsWith("/sandboxd"));
    await until("its processes are gone", () => left().length === 0).catch(() => {
      assert.deepEqual(left(), []);
    });
  });

  await t.test("nothing was pushed", () => {
    assert.equal(readRepository(it.gitUrl, "for-each-ref", "--format=%(refname)"), "refs/heads/main");
  });
});
