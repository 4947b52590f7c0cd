/**
 * Child processes that live as long as this one, each in a process group of its own.
 *
 * The group makes stopping complete: what a child started goes with it. Every child gets a pipe as its standard input; it
 * must end when that closes, so that it cannot outlive us even if we are killed. Programs that do not do this by themselves
 * run under `guard.mjs`.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, openSync, readFileSync, rmSync, writeSync } from "node:fs";
import { dirname } from "node:path";
import { createInterface } from "node:readline";

import { Failure } from "./failure.mjs";
import { untilStopped } from "./shutdown.mjs";

/** How long a child may take to end by itself. The container host must end its containers first. */
const STOP_GRACE_MS = 15_000;
/** Enough to see why it ended. */
const TAIL_LINES = 20;

export class Child {
  #process;
  #forget;
  #log;
  /** Resolves with a description of how it ended. */
  exited;

  /**
   * Starts a process.
   *
   * @param {object} options
   * @param {string} options.name for messages
   * @param {string} options.command
   * @param {string[]} options.args
   * @param {Record<string, string | undefined>} options.env whole: nothing is inherited
   * @param {string} options.cwd
   * @param {string} options.log the file that takes its output; replaced
   */
  constructor({ name, command, args, env, cwd, log }) {
    this.name = name;
    this.#log = log;
    mkdirSync(dirname(log), { recursive: true });
    rmSync(log, { force: true });
    const file = openSync(log, "a", 0o600);
    this.#process = spawn(command, args, { cwd, env, detached: true, stdio: ["pipe", "pipe", file] });
    this.#process.stdin.on("error", () => {}); // it ended: `exited` tells
    this.#process.stdout.on("data", (chunk) => writeSync(file, chunk));
    this.exited = this.#watch();
    this.#forget = untilStopped(this);
  }

  /** Its process id, which is its group's. */
  get pid() {
    return this.#process.pid;
  }

  /** Whether it has not ended. */
  get running() {
    return this.pid !== undefined && this.#process.exitCode === null && this.#process.signalCode === null;
  }

  /**
   * Waits for the first line of its standard output that `read` recognises.
   *
   * @template T
   * @param {(line: string) => T | undefined} read
   * @param {number} timeoutMs
   * @returns {Promise<T>}
   * @throws {Failure} if it ends first, or says nothing in time
   */
  async line(read, timeoutMs) {
    const lines = createInterface({ input: this.#process.stdout });
    let timer;
    const found = new Promise((resolve) => {
      lines.on("line", (line) => {
        const value = read(line);
        if (value !== undefined) resolve({ value });
      });
    });
    const late = new Promise((resolve) => {
      timer = setTimeout(resolve, timeoutMs, { problem: `said nothing for ${timeoutMs / 1000} s` });
    });
    const ended = this.exited.then((how) => ({ problem: how }));
    const { value, problem } = await Promise.race([found, late, ended]);
    clearTimeout(timer);
    lines.close();
    this.#process.stdout.resume(); // the pipe to the log goes on
    if (problem) throw new Failure(`${this.name} did not start: it ${problem}.`, { detail: this.tail });
    return value;
  }

  /** All its output. */
  get output() {
    return readFileSync(this.#log, "utf8");
  }

  /** The end of its output. */
  get tail() {
    return this.output.trimEnd().split("\n").slice(-TAIL_LINES).join("\n");
  }

  /** Asks it to end, and then sees to it. */
  async stop() {
    if (this.running) {
      this.#signal("SIGTERM");
      const timer = setTimeout(() => this.kill(), STOP_GRACE_MS);
      await this.exited;
      clearTimeout(timer);
    }
    this.#forget();
  }

  /** Ends the whole group at once. */
  kill() {
    this.#signal("SIGKILL");
  }

  #signal(signal) {
    if (this.pid === undefined) return;
    try {
      process.kill(-this.pid, signal);
    } catch (error) {
      if (error.code !== "ESRCH") throw error;
    }
  }

  async #watch() {
    try {
      const [code, signal] = await once(this.#process, "exit");
      this.kill(); // what it left of its group
      return signal ? `was ended by ${signal}` : `ended with code ${code}`;
    } catch (error) {
      return `could not be run (${error.message})`;
    }
  }
}

/** Reads a line that is `{"event":"ready",…}`. */
export function readyLine(line) {
  if (!line.startsWith("{")) return undefined;
  try {
    const value = JSON.parse(line);
    return value.event === "ready" ? value : undefined;
  } catch {
    return undefined;
  }
}
