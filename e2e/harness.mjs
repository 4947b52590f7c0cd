/**
 * A Holdfast of its own for each test file: fresh state, free ports, the real agent, the real git.
 *
 * Its folder stays afterwards (`.holdfast/e2e/<name>`), with the logs of every process.
 */

import { readFileSync, readdirSync, readlinkSync, rmSync } from "node:fs";
import { join } from "node:path";
import { after, before } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { Api } from "../scripts/lib/api.mjs";
import { buildAll } from "../scripts/lib/build.mjs";
import { WORK } from "../scripts/lib/paths.mjs";
import { sampleRepository } from "../scripts/lib/repository.mjs";
import { writeSecrets } from "../scripts/lib/secrets.mjs";
import { Services } from "../scripts/lib/services.mjs";

/** A fresh folder for a test file. */
export function freshFolder(name) {
  const folder = join(WORK, "e2e", name);
  rmSync(folder, { recursive: true, force: true });
  return folder;
}

/**
 * Starts a Holdfast before the tests of a file, and stops it after them.
 *
 * @param {string} name of the file
 * @param {Record<string, string>} [secrets] of the Worker, beside those that are made
 * @param {{limits?: object, agent?: string, front?: (port: number) => Promise<string>}} [options] of {@link Services}
 * @returns {{services: Services, api: Api, gitUrl: string, folder: string}} filled before the first test
 */
export function holdfast(name, secrets = {}, options = {}) {
  const it = { folder: freshFolder(name) };
  before(async () => {
    const { sandboxd } = await buildAll();
    writeSecrets(join(it.folder, "secrets"), secrets);
    it.services = new Services({ ...options, folder: it.folder, sandboxd });
    await it.services.start();
    it.api = new Api(it.services);
    it.gitUrl = await sampleRepository(join(it.folder, "origin.git"));
  });
  after(() => it.services?.stop());
  return it;
}

/**
 * The processes that work somewhere under a folder.
 *
 * @param {string} folder
 * @returns {{pid: number, exe: string, args: string}[]} zombies excepted: they have ended
 */
export function processesUnder(folder) {
  const found = [];
  for (const pid of readdirSync("/proc").filter((name) => /^\d+$/.test(name))) {
    try {
      const cwd = readlinkSync(`/proc/${pid}/cwd`);
      const exe = readlinkSync(`/proc/${pid}/exe`);
      const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ").trim();
      if (`${cwd}/`.startsWith(`${folder}/`) || args.includes(folder)) found.push({ pid: Number(pid), exe, args });
    } catch {
      // it ended meanwhile, or is a zombie
    }
  }
  return found;
}

/**
 * Waits until a condition holds.
 *
 * @template T
 * @param {string} what for the message
 * @param {() => T | Promise<T>} condition
 * @param {number} [timeoutMs]
 * @returns {Promise<T>}
 */
export async function until(what, condition, timeoutMs = 30_000) {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`waited ${timeoutMs / 1000} s in vain: ${what}`);
    await sleep(200);
  }
}
