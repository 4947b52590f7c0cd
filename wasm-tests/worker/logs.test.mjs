// An execution's logs: put by its container into the bucket, read by its user, gone with the session.

import { env } from "cloudflare:test";
import { expect, test } from "vitest";

import { eventually } from "./socket.mjs";
import { headersOf } from "./tokens.mjs";
import { ask, runningSession } from "./wrapper.mjs";

const TOO_LARGE = 2 * 1024 * 1024 + 1;

/** One file of a tar. */
function entry(name, text) {
  const content = new TextEncoder().encode(text);
  const bytes = new Uint8Array(512 + Math.ceil(content.length / 512) * 512);
  const write = (at, field) => bytes.set(new TextEncoder().encode(field), at);
  write(0, name);
  write(124, content.length.toString(8).padStart(11, "0"));
  write(156, "0");
  bytes.set(content, 512);
  return bytes;
}

async function gzip(...parts) {
  const stream = new Blob(parts).stream().pipeThrough(new CompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** The session's logs in the bucket. */
const keptOf = async (session) => (await env.STORE.list({ prefix: "logs/" })).objects.filter(({ key }) => key.includes(session.id));

const put = (url, token, body) => ask(url, { method: "PUT", headers: { authorization: `Bearer ${token}` }, body });

async function logs(headers, sessionId, executionId) {
  const input = encodeURIComponent(JSON.stringify({ sessionId, executionId }));
  const response = await ask(`/trpc/getWrapperLogs?input=${input}`, { headers });
  const { result, error } = await response.json();
  return result ? result.data : error.data.code;
}

test("logs are read as text by the user whose session they are of, and go with it", async () => {
  const { session, turn, report } = await runningSession("logs");
  const executionId = turn.executionId;
  expect(await logs(session.headers, session.id, executionId)).toBe("NOT_FOUND");

  const archive = await gzip(entry("kilo/a.log", "one\n"), entry("wrapper.log", "größer"), new Uint8Array(1024));
  expect((await put(turn.logsUrl, report.token, archive)).status).toBe(200);
  await session.evict();
  expect(await logs(session.headers, session.id, executionId)).toEqual({
    content: "==> kilo/a.log <==\none\n\n==> wrapper.log <==\ngrößer\n",
    sessionId: session.id,
    executionId,
  });
  expect(await logs(await headersOf("somebody-else"), session.id, executionId)).toBe("NOT_FOUND");

  const broken = archive.slice(0, archive.length / 2);
  expect((await put(turn.logsUrl, report.token, broken)).status).toBe(200);
  expect((await logs(session.headers, session.id, executionId)).sessionId).toBe(session.id);

  const own = session.headers.authorization.split(" ")[1];
  expect((await put(turn.logsUrl, own, archive)).status).toBe(200);
  const body = JSON.stringify({ sessionId: session.id });
  await ask("/trpc/deleteSession", { method: "POST", headers: session.headers, body });
  await eventually(() => keptOf(session), (objects) => objects.length === 0);
});

test("nobody else puts logs, and not too much of them", async () => {
  const { session, turn, report } = await runningSession("logs-guard");
  const archive = await gzip(entry("a", "a"));
  const stranger = (await headersOf("somebody-else")).authorization.split(" ")[1];
  expect((await put(turn.logsUrl, "wrong", archive)).status).toBe(401);
  expect((await put(turn.logsUrl, stranger, archive)).status).toBe(403);
  expect((await put(turn.logsUrl, report.token, new Uint8Array(TOO_LARGE))).status).toBe(413);
  expect((await put(turn.logsUrl.replace("exc_", "exc-"), report.token, archive)).status).toBe(404);
  expect(await logs(session.headers, session.id, turn.executionId)).toBe("NOT_FOUND");
});

test("logs are kept only of executions that the session had, whoever puts them", async () => {
  const { session, turn, report } = await runningSession("logs-unknown");
  const archive = await gzip(entry("a", "a"));
  const own = session.headers.authorization.split(" ")[1];
  const another = turn.logsUrl.replace(turn.executionId, "exc_0000000000000000000000000Z");
  const elsewhere = turn.logsUrl.replace(session.id, "agent_00000000-0000-0000-0000-000000000000");
  for (const token of [report.token, own]) {
    for (const url of [another, elsewhere]) {
      expect((await put(url, token, archive)).status).toBe(404);
    }
  }
  const objects = (await env.STORE.list({ prefix: "logs/" })).objects;
  expect(objects.filter(({ key }) => key.includes(session.id) || key.includes("agent_00000000"))).toEqual([]);
});

test("logs that arrive while their session is deleted do not stay", async () => {
  const { session, turn } = await runningSession("logs-gone");
  const own = session.headers.authorization.split(" ")[1];
  const { readable, writable } = new FixedLengthStream(2);
  const writer = writable.getWriter();
  const putting = put(turn.logsUrl, own, readable);
  await writer.write(new Uint8Array(1));
  // Long enough to be let in.
  await new Promise((resolve) => setTimeout(resolve, 500));
  const body = JSON.stringify({ sessionId: session.id });
  await ask("/trpc/deleteSession", { method: "POST", headers: session.headers, body });
  await session.ring();
  await writer.write(new Uint8Array(1));
  await writer.close();
  expect((await putting).status).toBe(404);
  expect(await keptOf(session)).toEqual([]);
});

test("a size that nobody can have ends what is shown of an archive", async () => {
  const { session, turn, report } = await runningSession("logs-size");
  const endless = entry("a", "");
  endless.set(new TextEncoder().encode("37777777777"), 124);
  await put(turn.logsUrl, report.token, await gzip(endless, entry("b", "b")));
  const { content } = await logs(session.headers, session.id, turn.executionId);
  expect(content.startsWith("==> a <==")).toBe(true);
  expect(content).not.toContain("==> b <==");
});
