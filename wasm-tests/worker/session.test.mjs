// A session's registration through the built Worker: it is durable, and its objects may be evicted at any time.

import { env, evictDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { expect, test } from "vitest";

import { ANSWER_MS } from "./socket.mjs";
import { headersOf } from "./tokens.mjs";

const USER = "google:wasm/1";
const headers = await headersOf(USER);

async function call(path, init) {
  const response = await exports.default.fetch(`http://worker${path}`, {
    headers,
    signal: AbortSignal.timeout(ANSWER_MS),
    ...init,
  });
  return { status: response.status, body: await response.json() };
}

const prepare = (input) => call("/trpc/prepareSession", { method: "POST", body: JSON.stringify(input) });
const get = (cloudAgentSessionId) =>
  call(`/trpc/getSession?input=${encodeURIComponent(JSON.stringify({ cloudAgentSessionId }))}`);

const input = { prompt: "@say hi", mode: "code", model: "scripted", gitUrl: "file:///nowhere.git", autoInitiate: true };

test("the Worker is healthy, and says what it does not know", async () => {
  expect((await call("/health")).body.status).toBe("ok");
  expect(await call("/nowhere")).toEqual({ status: 404, body: { error: "Not found" } });
});

test("a session is there at once, and survives the eviction of its objects", async () => {
  const { status, body } = await prepare(input);
  expect(status).toBe(200);
  const { cloudAgentSessionId, kiloSessionId } = body.result.data;
  expect(kiloSessionId).toMatch(/^ses_/);

  const found = await get(cloudAgentSessionId);
  expect(found.status).toBe(200);
  for (const [namespace, name] of [
    [env.CLOUD_AGENT_SESSION, `${USER}:${cloudAgentSessionId}`],
    [env.USER, `user:${USER}`],
  ]) {
    await evictDurableObject(namespace.get(namespace.idFromName(name)));
  }
  const again = await get(cloudAgentSessionId);
  expect(again.body.result.data.kiloSessionId).toBe(kiloSessionId);
});

test("an invalid input is refused by the name of its field, and stores nothing", async () => {
  const { status, body } = await prepare({ ...input, model: "not a model" });
  expect(status).toBe(400);
  expect(body.error.data.code).toBe("BAD_REQUEST");
  expect(body.error.message).toContain("model");
});
