/** Commands that run to their end: set-up steps, builds, git. */

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

import { Failure } from "./failure.mjs";
import { inRoot } from "./paths.mjs";
import { Progress } from "./progress.mjs";
import { isStopping, untilStopped } from "./shutdown.mjs";

/** Of a failed command, this much output is shown. */
const DETAIL_LINES = 40;
/** Where the output of a failed step of the set-up is kept. */
const FAILED_OUTPUT = inRoot(".holdfast", "logs", "set-up.log");
/** Kept of its output, from the end. */
const OUTPUT_CHARS_MAX = 4 * 1024 * 1024;

/**
 * Runs a long step, showing that it goes on and what it says.
 *
 * @param {string} title what is being done, for a person: "Building the Worker"
 * @param {string} command
 * @param {string[]} args
 * @param {{cwd: string, env?: NodeJS.ProcessEnv, hint?: string}} options `hint`: what to do if it fails, where the reason is known to lie
 *   outside of the checkout; the output is then kept in a file, and not shown
 * @returns {Promise<string>} its output
 * @throws {Failure}
 */
export async function step(title, command, args, { cwd, env = process.env, hint }) {
  const progress = new Progress(title);
  const { code, output } = await follow(command, args, { cwd, env, onLine: (line) => progress.line(line) });
  progress.end(code === 0);
  if (code === 0) return output;
  const how = code === null ? "was stopped" : `ended with code ${code}`;
  if (hint === undefined) {
    const detail = isStopping() ? "" : output.trimEnd().split("\n").slice(-DETAIL_LINES).join("\n");
    throw new Failure(`${title} failed: ${command} ${how}.`, { detail });
  }
  mkdirSync(dirname(FAILED_OUTPUT), { recursive: true });
  writeFileSync(FAILED_OUTPUT, output);
  throw new Failure(`${title} failed: ${command} ${how} (${FAILED_OUTPUT}). ${hint}`);
}

/**
 * Runs a command in a process group of its own.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{cwd: string, env?: NodeJS.ProcessEnv, onLine?: (line: string) => void, timeoutMs?: number}} options
 * @returns {Promise<{code: number | null, output: string}>} null: ended by a signal, or by us after `timeoutMs`
 */
export function follow(command, args, { cwd, env = process.env, onLine = () => {}, timeoutMs }) {
  const child = spawn(command, args, { cwd, env, detached: true, stdio: ["ignore", "pipe", "pipe"] });
  const kill = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // it has ended
    }
  };
  const timer = timeoutMs && setTimeout(kill, timeoutMs);
  const unregister = untilStopped({ stop: async () => kill(), kill });
  const forget = () => {
    clearTimeout(timer);
    unregister();
  };
  return new Promise((resolve, reject) => {
    let output = "";
    let rest = "";
    const take = (chunk) => {
      output = (output + chunk).slice(-OUTPUT_CHARS_MAX);
      const lines = (rest + chunk).split(/\r?\n|\r/);
      rest = lines.pop();
      lines.forEach(onLine);
    };
    child.stdout.setEncoding("utf8").on("data", take);
    child.stderr.setEncoding("utf8").on("data", take);
    child.on("error", (error) => {
      forget();
      reject(new Failure(`${command} could not be run: ${error.code === "ENOENT" ? "it is not installed" : error.message}.`));
    });
    child.on("close", (code) => {
      forget();
      if (rest) onLine(rest);
      resolve({ code, output });
    });
  });
}

/**
 * The answer of a quick command, or undefined if it failed or is not there.
 *
 * @param {string} command
 * @param {string[]} args
 * @param {{cwd?: string, env?: NodeJS.ProcessEnv, timeoutMs?: number}} [options]
 */
export function ask(command, args, { cwd, env, timeoutMs = 30_000 } = {}) {
  const { status, stdout } = spawnSync(command, args, {
    cwd,
    env,
    encoding: "utf8",
    timeout: timeoutMs,
    maxBuffer: OUTPUT_CHARS_MAX,
    stdio: ["ignore", "pipe", "ignore"],
  });
  return status === 0 ? stdout.trim() : undefined;
}
