import assert from "node:assert/strict";
import { test } from "node:test";

import { applies, mutations } from "./mutations.mjs";

test("every mutation of the simulation applies to the sources, and says what it breaks", () => {
  const all = mutations();
  assert.ok(all.length >= 10, "there are mutations");
  for (const mutation of all) {
    assert.ok(mutation.words.endsWith("."), `${mutation.name} says what it breaks`);
    assert.ok(mutation.touches.length > 0, `${mutation.name} changes a file`);
    assert.ok(applies(mutation), `${mutation.name} applies no more: bring it up to date`);
  }
});
