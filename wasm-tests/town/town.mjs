/** A town of the built Worker, made and used through its routes, with the container that the host plays. */

import { env, evictDurableObject, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { exports } from "cloudflare:workers";
import { expect, inject, vi } from "vitest";

import { bindings } from "../worker/bindings.mjs";
import { ANSWER_MS, eventually } from "../worker/socket.mjs";
import { headersOf, sign } from "../worker/tokens.mjs";

export const RIG = "rig";

/** Calls the Worker. */
export function ask(path, init) {
  return exports.default.fetch(`http://worker${path}`, { signal: AbortSignal.timeout(ANSWER_MS), ...init });
}

/** What the container of a town may say. */
export function containerToken(town, now = Date.now()) {
  const iat = Math.floor(now / 1000);
  return sign(bindings.GASTOWN_JWT_SECRET, { townId: town, userId: "u", scope: "container", iat, exp: iat + 8 * 3600 });
}

/** The claims of a token that the Worker signed. */
export async function claimsOf(token) {
  const [head, payload] = token.split(".");
  const claims = JSON.parse(atob(payload.replaceAll("-", "+").replaceAll("_", "/")));
  expect(JSON.parse(atob(head))).toEqual({ alg: "HS256", typ: "JWT" });
  expect(token).toBe(await sign(bindings.GASTOWN_JWT_SECRET, claims));
  return claims;
}

/** A new town of a user of its own, with one rig, at rest. */
export async function newTown(name, config) {
  const user = `usr-${name}`;
  const headers = await headersOf(user);
  const post = async (path, body, method = "POST") => {
    const response = await ask(path, { method, headers, body: JSON.stringify(body) });
    const answer = await response.json();
    expect(answer).toMatchObject({ success: true });
    return answer.data;
  };
  const { id } = await post(`/api/users/${user}/towns`, { name });
  const rig = await post(`/api/users/${user}/rigs`, { town_id: id, name: RIG, git_url: "https://example.com/r.git" });
  const town = new Town(id, rig.id, headers, user);
  await evictDurableObject(env.USER.get(env.USER.idFromName(`user:${user}`)));
  if (config) await post(`/api/towns/${id}/config`, config, "PATCH");
  await town.rest();
  return town;
}

class Town {
  constructor(id, rig, headers, user) {
    Object.assign(this, { id, rig, headers, user });
    this.object = env.TOWN.get(env.TOWN.idFromName(id));
    this.container = env.TOWN_CONTAINER.get(env.TOWN_CONTAINER.idFromName(id));
  }

  evict() {
    return evictDurableObject(this.object);
  }

  /** Waits until nothing is owed, and evicts the object. */
  async rest() {
    await eventually(() => this.owed(), (owed) => owed.length === 0);
    await this.evict();
  }

  sql(sql, ...values) {
    return runInDurableObject(this.object, (_object, state) => state.storage.sql.exec(sql, ...values).toArray());
  }

  alarm() {
    return runInDurableObject(this.object, (_object, state) => state.storage.getAlarm());
  }

  async owed() {
    return (await this.sql("SELECT key FROM owed ORDER BY key")).map((row) => row.key);
  }

  /** Moves the clock of the isolate and rings the alarm as the platform would. Whether there was one. */
  async ring(ms = 0) {
    if (ms > 0) vi.setSystemTime(Date.now() + ms);
    return runDurableObjectAlarm(this.object);
  }

  /** A call of the container, or of an agent in it. */
  async call(method, path, body) {
    const headers = { authorization: `Bearer ${await containerToken(this.id)}` };
    const response = await ask(path, { method, headers, body: body && JSON.stringify(body) });
    const answer = await response.json();
    expect(answer).toMatchObject({ success: true });
    return answer.data;
  }

  town(method, path, body) {
    return this.call(method, `/api/towns/${this.id}${path}`, body);
  }

  inRig(method, path, body) {
    return this.town(method, `/rigs/${this.rig}${path}`, body);
  }

  /** New work, with an agent for it. */
  sling(title) {
    return this.call("POST", `/api/mayor/${this.id}/tools/sling`, { rig_id: this.rig, title });
  }

  bead(id) {
    return this.inRig("GET", `/beads/${id}`);
  }

  heartbeat(agent, instance) {
    return this.inRig("POST", `/agents/${agent}/heartbeat`, { containerInstanceId: instance, activeTools: [] });
  }

  /** A call of the town's user. */
  asUser(path, init) {
    return ask(`/api/towns/${this.id}${path}`, { ...init, headers: { ...this.headers, ...init?.headers } });
  }

  /** What became of the container. */
  async played() {
    return (await fetch(`${inject("host")}/play/${this.id}`)).json();
  }

  /** How the container is to behave from now on. */
  async play(play) {
    await fetch(`${inject("host")}/play/${this.id}`, { method: "PUT", body: JSON.stringify(play) });
  }

  /** The container ends, and its host says so. */
  async end() {
    await fetch(`${inject("host")}/play/${this.id}`, { method: "DELETE" });
    const [{ instance }] = await runInDurableObject(this.container, (_object, state) =>
      state.storage.sql.exec("SELECT instance FROM container").toArray(),
    );
    const response = await ask(`/internal/containers/town/${this.id}/${instance}/exited`, {
      method: "POST",
      headers: { authorization: `Bearer ${bindings.HOLDFAST_HOST_TOKEN}` },
    });
    expect(response.status).toBe(200);
    await response.text();
  }

  /** What the container was asked on paths that match, once there is as much as this. */
  async asked(matches, count = 1) {
    const look = async () => (await this.played()).asked.filter(({ path }) => path.match(matches));
    return eventually(look, (asked) => asked.length >= count);
  }
}
