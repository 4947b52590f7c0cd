import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";
import { after, test } from "node:test";

import { ROOT, WORK } from "./paths.mjs";
import { Stamp } from "./stamp.mjs";

mkdirSync(WORK, { recursive: true });
const folder = mkdtempSync(join(WORK, "stamp-test-"));
const inFolder = (name) => relative(ROOT, join(folder, name));
const stamp = (facts = ["v1"]) =>
  new Stamp(relative(join(WORK, "stamps"), join(folder, "stamp")), { inputs: [inFolder("in")], facts, outputs: [inFolder("out")] });
after(() => rmSync(folder, { recursive: true }));

test("something is made again when an input, a fact or an output has changed, and only then", () => {
  mkdirSync(join(folder, "in"));
  mkdirSync(join(folder, "out"));
  writeFileSync(join(folder, "in", "a"), "1");
  writeFileSync(join(folder, "out", "b"), "made");
  assert.equal(stamp().fresh, false);
  stamp().write();
  assert.equal(stamp().fresh, true);

  assert.equal(stamp(["v2"]).fresh, false);
  writeFileSync(join(folder, "in", "a"), "2");
  assert.equal(stamp().fresh, false);
  writeFileSync(join(folder, "in", "a"), "1");
  assert.equal(stamp().fresh, true);
  writeFileSync(join(folder, "in", "new"), "");
  assert.equal(stamp().fresh, false);
  rmSync(join(folder, "in", "new"));
  rmSync(join(folder, "out", "b"));
  assert.equal(stamp().fresh, false);
});

test("while something is being made, it is not there", () => {
  writeFileSync(join(folder, "out", "b"), "made");
  stamp().write();
  stamp().clear();
  assert.equal(stamp().fresh, false);
});
