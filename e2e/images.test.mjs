// What a user uploads and shows with a prompt is what the model gets.

import assert from "node:assert/strict";
import { createHash, randomUUID } from "node:crypto";
import { test } from "node:test";

import { events } from "../scripts/lib/stream.mjs";
import { userToken } from "../scripts/lib/tokens.mjs";
import { holdfast } from "./harness.mjs";

const it = holdfast("images");

/** One pixel. */
const PNG = Buffer.from(
  "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==",
  "base64",
);
/** The same pixel, followed by what no reader of images looks at. */
const OTHER_PNG = Buffer.concat([PNG, Buffer.from("other")]);

const seen = (...images) => `I see: ${images.map((image) => `image/png ${createHash("sha256").update(image).digest("hex")}`).join(" | ")}`;

/** Uploads images, and names them as a call does. */
async function upload(...images) {
  const path = randomUUID();
  const files = images.map(() => `${randomUUID()}.png`);
  for (const [index, body] of images.entries()) {
    const headers = { authorization: `Bearer ${userToken(it.services.secrets.NEXTAUTH_SECRET, "local-user")}` };
    const response = await fetch(`${it.services.url}/images/${path}/${files[index]}`, { method: "PUT", headers, body });
    assert.equal(response.status, 200, await response.text());
  }
  return { path, files };
}

/** What the model says of what it sees, and all that a viewer is told meanwhile. */
async function answer(sessionId, wanted) {
  const stop = new AbortController();
  let told = "";
  try {
    for await (const frame of events(it.api, sessionId, stop.signal)) {
      told += JSON.stringify(frame);
      assert.ok(!frame.data?.fatal, told);
      if (frame.streamEventType === "complete" && told.includes(wanted)) return told;
    }
  } finally {
    stop.abort();
  }
  return told;
}

test("the first turn and a follow-up show the model what was uploaded, and viewers only its name", { timeout: 180_000 }, async () => {
  const first = await upload(PNG, OTHER_PNG);
  const { cloudAgentSessionId: sessionId } = await it.api.mutate("prepareSession", {
    prompt: "What is this?\n@look",
    mode: "code",
    model: "scripted",
    gitUrl: it.gitUrl,
    autoInitiate: true,
    images: first,
  });
  const told = await answer(sessionId, seen(PNG, OTHER_PNG));
  assert.ok(first.files.every((file) => told.includes(file)), "the names are told");
  assert.ok(!told.includes(PNG.toString("base64").slice(0, 60)), "the contents are not");

  const images = await upload(OTHER_PNG);
  const message = { cloudAgentSessionId: sessionId, prompt: "And this?\n@look", images };
  await it.api.mutate("sendMessageV2", message, 90_000);
  await answer(sessionId, seen(OTHER_PNG));

  const missing = { path: images.path, files: [`${randomUUID()}.png`] };
  const refusal = await it.api.mutate("sendMessageV2", { ...message, images: missing }, 90_000).catch((error) => error);
  assert.deepEqual([refusal.status, refusal.body?.error.data.error], [500, "IMAGE_UNAVAILABLE"]);
});
