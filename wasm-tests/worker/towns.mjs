/** A user's town over HTTP, with real tokens. Its object is evicted after every call, so that nothing may live in memory alone. */

import { env, evictDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { expect } from "vitest";

import { bindings } from "./bindings.mjs";
import { ANSWER_MS } from "./socket.mjs";
import { headersOf, sign } from "./tokens.mjs";

const now = () => Math.floor(Date.now() / 1000);

/** What a container of `town` may say. */
export function containerToken(town, claims) {
  const iat = now();
  const own = { townId: town, userId: "u", scope: "container", iat, exp: iat + 8 * 3600, ...claims };
  return sign(bindings.GASTOWN_JWT_SECRET, own);
}

/** What one agent may say, by the older kind of token. */
export function agentToken(townId, rigId, agentId) {
  return sign(bindings.GASTOWN_JWT_SECRET, { townId, rigId, agentId, userId: "u", exp: now() + 60 });
}

/** A user's token. */
export async function userToken(user) {
  return (await headersOf(user)).authorization.replace("Bearer ", "");
}

/** One request; the body as JSON unless it is a text. */
export async function send(method, path, token, body, headers = {}) {
  const response = await exports.default.fetch(`http://worker${path}`, {
    method,
    body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
    headers: token ? { authorization: `Bearer ${token}`, ...headers } : headers,
    signal: AbortSignal.timeout(ANSWER_MS),
  });
  return { status: response.status, body: await response.json() };
}

/** A new town of `user` with one rig, and who may call it. */
export async function newTown(user) {
  const owner = await userToken(user);
  const made = await send("POST", `/api/users/${user}/towns`, owner, { name: "Home" });
  expect(made).toMatchObject({ status: 201, body: { success: true } });
  const id = made.body.data.id;
  const asked = { town_id: id, name: "app", git_url: "https://git.example/app.git" };
  const rig = await send("POST", `/api/users/${user}/rigs`, owner, asked);
  expect(rig).toMatchObject({ status: 201, body: { data: { town_id: id, default_branch: "main" } } });
  await evict(env.USER.get(env.USER.idFromName(`user:${user}`)));
  const container = await containerToken(id);
  const object = env.TOWN.get(env.TOWN.idFromName(id));
  const at = (prefix, token) => async (method, path, body, headers) => {
    const answer = await send(method, `${prefix}${path}`, token, body, headers);
    await evict(object);
    return answer;
  };
  const ok = (call) => async (...asked) => {
    const { status, body } = await call(...asked);
    expect(body).toMatchObject({ success: true });
    expect([200, 201]).toContain(status);
    return body.data;
  };
  const calls = {
    /** Inside the container, below the rig. */
    rig: at(`/api/towns/${id}/rigs/${rig.body.data.id}`, container),
    /** Inside the container, below the town. */
    town: at(`/api/towns/${id}`, container),
    /** Inside the container, as the mayor. */
    tool: at(`/api/mayor/${id}/tools`, container),
    /** The user, below the town. */
    user: at(`/api/towns/${id}`, owner),
  };
  return {
    id,
    rigId: rig.body.data.id,
    object,
    owner,
    container,
    ...calls,
    /** The same calls, which must succeed; they return `data`. */
    ok: Object.fromEntries(Object.entries(calls).map(([name, call]) => [name, ok(call)])),
  };
}

/** Evicts an object, if the call reached it. */
async function evict(object) {
  try {
    await evictDurableObject(object);
  } catch (error) {
    if (!String(error).includes("not currently running")) throw error;
  }
}

/** The answer of a refusal. */
export function refused(status, error) {
  return { status, body: { success: false, error } };
}
