// Encrypted secrets: opened for the container alone, and found nowhere else.

import assert from "node:assert/strict";
import { constants, createCipheriv, createHash, generateKeyPairSync, publicEncrypt, randomBytes } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { readRepository } from "../scripts/lib/repository.mjs";
import { runSession } from "../scripts/lib/session.mjs";
import { holdfast, until } from "./harness.mjs";

const pair = () =>
  generateKeyPairSync("rsa", {
    modulusLength: 2048,
    publicKeyEncoding: { type: "spki", format: "pem" },
    privateKeyEncoding: { type: "pkcs8", format: "pem" },
  });
const { publicKey, privateKey } = pair();
const it = holdfast("secrets", { AGENT_ENV_VARS_PRIVATE_KEY: privateKey.trim().replaceAll("\n", "\\n") });

const VALUE = `value-${randomBytes(16).toString("hex")} with spaces, quotes '" and ünicode`;

/** The envelope of spec/session.md 8.2, as a platform's back end makes it. */
function seal(value, key = publicKey) {
  const [dek, iv] = [randomBytes(32), randomBytes(16)];
  const cipher = createCipheriv("aes-256-gcm", dek, iv);
  const data = Buffer.concat([iv, cipher.update(value, "utf8"), cipher.final(), cipher.getAuthTag()]);
  const padding = constants.RSA_PKCS1_OAEP_PADDING;
  return {
    encryptedData: data.toString("base64"),
    encryptedDEK: publicEncrypt({ key, padding, oaepHash: "sha256" }, dek).toString("base64"),
    algorithm: "rsa-aes-256-gcm",
    version: 1,
  };
}

/** Nothing yet is no error. */
function whenMissing(error) {
  if (error.status !== 404) throw error;
}

/** Every file that the services keep beside the containers' own disks. */
function* kept(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true, recursive: true })) {
    const file = join(entry.parentPath, entry.name);
    if (entry.isFile() && !file.startsWith(it.services.containers)) yield file;
  }
}

test("a secret reaches the container, wins over a variable, and is found nowhere else", { timeout: 180_000 }, async (t) => {
  const shown = [];
  const work = {
    gitUrl: it.gitUrl,
    prompt: '@bash printf %s "$TOKEN" | sha256sum > agent.txt\n@say Done.',
    model: "scripted",
    envVars: { TOKEN: "plain", OTHER: "other" },
    encryptedSecrets: { TOKEN: seal(VALUE) },
    setupCommands: ['printf %s "$TOKEN" | sha256sum > setup.txt', "echo $OTHER > other.txt"],
  };
  const outcome = await runSession(it.api, work, (milestone) => shown.push(milestone));
  assert.deepEqual([outcome.status, outcome.error], ["completed", undefined]);
  const committed = (file) => readRepository(it.gitUrl, "show", `${outcome.commit}:${file}`);
  const hash = createHash("sha256").update(VALUE).digest("hex");
  assert.match(committed("agent.txt"), new RegExp(`^${hash}`));
  assert.match(committed("setup.txt"), new RegExp(`^${hash}`));
  assert.equal(committed("other.txt"), "other");

  const session = await it.api.session(outcome.sessionId);
  const wanted = { sessionId: outcome.sessionId, executionId: session.lastExecution.id };
  const logs = await until("the container's logs", () => it.api.query("getWrapperLogs", wanted).catch(whenMissing));

  await t.test("the container's logs can be read", () => {
    assert.match(logs.content, /^==> kilo\/.+ <==$/m);
    assert.match(logs.content, /^==> wrapper.log <==$/m);
    assert.match(logs.content, /"event":"turn_started"/);
  });

  await t.test("not in events, answers, logs or storage", async () => {
    const texts = [JSON.stringify(shown), JSON.stringify(session), logs.content];
    const files = [...kept(it.folder)];
    assert.ok(files.some((file) => file.endsWith("worker.log")) && files.some((file) => file.endsWith(".sqlite")));
    texts.push(...files.map((file) => readFileSync(file, "latin1")));
    const needle = VALUE.slice(0, 30);
    for (const [index, text] of texts.entries()) assert.ok(!text.includes(needle), `found in ${files[index - 3] ?? index}`);
  });
});

test("one that does not open fails the preparation, by its name and a stable code", { timeout: 60_000 }, async () => {
  const work = {
    gitUrl: it.gitUrl,
    prompt: "@say never",
    mode: "code",
    model: "scripted",
    encryptedSecrets: { GOOD: seal("good"), OTHERS_KEY: seal(VALUE, pair().publicKey) },
  };
  const { status, body } = await it.api.mutate("prepareSession", work).catch((error) => error);
  assert.equal(status, 500);
  assert.equal(body.error.data.error, "SECRETS_INVALID");
  assert.equal(body.error.message, "encryptedSecrets: OTHERS_KEY cannot be opened with this deployment's key");
});
