// Callbacks against a real receiver that fails, hangs, hangs up, redirects, says no and recovers.

import { runDurableObjectAlarm } from "cloudflare:test";
import { afterEach, expect, inject, test, vi } from "vitest";

import { bindings } from "./bindings.mjs";
import { eventually } from "./socket.mjs";
import { headersOf } from "./tokens.mjs";
import { ask, complete, runningSession } from "./wrapper.mjs";

const RECEIVER = inject("receiver");
const SECOND = 1_000;
const KEY = "s3cret-receiver-key";

afterEach(() => vi.useRealTimers());

/** A finished session whose callback goes to a receiver that follows `script`. */
async function finished(name, script, end = complete(1)) {
  vi.useFakeTimers({ toFake: ["Date"] });
  const callbackTarget = { url: `${RECEIVER}/hook/${name}/${script}`, headers: { "X-Receiver-Key": KEY, "content-type": "text/plain" } };
  const { session, wrapper, turn } = await runningSession(`callback-${name}`, { callbackTarget });
  wrapper.send(end);
  await wrapper.next();
  return { session, turn };
}

const received = async (name) => (await fetch(`${RECEIVER}/log/${name}`)).json();

/** The callback as the object owes it; undefined once it is delivered. */
async function debt(session) {
  const [row] = await session.rows("SELECT attempt, retry_at, dead FROM owed WHERE key LIKE 'callback/%'");
  return row;
}

/** Rings the alarm for the try of number `attempt`, and waits for its outcome: the row that is left, if any. */
async function outcomeOf(session, attempt) {
  for (let tries = 0; tries < 1_200; tries += 1) {
    const row = await debt(session);
    if (!row || row.dead !== null) return row;
    if (row.attempt < attempt) await runDurableObjectAlarm(session.object);
    else if (row.retry_at - Date.now() <= 60 * SECOND * 2 ** (attempt - 1)) return row;
    // A try that hangs takes ten seconds to fail.
    else await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`try ${attempt} has no outcome`);
}

/** The whole HMAC again, with nothing of the Worker's. */
async function isSigned({ headers, body }) {
  const utf8 = (text) => new TextEncoder().encode(text);
  const algorithm = { name: "HMAC", hash: "SHA-256" };
  const key = await crypto.subtle.importKey("raw", utf8(bindings.CALLBACK_SIGNING_SECRET), algorithm, false, ["verify"]);
  const [version, signature] = headers["webhook-signature"].split(",");
  const signed = utf8(`${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`);
  return version === "v1" && crypto.subtle.verify("HMAC", key, Uint8Array.from(atob(signature), (c) => c.charCodeAt(0)), signed);
}

test("a callback has the exact body, the caller's headers and a valid signature, and is sent once", async () => {
  const { session, turn } = await finished("plain", "204", { streamEventType: "complete", seq: 1, data: { exitCode: 0, currentBranch: "topic" } });
  await outcomeOf(session, 1);
  await eventually(() => debt(session), (row) => row === undefined);
  const [request, ...more] = await received("plain");
  expect(more).toEqual([]);
  const { kiloSessionId } = await session.view();
  expect(request.method).toBe("POST");
  expect(JSON.parse(request.body)).toEqual({
    sessionId: session.id,
    cloudAgentSessionId: session.id,
    executionId: turn.executionId,
    status: "completed",
    lastSeenBranch: "topic",
    kiloSessionId,
  });
  expect(request.headers).toMatchObject({
    "content-type": "application/json",
    "x-receiver-key": KEY,
    "webhook-id": `msg_${turn.executionId}`,
    "webhook-timestamp": `${Math.floor(Date.now() / SECOND)}`,
  });
  expect(await isSigned(request)).toBe(true);
  expect(await isSigned({ ...request, body: `${request.body} ` })).toBe(false);
  expect((await session.view()).callbacks).toBe(undefined);
});

test.each(["200", "201", "204"])("an answer of %s is a delivery", async (status) => {
  const { session } = await finished(`good-${status}`, status);
  await outcomeOf(session, 1);
  await eventually(() => debt(session), (row) => row === undefined);
});

test("a failed run is told with its error", async () => {
  const { session } = await finished("failed", "200", { streamEventType: "error", seq: 1, data: { fatal: true, error: "no credit" } });
  await outcomeOf(session, 1);
  const [{ body }] = await eventually(() => received("failed"), (all) => all.length > 0);
  expect(JSON.parse(body)).toMatchObject({ status: "failed", errorMessage: "no credit" });
  expect(JSON.parse(body)).not.toHaveProperty("lastAssistantMessageText");
});

test("a receiver that fails in every way is tried five times, at 60, 120, 240 and 480 s, and then shown as dead to the owner alone", async () => {
  const { session, turn } = await finished("down", "500,drop,429,502,503");
  for (const [attempt, pause] of [[1, 60], [2, 120], [3, 240], [4, 480]]) {
    const row = await outcomeOf(session, attempt);
    expect(row).toEqual({ attempt, retry_at: Date.now() + pause * SECOND, dead: null });
    expect((await session.view()).callbacks).toEqual([{ executionId: turn.executionId, attempts: attempt }]);
    await session.evict();
    vi.setSystemTime(Date.now() + pause * SECOND - 1);
    await session.ring();
    expect(await received("down")).toHaveLength(attempt);
    vi.setSystemTime(Date.now() + 1);
  }
  const dead = await outcomeOf(session, 5);
  expect(dead).toMatchObject({ attempt: 5, dead: "the receiver answered 503" });
  const requests = await received("down");
  expect(requests).toHaveLength(5);
  expect(new Set(requests.map(({ headers }) => headers["webhook-id"]))).toEqual(new Set([`msg_${turn.executionId}`]));
  expect(new Set(requests.map(({ body }) => body)).size).toBe(1);
  const stamps = requests.map(({ headers }) => Number(headers["webhook-timestamp"]));
  expect(stamps.map((stamp) => stamp - stamps[0])).toEqual([0, 60, 180, 420, 900]);
  for (const request of requests) expect(await isSigned(request)).toBe(true);

  vi.setSystemTime(Date.now() + 1800 * SECOND);
  await session.ring();
  expect(await received("down")).toHaveLength(5);
  const view = await session.view();
  expect(view.callbacks).toEqual([{ executionId: turn.executionId, attempts: 5, givenUp: "the receiver answered 503" }]);
  expect(JSON.stringify(view)).not.toContain(RECEIVER);
  expect(JSON.stringify(view)).not.toContain(KEY);
  const stranger = await headersOf("oauth/stranger:1");
  const input = encodeURIComponent(JSON.stringify({ cloudAgentSessionId: session.id }));
  expect((await ask(`/trpc/getSession?input=${input}`, { headers: stranger })).status).toBe(404);
});

test("a receiver that hangs is given ten seconds, and gets it once it has recovered", async () => {
  const { session } = await finished("slow", "hang,200");
  const row = await outcomeOf(session, 1);
  expect(row).toEqual({ attempt: 1, retry_at: Date.now() + 60 * SECOND, dead: null });
  vi.setSystemTime(Date.now() + 60 * SECOND);
  await outcomeOf(session, 2);
  await eventually(() => debt(session), (left) => left === undefined);
  expect(await received("slow")).toHaveLength(2);
});

test.each([
  ["400", "the receiver answered 400"],
  ["404", "the receiver answered 404"],
  ["redirect", "the receiver answered 302"],
])("an answer of %s is final", async (script, reason) => {
  const { session } = await finished(`final-${script}`, script);
  expect(await outcomeOf(session, 1)).toMatchObject({ attempt: 1, dead: reason });
  vi.setSystemTime(Date.now() + 1800 * SECOND);
  await session.ring();
  expect(await received(`final-${script}`)).toHaveLength(1);
});

test("a private host is refused at input, and again when the time has come", async () => {
  const headers = await headersOf("oauth/private:1");
  const input = { prompt: "go", mode: "code", model: "scripted", gitUrl: "file:///nowhere.git" };
  for (const url of ["https://10.0.0.1/x", "https://localhost/x", "https://metadata.internal/x", "http://example.com/x", "https://[::1]/x", "http://127.0.0.2/x"]) {
    const body = JSON.stringify({ ...input, callbackTarget: { url } });
    const response = await ask("/trpc/prepareSession", { method: "POST", headers, body });
    expect(response.status, url).toBe(400);
    expect(JSON.parse((await response.json()).error.message)[0].path).toEqual(["callbackTarget"]);
  }
  const callbackTarget = { url: `${RECEIVER}/hook/private/200` };
  const { session, wrapper } = await runningSession("callback-private", { callbackTarget });
  // As a version of yesterday may have stored it.
  await session.rows(`UPDATE session SET input = replace(input, '${RECEIVER}', 'https://10.0.0.1')`);
  wrapper.send(complete(1));
  await wrapper.next();
  expect(await outcomeOf(session, 1)).toMatchObject({ dead: "callbackTarget.url must name a public host" });
});
