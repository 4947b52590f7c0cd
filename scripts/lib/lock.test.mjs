import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { hold } from "./lock.mjs";

const folder = mkdtempSync(join(tmpdir(), "holdfast-lock-"));
after(() => rmSync(folder, { recursive: true }));

test("a lock has one holder, and ends with it however it ends", async () => {
  const path = join(folder, "lock");
  const script = `import { hold } from ${JSON.stringify(new URL("lock.mjs", import.meta.url).href)};
    await hold(process.argv[1], "taken").catch((error) => { console.log(error.message); process.exit(1); });
    process.kill(process.pid, "SIGKILL");`;
  const other = () => spawnSync(process.execPath, ["--input-type=module", "-e", script, path], { encoding: "utf8" });

  assert.equal(other().signal, "SIGKILL"); // and leaves its socket behind
  await hold(path, "taken");
  assert.deepEqual([other().status, other().stdout], [1, "taken\n"]);
});
