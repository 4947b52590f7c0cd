import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";

import { readSecrets, writeSecrets } from "./secrets.mjs";

const folder = mkdtempSync(join(tmpdir(), "holdfast-secrets-"));
after(() => rmSync(folder, { recursive: true }));

test("secrets are random, kept, and readable by their owner only", () => {
  const file = join(folder, "a");
  const first = readSecrets(file);
  assert.match(first.NEXTAUTH_SECRET, /^[0-9a-f]{64}$/);
  assert.equal(new Set(Object.values(first)).size, Object.keys(first).length);
  assert.deepEqual(readSecrets(file), first);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.notEqual(readSecrets(join(folder, "b")).NEXTAUTH_SECRET, first.NEXTAUTH_SECRET);
});

test("what a person has set is kept, and what is missing is added", () => {
  const file = join(folder, "c");
  writeFileSync(file, '# mine\nNEXTAUTH_SECRET = "chosen"\nOTHER=x', { mode: 0o644 });
  const secrets = readSecrets(file);
  assert.equal(secrets.NEXTAUTH_SECRET, "chosen");
  assert.equal(secrets.OTHER, "x");
  assert.equal(secrets.ALLOW_LOOPBACK, "1");
  assert.match(readFileSync(file, "utf8"), /^# mine\nNEXTAUTH_SECRET = "chosen"\nOTHER=x\n[A-Z]/);
  assert.equal(statSync(file).mode & 0o777, 0o600);
});

test("a value that wrangler could not read back is refused", () => {
  assert.throws(() => writeSecrets(join(folder, "d"), { KEY: "a'b" }), /KEY holds a quote/);
  assert.throws(() => writeSecrets(join(folder, "d"), { KEY: "a\nb" }), /KEY holds a quote/);
});
