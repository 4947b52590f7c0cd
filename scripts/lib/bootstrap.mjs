/**
 * From a fresh clone to the right Node.js with every package installed.
 *
 * This runs on the Node.js that the machine has (20 or later) and needs no package. It installs the packages of the lockfile if they
 * are not those that are there; among them is the Node.js that everything else runs on. Then it starts the command again
 * on that one, and stays only to pass on signals and the exit code.
 */

import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { delimiter, dirname } from "node:path";

import { step } from "./command.mjs";
import { Failure, run } from "./failure.mjs";
import { MODULES, ROOT, bin, inRoot } from "./paths.mjs";

/** What wrangler and vitest ask for. */
const NODE_MAJOR_MIN = 22;
/** What this file asks for. */
const LAUNCHER_MAJOR_MIN = 20;

/** Lies inside what it vouches for: whoever deletes one deletes both. */
const STAMP = `${MODULES}/.holdfast-lock`;

/**
 * Runs a command's `main` with all packages installed, on a Node.js that is new enough.
 *
 * @param {() => Promise<{main: () => Promise<number | void>}>} load imports the command's module
 */
export async function command(load) {
  await run(async () => {
    if (major(process.version) < LAUNCHER_MAJOR_MIN) {
      throw new Failure(`Node.js ${process.version} is too old: version ${LAUNCHER_MAJOR_MIN} or later is needed.`);
    }
    await installPackages();
    process.env.PATH = `${dirname(bin("node"))}${delimiter}${process.env.PATH}`;
    if (major(process.version) < NODE_MAJOR_MIN) return relaunch();
    const { main } = await load();
    return main();
  });
}

async function installPackages() {
  const lock = createHash("sha256").update(readFileSync(inRoot("package-lock.json"))).digest("hex");
  if (existsSync(STAMP) && readFileSync(STAMP, "utf8") === lock) return;
  await step("Installing packages", "npm", ["ci", "--fetch-retry-mintimeout=2000", "--fetch-retry-maxtimeout=10000"], {
    cwd: ROOT,
    hint: "Check that the npm registry can be reached, then try again.",
  });
  mkdirSync(dirname(STAMP), { recursive: true });
  writeFileSync(STAMP, lock);
}

/** Starts this command again on the installed Node.js. It learns of our end by the IPC channel: `shutdown.mjs`. */
function relaunch() {
  const node = bin("node");
  if (!existsSync(node)) {
    throw new Failure(`Node.js ${NODE_MAJOR_MIN} or later is needed, and there is no package of it for ${process.platform} ${process.arch}: install it.`);
  }
  // In a session of its own, so that Ctrl-C comes to it once: from here.
  const child = spawn(node, process.argv.slice(1), { detached: true, stdio: ["ignore", "inherit", "inherit", "ipc"] });
  for (const signal of ["SIGHUP", "SIGINT", "SIGTERM"]) {
    process.removeAllListeners(signal);
    process.on(signal, () => child.kill(signal));
  }
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("exit", (code) => resolve(code ?? 1));
  });
}

function major(version) {
  return Number(/^v(\d+)/.exec(version)[1]);
}
