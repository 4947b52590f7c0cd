// `npm start -- --town --once`, as a person runs it: a convoy is handed out, worked on by the real agent, reviewed and merged, across an eviction.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, test } from "node:test";

import { ROOT } from "../scripts/lib/paths.mjs";
import { readRepository } from "../scripts/lib/repository.mjs";
import { FILES } from "../scripts/lib/town-tasks.mjs";
import { freshFolder, processesUnder, until } from "./harness.mjs";

const folder = freshFolder("town-work");
let child;
after(() => child?.kill("SIGTERM"));

test("npm start -- --town --once --json merges a convoy across an eviction, and leaves no process", { timeout: 900_000 }, async (t) => {
  child = spawn(process.execPath, ["scripts/start.mjs", "--town", "--once", "--json"], {
    cwd: ROOT,
    env: { ...process.env, HOLDFAST_DIR: folder },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let [stdout, stderr] = ["", ""];
  child.stdout.setEncoding("utf8").on("data", (text) => (stdout += text));
  child.stderr.setEncoding("utf8").on("data", (text) => (stderr += text));
  const [code] = await once(child, "close");
  assert.equal(code, 0, `${stdout}\n${stderr}`);

  const all = stdout.trim().split("\n").map((line) => JSON.parse(line));
  const place = (event, match = {}) => {
    const at = all.findIndex((milestone) => milestone.event === event && Object.entries(match).every(([key, value]) => milestone[key] === value));
    assert.notEqual(at, -1, `no ${event} ${JSON.stringify(match)} in\n${stdout}`);
    return at;
  };
  const story = [
    place("convoy"),
    place("agent_status"),
    place("eviction"),
    place("drain", { draining: true }),
    place("drain", { draining: false }),
    place("bead", { title: "List what there is", status: "in_progress" }),
    place("bead", { title: "List what there is", status: "closed" }),
    place("result", { status: "completed" }),
  ];
  assert.deepEqual(story, story.toSorted((a, b) => a - b), stdout);
  assert.equal(all.filter(({ event }) => event === "container").length, 2, "two containers");
  assert.equal(all.filter(({ event, pushed }) => event === "receipt" && pushed).length > 0, true, "a receipt");
  t.diagnostic(JSON.stringify(all.at(-1).times));

  const { gitUrl } = all[place("town")];
  for (const [path, text] of Object.entries(FILES)) assert.equal(readRepository(gitUrl, "show", `main:${path}`), text, path);
  await until("nothing is left running", () => processesUnder(folder).length === 0);
});
