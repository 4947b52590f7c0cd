// A town's container and its object: a real eviction by SIGTERM, and the replacement that ends the drain.

import assert from "node:assert/strict";
import { test } from "node:test";

import { sign, userToken } from "../scripts/lib/tokens.mjs";
import { holdfast, until } from "./harness.mjs";

const it = holdfast("town");

const USER = "usr-town";
const SANDBOX_TOKEN = "a-token-of-the-container";

/** The town's id. */
let town;

async function makeTown() {
  const headers = { authorization: `Bearer ${userToken(it.services.secrets.NEXTAUTH_SECRET, USER)}` };
  const made = await call(`${it.services.url}/api/users/${USER}/towns`, "POST", headers, { name: "Home" });
  assert.equal(made.status, 201);
  town = made.body.data.id;
}

/** The town's container token (spec/town.md 2.1). */
function containerToken() {
  const iat = Math.floor(Date.now() / 1000);
  return sign(it.services.secrets.GASTOWN_JWT_SECRET, { townId: town, userId: USER, scope: "container", iat, exp: iat + 600 });
}

async function call(url, method, headers, body) {
  const response = await fetch(url, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(20_000),
  });
  const text = await response.text();
  return { status: response.status, body: text ? JSON.parse(text) : undefined };
}

const host = (method, path, body) =>
  call(`${it.services.hostUrl}/containers/town-${town}${path}`, method, {
    authorization: path.startsWith("/ports") ? `Bearer ${SANDBOX_TOKEN}` : `Bearer ${it.services.secrets.HOLDFAST_HOST_TOKEN}`,
    "x-holdfast-host-token": it.services.secrets.HOLDFAST_HOST_TOKEN,
  }, body);

const drainStatus = async () => {
  const answer = await call(`${it.services.url}/api/towns/${town}/drain-status`, "GET", { authorization: `Bearer ${containerToken()}` });
  assert.equal(answer.status, 200);
  return answer.body.data;
};

/** Starts the town's container and waits until it serves. */
async function start() {
  const env = {
    GASTOWN_TOWN_ID: town,
    GASTOWN_API_URL: it.services.url,
    GASTOWN_CONTAINER_TOKEN: containerToken(),
    HOLDFAST_SANDBOX_TOKEN: SANDBOX_TOKEN,
  };
  assert.equal((await host("PUT", "", { role: "town", env })).status, 201);
  return until("the town's container serves", async () => {
    const answer = await host("GET", "/ports/8080/health");
    return answer.status === 200 && answer.body;
  });
}

test("SIGTERM drains the town, and the replacement's health ends the drain", async () => {
  await makeTown();
  const first = await start();
  assert.deepEqual([first.status, first.draining], ["ok", false]);
  assert.deepEqual(await drainStatus(), { draining: false, drainNonce: null });

  assert.equal((await host("POST", "/signal", { signal: "SIGTERM" })).status, 202);
  const drain = await until("the town drains", async () => {
    const status = await drainStatus();
    return status.draining && status;
  });
  await until("the evicted container ends", async () => (await host("GET", "")).body.running === false);

  const second = await start();
  assert.notEqual(second.containerInstanceId, first.containerInstanceId);
  const handover = await call(`${it.services.hostUrl}/containers/town-${town}/ports/8080/health`, "GET", {
    authorization: `Bearer ${SANDBOX_TOKEN}`,
    "x-holdfast-host-token": it.services.secrets.HOLDFAST_HOST_TOKEN,
    "x-drain-nonce": drain.drainNonce,
    "x-town-id": town,
  });
  assert.equal(handover.status, 200);
  await until("the drain ends", async () => (await drainStatus()).draining === false);
});
