// The container's object through the built Worker, with no container host to be found. It is evicted after each step.

import { env, evictDurableObject, runInDurableObject } from "cloudflare:test";
import { expect, test } from "vitest";

import { bindings } from "./bindings.mjs";
import { ANSWER_MS, eventually } from "./socket.mjs";
import { ask } from "./wrapper.mjs";

const SESSION = "agent_01234567-89ab-cdef-0123-456789abcdef";

/** A container object, and calls to it as session objects make them. */
function sandboxOf(name) {
  const object = env.SANDBOX.get(env.SANDBOX.idFromName(name));
  const rows = (sql) => runInDurableObject(object, (_object, state) => state.storage.sql.exec(sql).toArray());
  return {
    rows,
    alarm: () => runInDurableObject(object, (_object, state) => state.storage.getAlarm()),
    async post(path) {
      const response = await object.fetch(`http://sandbox${path}`, { method: "POST", signal: AbortSignal.timeout(ANSWER_MS) });
      const body = await response.text();
      await evictDurableObject(object);
      return [response.status, body && JSON.parse(body).error];
    },
  };
}

/** Where the container's life is, and who holds it. */
async function life({ rows, alarm }) {
  const [states, leases] = [await rows("SELECT state FROM container"), await rows("SELECT holder FROM lease ORDER BY holder")];
  return { states: states.map((row) => row.state), leases: leases.map((row) => row.holder), alarm: await alarm() };
}

const LATER = Date.now() + 3_600_000;
/** A container as the object knows it: nothing runs. */
const RUNNING = `INSERT INTO container (one, state, instance, token, since, used_at) VALUES (1, 'running', 'i2', 't', ${LATER}, ${LATER})`;

const NOTHING = { states: [], leases: [], alarm: null };
const STOPPED = { states: ["stopped"], leases: [], alarm: null };

test("work that needs a container is told to come again, and leaves the object at rest", async () => {
  const sandbox = sandboxOf("usr-work");
  for (let n = 0; n < 2; n += 1) {
    expect(await sandbox.post(`/sessions/${SESSION}/work?wake=1&lease=exc_1`)).toEqual([503, "SANDBOX_CONNECT_FAILED"]);
    expect(await life(sandbox)).toEqual(STOPPED);
  }
});

test("a container that does not run is not started to be looked at", async () => {
  const sandbox = sandboxOf("usr-look");
  for (const path of ["job/abort", "stop"]) {
    expect(await sandbox.post(`/sessions/${SESSION}/${path}`)).toEqual([410, "NOT_RUNNING"]);
    expect(await life(sandbox)).toEqual(NOTHING);
  }
  await sandbox.post(`/sessions/${SESSION}/work?wake=1`);
  expect(await sandbox.post(`/sessions/${SESSION}/job/abort`)).toEqual([410, "NOT_RUNNING"]);
  expect(await life(sandbox)).toEqual(STOPPED);
});

test("a lease is given back by its holder alone, as often as it likes", async () => {
  const sandbox = sandboxOf("usr-lease");
  expect((await sandbox.post("/lease/release/exc_1"))[0]).toBe(200);
  // As they are while their container starts.
  await sandbox.rows(`INSERT INTO lease (holder, expires_at) VALUES ('exc_1', ${LATER}), ('exc_2', ${LATER})`);
  for (let n = 0; n < 2; n += 1) {
    expect((await sandbox.post("/lease/release/exc_1"))[0]).toBe(200);
    expect((await life(sandbox)).leases).toEqual(["exc_2"]);
  }
});

test("the host's notice of an end needs the host's token, and counts for the instance that it names", async () => {
  const sandbox = sandboxOf("usr-exit");
  await sandbox.rows(RUNNING);
  const notice = async (instance, token) => {
    const headers = token ? { authorization: `Bearer ${token}` } : {};
    const response = await ask(`/internal/containers/sandbox/usr-exit/${instance}/exited`, { method: "POST", headers });
    return response.status;
  };
  expect(await notice("i2")).toBe(401);
  expect(await notice("i2", "wrong")).toBe(401);
  expect(await notice("i1", bindings.HOLDFAST_HOST_TOKEN)).toBe(200);
  expect((await life(sandbox)).states).toEqual(["running"]);
  expect(await notice("i2", bindings.HOLDFAST_HOST_TOKEN)).toBe(200);
  await eventually(() => life(sandbox), ({ states, alarm }) => states[0] === "stopped" && alarm === null);
});

test("a container of which its host says nothing is not given up, and its caller is told to come again", async () => {
  const sandbox = sandboxOf("usr-mute");
  await sandbox.rows(RUNNING);
  expect(await sandbox.post(`/sessions/${SESSION}/job/abort`)).toEqual([503, "SANDBOX_CONNECT_FAILED"]);
  expect((await life(sandbox)).states).toEqual(["running"]);
});
