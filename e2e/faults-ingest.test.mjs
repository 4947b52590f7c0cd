// The connection between a container and the real Worker breaks in every way, in the middle of a recorded burst: the session's log is what the agent said,
// as `normalise` has it, once each and in order. The agent's part is played, so that what it said is known.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";

import { ROOT, WORK, inRoot } from "../scripts/lib/paths.mjs";
import { holdfast, processesUnder, until } from "./harness.mjs";
import { Player } from "./player.mjs";
import { Proxy } from "./proxy.mjs";
import { Turns, entityKey } from "./turns.mjs";

const proxy = new Proxy();
after(() => proxy.stop());
const player = new Player(join(WORK, "e2e", "faults-ingest-player"));
// The grace is longer than workerd takes to come back, and shorter than the silence (`transport_ms_max`) after which the agent, which is played and says
// nothing by itself, would be asked whether its turn is over.
const it = holdfast("faults-ingest", {}, {
  agent: player.folder,
  front: (port) => proxy.open(port),
  limits: { session: { disconnect_grace_ms: 8_000 }, sandbox: { batch_ms: 5, reconnect_backoff_ms_min: 10, reconnect_backoff_ms_max: 50 } },
});
const turns = new Turns(it);

const RECORDED = readFileSync(inRoot("fixtures", "kilo", "kilo-sse-transcript.jsonl"), "utf8")
  .trim()
  .split("\n")
  .map((line) => JSON.parse(line))
  .filter(({ dir }) => dir === "sse")
  .map(({ data }) => JSON.stringify(data));

/** The recording from its beginning, as often as it takes. */
const burst = (count) => Array.from({ length: count }, (_, n) => RECORDED[n % RECORDED.length]);

/** Numbers that look random and are the same in each run. */
let noise = 7;
const random = (below) => (noise = (noise * 1_103_515_245 + 12_345) % 2_147_483_648) % below;

/** An event of the session's own agent. */
const own = (type, properties = {}) => JSON.stringify({ type, properties: { sessionID: turns.kiloSessionId, ...properties } });

/** Of a log, what does not depend on how it was cut into windows: its events in order, and the last value of each entity. */
function outcome(entries) {
  const log = [];
  const entities = new Map();
  for (const { key, data } of entries) {
    if (key) entities.set(key, data);
    else log.push(data);
  }
  return { log, entities: Object.fromEntries([...entities].sort()) };
}

/** What `normalise` makes of what the agent said. */
function expected(payloads) {
  const args = ["run", "--quiet", "--locked", "--package", "sandbox-core", "--example", "normalise"];
  const text = execFileSync("cargo", args, { cwd: ROOT, input: payloads.join("\n"), maxBuffer: 1 << 28, encoding: "utf8" });
  return outcome(text.trim().split("\n").map((line) => JSON.parse(line)));
}

/** What the object has of what the agent said in one execution. */
async function stored(executionId) {
  const frames = (await turns.replay()).filter((frame) => frame.executionId === executionId);
  const agents = frames.filter(({ streamEventType }) => streamEventType === "kilocode");
  return { ...outcome(agents.map((frame) => ({ key: entityKey(frame), data: frame.data }))), kinds: frames.map(({ streamEventType }) => streamEventType) };
}

/** Begins a turn, has `play` say and do things in it, and returns what was said and what is stored. */
async function run(play, ended) {
  const before = (await player.asked()).prompts;
  const executionId = await turns.start("Go.");
  await until("the prompt", async () => (await player.asked()).prompts > before && (await player.asked()).readers === 1);
  const said = [];
  const say = async (payloads) => {
    said.push(...payloads);
    await player.say(payloads);
  };
  await say([own("session.turn.open")]);
  await play(say);
  // A viewer that comes while the turn runs is told where the agent stands, which the agent did not say.
  await until("the end of the execution", async () => (await it.api.session(turns.sessionId)).execution === null, 60_000);
  const is = (frame) => frame.executionId === executionId && frame.streamEventType === ended;
  await until(`${ended} is in the log`, async () => (await turns.replayed()).some(is), 60_000);
  const { kinds, ...found } = await stored(executionId);
  assert.ok(!kinds.includes("events_lost"), "events were given up");
  assert.deepEqual(found, expected(said));
  return kinds;
}

const over = () => own("session.turn.close", { reason: "completed" });

describe("a recorded burst through a connection that breaks", { timeout: 600_000 }, () => {
  test("cut 50 times at random points: nothing is lost or doubled", async () => {
    const kinds = await run(async (say) => {
      const before = proxy.cuts;
      // From the handshake alone to a dozen frames.
      proxy.cutAfter(() => 300 + random(12_000));
      for (let n = 1; n <= 50; n++) {
        await until(`cut ${n}`, async () => {
          await say(burst(100));
          return proxy.cuts >= before + n;
        });
      }
      proxy.cutAfter(() => Infinity);
      await say([over()]);
    }, "complete");
    assert.ok(proxy.connections > 50);
    assert.equal(kinds.at(-1), "complete");
  });

  test("SIGKILL of workerd in the middle: nothing is lost or doubled", async () => {
    await run(async (say) => {
      const kill = it.services.killWorker();
      for (let n = 0; n < 20; n++) await say(burst(100));
      await kill;
      await it.services.startWorker();
      await say([...burst(500), over()]);
    }, "complete");
  });

  test("a cut longer than the grace ends the execution, and its log is whole all the same", async () => {
    const kinds = await run(async (say) => {
      await say(burst(300));
      proxy.refuse();
      await say(burst(700));
      const ended = async () => (await it.api.session(turns.sessionId)).execution === null;
      await until("the end of the grace", ended, 60_000);
      proxy.admit();
    }, "interrupted");
    assert.ok(kinds.includes("wrapper_disconnected"), `${kinds}`);
    const { lastExecution } = await it.api.session(turns.sessionId);
    assert.equal(lastExecution.status, "failed", "what came later changes no state");
  });

  test("SIGKILL of the wrapper while nobody takes its events: what it had is in the log", async () => {
    const kinds = await run(async (say) => {
      await say(burst(300));
      proxy.refuse();
      await say([...burst(700), own("session.updated", { info: { title: "the last one" } })]);
      await until("all is spooled", () => spools().some((text) => text.includes("the last one")));
      const [wrapper] = processesUnder(it.services.containers).filter(({ args }) => /sandboxd session$/.test(args));
      process.kill(wrapper.pid, "SIGKILL");
      proxy.admit();
    }, "error");
    assert.equal(kinds.at(-1), "error");
    const { lastExecution } = await it.api.session(turns.sessionId);
    assert.deepEqual([lastExecution.status, lastExecution.error], ["failed", "Wrapper restarted"]);
  });
});

/** The texts of all spools of the container. */
function spools() {
  const files = readdirSync(it.services.containers, { recursive: true, withFileTypes: true });
  return files.filter(({ name }) => name.startsWith("spool-")).map(({ parentPath, name }) => readFileSync(join(parentPath, name), "latin1"));
}
