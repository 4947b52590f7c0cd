// The shared SQL suite inside workerd: one test per case, and the object's database across an eviction.

import { env, evictDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { expect, test } from "vitest";

async function ask(path) {
  const response = await exports.default.fetch(`http://suite/${path}`, { signal: AbortSignal.timeout(15_000) });
  expect(response.status).toBe(200);
  return response.json();
}

function evict(object) {
  return evictDurableObject(env.SQL_SUITE.get(env.SQL_SUITE.idFromName(object)));
}

const cases = await ask("");

test("the suite is there", () => {
  expect(cases.length).toBeGreaterThan(30);
});

test.each(cases.map((name, index) => [name, index]))("%s", async (_name, index) => {
  expect((await ask(`case-${index}/${index}`)).failure).toBeNull();
});

test("what was committed is there after an eviction, what was undone is not", async () => {
  const left = await ask("kept/leave");
  expect(left.failure).toBeNull();
  expect(left.rowsWritten).toBeGreaterThan(0);
  await evict("kept");
  const found = await ask("kept/find");
  expect(found.failure).toBeNull();
  // Counted anew: the object that answers is another one.
  expect(found.rowsWritten).toBe(0);
  expect(found.rowsRead).toBe(1);
});
