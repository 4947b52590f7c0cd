/** What is measured: the floor and a session, behind the same few calls. */

import { Api } from "../../scripts/lib/api.mjs";
import { RawSocket, frame } from "./socket.mjs";
import { startWorker } from "./workerd.mjs";

/** In the last event of a burst. */
export const MARK = "THE-LAST-ONE";

const SECRETS = {
  GASTOWN_JWT_SECRET: "bench-gastown-secret-0123456789abcdef0123456789abcde",
  HOLDFAST_HOST_TOKEN: "bench-host-token-0123456789abcdef0123456789abcdef01",
  INTERNAL_API_SECRET: "bench-internal-secret-0123456789abcdef0123456789abcd",
  NEXTAUTH_SECRET: "bench-nextauth-secret-0123456789abcdef0123456789abcd",
};
const VARIABLES = { ENVIRONMENT: "development", ALLOW_LOOPBACK: "1", HOLDFAST_HOST_URL: "http://127.0.0.1:9", WORKER_URL: "http://127.0.0.1:9" };
const DONE = { type: "done", branch: "session/bench", resume: "fresh" };

/** One event of about `size` bytes that is stored as a row of the log. */
export function event(n, size, { seq, mark } = {}) {
  const make = (text) =>
    JSON.stringify({
      streamEventType: "kilocode",
      timestamp: "2026-01-01T00:00:00.000Z",
      seq,
      data: { event: "session.status", type: "session.status", properties: { n, mark, text } },
    });
  return make("x".repeat(Math.max(0, size - make("").length)));
}

/** A bare JavaScript object: `floor.mjs`. */
export class Floor {
  name = "floor";

  static async start() {
    const floor = new Floor();
    const modules = [{ name: "floor.mjs", file: "benches/worker/floor.mjs" }];
    floor.worker = await startWorker({ name: "floor", modules, objects: { FLOOR: "Floor" } });
    return floor;
  }

  async open(name) {
    const { url } = this.worker;
    const headers = { "x-object": name };
    const ingest = await RawSocket.open(`${url}/ingest`, headers);
    return {
      ingest,
      end: { frame: frame("end"), answer: "end" },
      prepareViewer: async () => () => RawSocket.open(`${url}/stream`, headers),
      rows: async () => (await (await fetch(`${url}/rows`, { headers })).json()).rows,
    };
  }

  stop() {
    return this.worker.stop();
  }
}

/** `CloudAgentSession` of the built Worker, in the middle of a turn. Its container is played by the benchmark. */
export class Session {
  name = "session";

  static async start() {
    const session = new Session();
    session.worker = await startWorker({
      name: "session",
      modules: [
        { name: "probe.mjs", file: "benches/worker/probe.mjs" },
        { name: "index.js", file: "build/index.js" },
        { name: "index_bg.wasm", file: "build/index_bg.wasm", kind: "wasm" },
      ],
      objects: {
        AGENT: "AgentDO",
        CLOUD_AGENT_SESSION: "CloudAgentSession",
        SANDBOX: "SandboxDO",
        TOWN: "TownDO",
        TOWN_CONTAINER: "TownContainerDO",
        USER: "UserDO",
      },
      variables: { ...VARIABLES, ...SECRETS },
    });
    return session;
  }

  async open(user) {
    const { url } = this.worker;
    const api = new Api({ url, secrets: SECRETS, userId: user });
    const input = { prompt: "go", mode: "code", model: "scripted", gitUrl: "file:///nowhere.git", autoInitiate: true };
    const { cloudAgentSessionId } = await api.mutate("prepareSession", input);
    const sql = async (statement) => {
      const headers = { "x-object": `${user}:${cloudAgentSessionId}` };
      return (await fetch(`${url}/bench/sql`, { method: "POST", headers, body: statement })).json();
    };
    const work = async () => JSON.parse((await sql("SELECT effect FROM owed WHERE key LIKE 'work/%'"))[0].effect).work.work;
    const report = async ({ attempt, report: to }) => {
      const headers = { authorization: `Bearer ${to.token}`, "content-type": "application/json" };
      const body = JSON.stringify({ attempt, n: 1, step: "kilo_server", message: "", outcome: DONE });
      const answer = await fetch(url + new URL(to.url).pathname, { method: "POST", headers, body });
      if (!answer.ok) throw new Error(`the report was refused: ${await answer.text()}`);
    };
    await report(await work());
    const start = await work();
    const { pathname, search } = new URL(start.turn.ingestUrl);
    const headers = { authorization: `Bearer ${start.turn.ingestSecret}` };
    const ingest = await RawSocket.open(url + pathname + search, headers);
    await report(start);
    let seq = 0;
    return {
      ingest,
      /** The only numbered event: its acknowledgement says that all before it is committed. */
      get end() {
        seq += 1;
        return { frame: frame(event(0, 200, { seq })), answer: `{"type":"ack","seq":${seq}}` };
      },
      /** Takes `count` numbers. */
      numbers(count) {
        seq += count;
        return seq - count + 1;
      },
      /** The ticket first: it is no part of what is measured. */
      async prepareViewer({ batch } = {}) {
        const stream = await api.streamUrl(cloudAgentSessionId, 0);
        if (batch) stream.searchParams.set("batch", "1");
        return () => RawSocket.open(stream.href.replace(/^ws/, "http"));
      },
      rows: async () => (await sql("SELECT total_changes() AS rows"))[0].rows,
    };
  }

  stop() {
    return this.worker.stop();
  }
}
