/** `sandboxd town`: what it costs at rest, and what its drain adds to what the agents need themselves. The agents are played (e2e/agent), git is real. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { inRoot } from "../../scripts/lib/paths.mjs";
import { choosePort } from "../../scripts/lib/ports.mjs";
import { sampleRepository } from "../../scripts/lib/repository.mjs";

const TOKEN = "the-bench";
const READY_MS = 30_000;
/** After this, what the start needed and no rest does has been given back. */
const SETTLE_MS = 500;

/**
 * Measures one container from its start to the end of its drain.
 *
 * @param {string} sandboxd the program
 * @param {number} agents each with a worktree in which something is not committed
 * @returns {Promise<{restKiB: number, overheadMs: number, pushed: number}>} `overheadMs`: the whole drain but the wait for agents
 */
export async function measureTown(sandboxd, agents) {
  const folder = mkdtempSync(join(tmpdir(), "holdfast-bench-"));
  const worker = createServer(answer).listen(0, "127.0.0.1");
  await once(worker, "listening");
  const gitUrl = await sampleRepository(join(folder, "origin.git"));
  const port = await choosePort();
  const child = spawn(sandboxd, ["town"], { env: environment(folder, worker.address().port, port), stdio: ["ignore", "ignore", "pipe"] });
  const ended = once(child, "exit");
  try {
    const log = [];
    let rest = "";
    child.stderr.setEncoding("utf8").on("data", (text) => {
      const lines = (rest + text).split("\n");
      rest = lines.pop();
      log.push(...lines.filter(Boolean).map((line) => JSON.parse(line)));
    });
    const call = async (path, body) => {
      const options = { method: body ? "POST" : "GET", body: body && JSON.stringify(body) };
      const headers = { authorization: `Bearer ${TOKEN}`, "content-type": "application/json" };
      const response = await fetch(`http://127.0.0.1:${port}${path}`, { ...options, headers });
      if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
      return response.json();
    };
    await until(() => call("/health"));
    await sleep(SETTLE_MS);
    const restKiB = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${child.pid}/status`, "utf8"))[1]);
    for (let n = 0; n < agents; n++) await call("/agents/start", start(n, gitUrl));
    await until(async () => {
      for (let n = 0; n < agents; n++) {
        const { events } = await call(`/agents/a${n}/events`);
        if (!events.some(({ event }) => event === "session.idle")) throw new Error(`agent ${n} is at work`);
      }
    });
    child.kill("SIGTERM");
    await ended;
    const entered = (phase) => log.find((line) => line.event === "drain" && line.phase === phase).ms;
    const { ms, pushed } = log.find(({ event }) => event === "drained");
    return { restKiB, overheadMs: ms - (entered("freeze") - entered("wait")), pushed };
  } finally {
    child.kill("SIGKILL");
    await ended;
    worker.close();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** As the town: everything is fine, and nobody was here before. */
function answer(request, response) {
  request.resume().on("end", () => {
    const data = request.url.endsWith("/container-registry") || request.url.endsWith("/pending-nudges") ? [] : {};
    response.writeHead(request.url.endsWith("/db-snapshot") && request.method === "GET" ? 404 : 200, { "content-type": "application/json" });
    response.end(JSON.stringify({ success: true, data }));
  });
}

function environment(folder, workerPort, port) {
  const root = join(folder, "root");
  mkdirSync(root);
  return {
    PATH: [inRoot("e2e", "agent"), process.env.PATH].join(delimiter),
    ALLOW_LOOPBACK: "1",
    GASTOWN_TOWN_ID: "town",
    GASTOWN_API_URL: `http://127.0.0.1:${workerPort}`,
    GASTOWN_CONTAINER_TOKEN: TOKEN,
    HOLDFAST_SANDBOX_TOKEN: TOKEN,
    HOLDFAST_MODEL_BASE_URL: "http://127.0.0.1:9/v1",
    HOLDFAST_MODEL: "played",
    HOLDFAST_LISTEN: `127.0.0.1:${port}`,
    HOLDFAST_ROOT: root,
    HOLDFAST_LIMITS: JSON.stringify({ sandbox_town: { draining_idle_ms: 500 } }),
  };
}

function start(n, gitUrl) {
  return {
    agentId: `a${n}`,
    rigId: "rig",
    townId: "town",
    role: "polecat",
    name: `a${n}`,
    identity: `a${n}`,
    prompt: `@write page-${n}.md page ${n}`,
    model: "played",
    gitUrl,
    branch: `gt/a${n}`,
    defaultBranch: "main",
  };
}

/** Asks again until it does not fail. */
async function until(condition) {
  for (const deadline = Date.now() + READY_MS; ; await sleep(50)) {
    try {
      return await condition();
    } catch (error) {
      if (Date.now() > deadline) throw error;
    }
  }
}
