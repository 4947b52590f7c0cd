// What a caller gets who does it wrong: the family's own error shape, and nothing is stored.

import assert from "node:assert/strict";
import { test } from "node:test";

import { sign, userToken } from "../scripts/lib/tokens.mjs";
import { holdfast } from "./harness.mjs";

const it = holdfast("bad-input");

const INPUT = { prompt: "p", mode: "code", model: "scripted", gitUrl: "https://example.com/r.git", autoInitiate: true };
const TICKET = "/api/cloud-agent-next/sessions/stream-ticket";

const bearer = (token) => ({ authorization: `Bearer ${token}` });
const user = () => bearer(userToken(it.services.secrets.NEXTAUTH_SECRET, "bad-input"));
const backend = () => ({ ...user(), "x-internal-api-key": it.services.secrets.INTERNAL_API_SECRET });

async function call(method, path, headers = {}, body = undefined) {
  const response = await fetch(it.services.url + path, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "object" ? JSON.stringify(body) : body,
    signal: AbortSignal.timeout(20_000),
  });
  const text = await response.text();
  return { status: response.status, body: JSON.parse(text) };
}

/** The tRPC family's error: spec/session.md 2.3. */
function assertTrpc({ status, body }, expected, code, path) {
  assert.equal(status, expected, JSON.stringify(body));
  assert.equal(body.error.data.code, code);
  assert.equal(body.error.data.httpStatus, expected);
  assert.equal(body.error.data.path, path);
  assert.equal(typeof body.error.message, "string");
}

test("an unknown route is 404, a wrong method 405", async () => {
  assert.deepEqual(await call("GET", "/nowhere"), { status: 404, body: { error: "Not found" } });
  assert.equal((await call("GET", "/api/nowhere", backend())).status, 404);
  assertTrpc(await call("POST", "/trpc/nothing", backend(), {}), 404, "NOT_FOUND", "nothing");
  assert.equal((await call("POST", "/health")).status, 405);
  assert.equal((await call("GET", TICKET, backend())).status, 405);
  assert.equal((await call("GET", "/trpc/prepareSession", backend())).status, 405);
});

test("a missing or bad token is 401", async () => {
  const { NEXTAUTH_SECRET: secret } = it.services.secrets;
  const exp = Math.floor(Date.now() / 1000) + 60;
  const cases = {
    "Missing Authorization header": {},
    "Invalid Authorization header format": { authorization: "Basic x" },
    "Invalid token signature": bearer(userToken("another secret", "u")),
    "Token expired": bearer(userToken(secret, "u", -60)),
    "Invalid token version: 2, expected 3": bearer(sign(secret, { kiloUserId: "u", version: 2, exp })),
  };
  for (const [message, headers] of Object.entries(cases)) {
    const answer = await call("POST", "/trpc/prepareSession", headers, INPUT);
    assertTrpc(answer, 401, "UNAUTHORIZED", "prepareSession");
    assert.equal(answer.body.error.message, message);
  }
  assertTrpc(await call("POST", "/trpc/prepareSession", user(), INPUT), 401, "UNAUTHORIZED", "prepareSession");
  assertTrpc(
    await call("POST", "/trpc/prepareSession", { ...user(), "x-internal-api-key": "wrong" }, INPUT),
    401,
    "UNAUTHORIZED",
    "prepareSession",
  );
  assert.equal((await call("POST", TICKET, user(), {})).status, 401);
});

test("an unparsable body is 400, one that is too large 413", async () => {
  assertTrpc(await call("POST", "/trpc/prepareSession", backend(), "{"), 400, "BAD_REQUEST", "prepareSession");
  const large = await call("POST", "/trpc/prepareSession", backend(), JSON.stringify({ ...INPUT, prompt: "x".repeat(20_000_000) }));
  assert.equal(large.status, 413, JSON.stringify(large.body));
});

test("an invalid input is 400 and names the field", async () => {
  const cases = {
    prompt: "x".repeat(100_001),
    mode: "shout",
    model: "not a model",
    gitUrl: "ftp://example.com/r",
    setupCommands: Array(21).fill("true"),
    envVars: { HOME: "/" },
    upstreamBranch: "a..b",
    autoInitiate: "yes",
  };
  for (const [field, value] of Object.entries(cases)) {
    const answer = await call("POST", "/trpc/prepareSession", backend(), { ...INPUT, [field]: value });
    assertTrpc(answer, 400, "BAD_REQUEST", "prepareSession");
    const issues = JSON.parse(answer.body.error.message);
    assert.deepEqual(issues.map(({ path }) => path), [[field]], answer.body.error.message);
  }
  assertTrpc(await call("GET", "/trpc/getSession?input=%7B%7D", user()), 400, "BAD_REQUEST", "getSession");
});

test("a stream needs an upgrade and a ticket of its own session", async () => {
  assert.equal((await fetch(`${it.services.url}/stream`)).status, 426);
  const { status, body } = await call("POST", TICKET, backend(), { cloudAgentSessionId: `agent_${crypto.randomUUID()}` });
  assert.equal(status, 403, JSON.stringify(body));
});

test("town routes are closed without a container's token", async () => {
  for (const [method, path] of [
    ["POST", "/api/towns/t1/container-eviction"],
    ["POST", "/api/towns/t1/container-ready"],
    ["GET", "/api/towns/t1/drain-status"],
  ]) {
    assert.equal((await call(method, path, {}, method === "GET" ? undefined : {})).status, 401, path);
    assert.equal((await call(method, path, user(), method === "GET" ? undefined : {})).status, 401, path);
  }
});

test("nothing of all this was stored", async () => {
  const { status, body } = await call("GET", "/trpc/listSessions", user());
  assert.equal(status, 200, JSON.stringify(body));
  assert.deepEqual(body.result.data.sessions, []);
});
