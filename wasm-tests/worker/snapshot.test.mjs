// What is kept of a session's conversation, through the built Worker and a real bucket. The object is evicted after each step.

import { env } from "cloudflare:test";
import { expect, test } from "vitest";

import { eventually } from "./socket.mjs";
import { ask, runningSession } from "./wrapper.mjs";

const BYTES_MAX = 64 * 1024 * 1024;

const bearer = ({ report }) => ({ authorization: `Bearer ${report.token}` });
const keyOf = ({ user, id }) => `snapshots/${encodeURIComponent(user)}/${id}`;
const kept = async (session) => (await env.STORE.get(keyOf(session)))?.text();

async function put({ snapshot, ...work }, body, headers = {}) {
  const response = await ask(snapshot.url, { method: "PUT", headers: { ...bearer(work), ...headers }, body });
  return [response.status, await response.text()];
}

test("a snapshot is kept and given back to the session's container, and to nobody else", async () => {
  const { session, ...work } = await runningSession("snapshot");
  expect(work.snapshot.restore).toBe(false);
  expect((await ask(work.snapshot.url, { headers: bearer(work) })).status).toBe(404);

  expect((await put(work, "first"))[0]).toBe(200);
  await session.evict();
  expect((await put(work, "second, and longer"))[0]).toBe(200);
  expect(await kept(session)).toBe("second, and longer");
  const answer = await ask(work.snapshot.url, { headers: bearer(work) });
  expect([answer.status, await answer.text()]).toEqual([200, "second, and longer"]);
  expect(answer.headers.get("content-type")).toBe("application/gzip");

  for (const authorization of [undefined, "Bearer wrong", session.headers.authorization]) {
    const headers = authorization ? { authorization } : {};
    expect((await ask(work.snapshot.url, { headers })).status).toBe(401);
    expect((await ask(work.snapshot.url, { method: "PUT", headers, body: "theirs" })).status).toBe(401);
  }
  expect(await kept(session)).toBe("second, and longer");
  const method = await ask(work.snapshot.url, { method: "POST", headers: bearer(work) });
  expect(method.status).toBe(405);
});

test("one that is too large, or of unknown length, is refused, and the old one stays", async () => {
  const { session, ...work } = await runningSession("snapshot-large");
  await put(work, "small");
  const [status, text] = await put(work, "x", { "content-length": `${BYTES_MAX + 1}` });
  expect([status, JSON.parse(text).message]).toEqual([413, `The body must have at most ${BYTES_MAX} bytes`]);
  const endless = new ReadableStream({ pull: (controller) => controller.close() });
  expect((await put(work, endless))[0]).toBe(411);
  expect(await kept(session)).toBe("small");
});

test("it goes with its session, and does not come back", async () => {
  const { session } = await runningSession("snapshot-gone");
  await env.STORE.put(keyOf(session), "kept");
  const body = JSON.stringify({ sessionId: session.id });
  const deleted = await ask("/trpc/deleteSession", { method: "POST", headers: session.headers, body });
  expect(deleted.status).toBe(200);
  await session.ring();
  await eventually(() => kept(session), (text) => text === undefined);

  const url = `/sessions/${encodeURIComponent(session.user)}/${session.id}/snapshot`;
  const late = await ask(url, { method: "PUT", headers: { authorization: "Bearer late" }, body: "late" });
  expect(late.status).toBe(404);
  expect(await kept(session)).toBe(undefined);
});
