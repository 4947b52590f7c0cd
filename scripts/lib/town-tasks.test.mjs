import assert from "node:assert/strict";
import { test } from "node:test";

import { parse } from "../../model-server/script.mjs";
import { FILES, TASKS } from "./town-tasks.mjs";

/** The last call of a script, and what it is given. */
function lastCall(script) {
  const { name, rest } = parse(script).at(-1);
  assert.equal(name, "tool");
  const [, tool, json] = /^(\S+) (.*)$/.exec(rest);
  return { tool, args: JSON.parse(json) };
}

test("each task ends with gt_done, and hands its reviewer a script that does too", () => {
  for (const { body } of TASKS) {
    const work = lastCall(body);
    assert.equal(work.tool, "gt_done");
    const review = lastCall(work.args.summary);
    assert.deepEqual(review, { tool: "gt_done", args: { summary: "Merged" } });
  }
});

test("each task makes one of the files that are looked for in the end", () => {
  const made = TASKS.map(({ body }) => Object.keys(FILES).find((path) => body.startsWith(`Add ${path}.`)));
  assert.deepEqual(made.toSorted(), Object.keys(FILES).toSorted());
});
