// Encrypted secrets under real workerd, in a deployment that has no key for them.

import { expect, test } from "vitest";

import { eventually } from "./socket.mjs";
import { newSession } from "./wrapper.mjs";

const sealed = {
  encryptedData: "A".repeat(48),
  encryptedDEK: "A".repeat(344),
  algorithm: "rsa-aes-256-gcm",
  version: 1,
};

test("without a key the preparation fails, and says what is missing", async () => {
  const session = await newSession("secrets", { encryptedSecrets: { TOKEN: sealed } });
  const [tombstone] = await eventually(() => session.rows("SELECT message FROM tombstone"), (rows) => rows.length > 0);
  expect(tombstone.message).toBe("encryptedSecrets cannot be opened: AGENT_ENV_VARS_PRIVATE_KEY is not configured");
  expect(await session.view()).toBeUndefined();
});
