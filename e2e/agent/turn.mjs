/** One turn: a script, done step by step. An abort ends what is under way, with every process of it. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { parse } from "../../model-server/script.mjs";

/** Of a tool's output, this much is kept. */
const OUTPUT_CHARS_MAX = 10_000;

export class Turn {
  #script;
  #tools;
  #say;
  #abort = new AbortController();
  #ended;
  #calls = 0;

  /**
   * @param {string} prompt the lines that start with `@` are its script
   * @param {import("./tools.mjs").Tools} tools
   * @param {(type: string, properties: object) => void} say an event of the session
   */
  constructor(prompt, tools, say) {
    this.#script = parse(prompt);
    this.#tools = tools;
    this.#say = say;
  }

  /**
   * Does it.
   *
   * @returns {Promise<"completed" | "interrupted">}
   */
  run() {
    this.#ended = this.#steps();
    return this.#ended;
  }

  /** Ends it, and waits until nothing of it writes any more. */
  async abort() {
    this.#abort.abort();
    await this.#ended;
  }

  async #steps() {
    const { signal } = this.#abort;
    for (const { name, rest } of this.#script) {
      if (signal.aborted) break;
      const callID = `call_${++this.#calls}`;
      const part = (state) => this.#say("message.part.updated", { part: { type: "tool", tool: name, callID, state } });
      part({ status: "running", input: { text: rest } });
      try {
        part({ status: "completed", output: String((await DO[name]?.(rest, signal, this.#tools)) ?? "") });
      } catch (error) {
        part({ status: "error", error: error.message });
      }
    }
    return signal.aborted ? "interrupted" : "completed";
  }
}

/** @type {Record<string, (rest: string, signal: AbortSignal, tools: import("./tools.mjs").Tools) => unknown>} */
const DO = {
  bash,
  hang: (_rest, signal) => once(signal, "abort"),
  read: (path) => readFileSync(path, "utf8").slice(0, OUTPUT_CHARS_MAX),

  slow(rest, signal) {
    const [count, ms] = rest.split(" ").map(Number);
    return sleep(count * ms, "", { signal }).catch(() => {});
  },

  tool(rest, signal, tools) {
    const [, name, json] = /^(\S+)\s*(.*)$/.exec(rest);
    return tools.call(name, json === "" ? {} : JSON.parse(json), signal);
  },

  write(rest) {
    const [, path, content] = /^(\S+) ?(.*)$/.exec(rest);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${content}\n`);
  },
};

/** In a group of its own, so that all of it can be ended. */
async function bash(command, signal) {
  const child = spawn("bash", ["-c", command], { detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const kill = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // it has ended
    }
  };
  signal.addEventListener("abort", kill);
  let output = "";
  const take = (chunk) => (output = (output + chunk).slice(-OUTPUT_CHARS_MAX));
  child.stdout.on("data", take);
  child.stderr.on("data", take);
  const [code] = await once(child, "close");
  signal.removeEventListener("abort", kill);
  return `${output}(ended with ${code})`;
}
