// `npm start` itself, as a person runs it: the whole way, and every way it can be told wrong.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, test } from "node:test";

import { ROOT } from "../scripts/lib/paths.mjs";
import { readRepository } from "../scripts/lib/repository.mjs";
import { freshFolder, processesUnder, until } from "./harness.mjs";

const folder = freshFolder("start");
const empty = mkdtempSync(join(tmpdir(), "holdfast-empty-"));
const children = [];
after(() => {
  children.forEach((child) => child.kill("SIGTERM"));
  rmSync(empty, { recursive: true, force: true });
});

function start(args, env = {}) {
  const child = spawn(process.execPath, ["scripts/start.mjs", ...args], {
    cwd: ROOT,
    env: { ...process.env, HOLDFAST_DIR: folder, INIT_CWD: undefined, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  const result = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (text) => (result.stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (result.stderr += text));
  return { child, result, exit: once(child, "close").then(([code]) => ({ code, ...result })) };
}

const milestones = (stdout) => stdout.trim().split("\n").filter(Boolean).map((line) => JSON.parse(line));

const nothingRuns = () =>
  until("nothing is left running", () => processesUnder(folder).length === 0).catch(() => assert.deepEqual(processesUnder(folder), []));

test("npm start -- --once --json takes a session to a pushed commit, and leaves no process", { timeout: 180_000 }, async (t) => {
  const { code, stdout, stderr } = await start(["--once", "--json"]).exit;
  assert.equal(code, 0, `${stdout}\n${stderr}`);
  const all = milestones(stdout);
  const ready = all.find(({ event }) => event === "ready");
  assert.match(ready.url, /^http:\/\/127\.0\.0\.1:\d+$/);
  assert.match(ready.hostUrl, /^http:\/\/127\.0\.0\.1:\d+$/);
  const result = all.at(-1);
  assert.equal(result.event, "result");
  t.diagnostic(JSON.stringify(result.phases));
  const sample = `file://${folder}/sample.git`;
  assert.equal(readRepository(sample, "rev-parse", result.branch), result.commit);
  await nothingRuns();
});

test("npm start -- --serve-only serves until it is told to stop", { timeout: 240_000 }, async () => {
  const { child, result, exit } = start(["--serve-only", "--json"]);
  await until("it serves", () => result.stdout.includes('"serving"'), 120_000);
  const { url } = milestones(result.stdout).find(({ event }) => event === "ready");
  assert.equal((await (await fetch(`${url}/health`)).json()).status, "ok");

  const second = await start(["--serve-only"]).exit;
  assertSentence(second, /already/);

  child.kill("SIGINT");
  assert.equal((await exit).code, 130);
  await nothingRuns();
});

test("if it is killed outright, its processes end by themselves", { timeout: 240_000 }, async () => {
  const { child, result, exit } = start(["--serve-only", "--json"]);
  await until("it serves", () => result.stdout.includes('"serving"'), 120_000);
  child.kill("SIGKILL");
  await exit;
  await nothingRuns();
});

test("a busy port is one sentence", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  const failure = await start(["--port", `${port}`]).exit;
  server.close();
  assertSentence(failure, new RegExp(`Port ${port} is in use`));
});

test("a repository that is none is one sentence", async () => {
  for (const repo of [join(empty, "nowhere"), empty, "ssh://example.com/r"]) {
    assertSentence(await start(["--repo", repo, "--prompt", "p"]).exit, /^holdfast: The repository .+ cannot be/);
  }
});

test("a machine without git is one sentence", async () => {
  // What the launcher needs, and nothing more.
  const PATH = `${dirname(process.execPath)}`;
  assertSentence(await start(["--once"], { PATH }).exit, /^holdfast: git is missing/);
});

test("nothing of all this is left running", nothingRuns);

test("options that make no sense are explained", async () => {
  for (const args of [["--wrong"], ["--once", "--serve-only"], ["--town", "--serve-only"], ["--town", "--prompt", "p"], ["--repo", "."], ["--port", "http"]]) {
    const { code, stderr } = await start(args).exit;
    assert.equal(code, 1, `${args}`);
    assert.match(stderr, /^holdfast: /);
  }
});

function assertSentence({ code, stderr }, pattern) {
  assert.equal(code, 1, stderr);
  assert.match(stderr, pattern);
  assert.equal(stderr.trim().split("\n").length, 1, stderr);
}
