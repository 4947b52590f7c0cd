/**
 * Runs a program that does not end with its standard input, and ends it when ours closes.
 *
 *     node guard.mjs PROGRAM ARGUMENT…
 *
 * The guard leads a process group (`children.mjs` starts it detached), the program and its children are members: the whole
 * group ends when the guard's input closes or on SIGTERM. If the program ends by itself so does the guard, with its code; what is
 * then left of the group is its parent's to end.
 */

import { spawn } from "node:child_process";

/** For the program to end by itself. */
const GRACE_MS = 5_000;

const [program, ...args] = process.argv.slice(2);
const child = spawn(program, args, { stdio: ["ignore", "inherit", "inherit"] });
let asked = false;

function stop() {
  if (asked) return;
  asked = true;
  child.kill("SIGTERM");
  setTimeout(endGroup, GRACE_MS);
}

/** Ends this process too: it is a member. */
function endGroup() {
  process.kill(-process.pid, "SIGKILL");
}

child.on("error", (error) => {
  console.error(`${program}: ${error.message}`);
  process.exit(1);
});
child.on("exit", (code, signal) => {
  if (asked) endGroup();
  process.exit(signal ? 128 : code);
});
process.on("SIGTERM", stop).on("SIGINT", stop).on("SIGHUP", stop);
process.stdin.resume().on("end", stop).on("error", stop);
