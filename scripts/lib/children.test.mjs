import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";

import { Child, readyLine } from "./children.mjs";

const folder = mkdtempSync(join(tmpdir(), "holdfast-children-"));
after(() => rmSync(folder, { recursive: true }));

const guard = fileURLToPath(new URL("guard.mjs", import.meta.url));
const shell = (script, { guarded = false } = {}) =>
  new Child({
    name: "The shell",
    command: guarded ? process.execPath : "sh",
    args: [...(guarded ? [guard, "sh"] : []), "-c", script],
    env: { PATH: process.env.PATH },
    cwd: folder,
    log: join(folder, "log"),
  });

function lives(pid) {
  try {
    process.kill(pid, 0);
  } catch {
    return false;
  }
  try {
    // A zombie takes signals too.
    const stat = readFileSync(`/proc/${pid}/stat`, "latin1");
    return !/^\) [ZX]/.test(stat.slice(stat.lastIndexOf(")")));
  } catch {
    return true;
  }
}

/** Whether a process was reaped in time, or waits to be. */
async function gone(pid) {
  for (let n = 0; n < 600 && lives(pid); n++) await sleep(100);
  return !lives(pid);
}

test("stopping a child stops what it started", { timeout: 180_000 }, async () => {
  for (const guarded of [false, true]) {
    const child = shell("sleep 60 & echo $!; wait", { guarded });
    const pid = await child.line(Number, 10_000);
    assert.ok(lives(pid));
    await child.stop();
    assert.equal(child.running, false);
    assert.ok(await gone(pid), `guarded: ${guarded}`);
  }
});

test("a guarded child that ignores SIGTERM is ended all the same", { timeout: 30_000 }, async () => {
  const child = shell("trap '' TERM; echo ready; while :; do sleep 1; done", { guarded: true });
  await child.line((line) => line || undefined, 10_000);
  await child.stop();
  assert.equal(child.running, false);
});

test("a child that does not start is reported with what it said", async () => {
  const child = shell("echo no luck >&2; exit 3");
  await assert.rejects(child.line(readyLine, 10_000), (error) => {
    assert.match(error.message, /^The shell did not start: it ended with code 3\.$/);
    assert.match(error.detail, /no luck/);
    return true;
  });
  const silent = shell("exec sleep 60");
  await assert.rejects(silent.line(readyLine, 100), /said nothing for 0.1 s/);
  await silent.stop();
});

test("only a ready line is one", () => {
  assert.deepEqual(readyLine('{"event":"ready","port":1}'), { event: "ready", port: 1 });
  for (const line of ["ready", "{", '{"event":"other"}', ""]) assert.equal(readyLine(line), undefined);
});
