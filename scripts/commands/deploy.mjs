/**
 * `npm run deploy [-- --env ENV] [WRANGLER-OPTION…]`: builds the Worker and hands it to wrangler.
 *
 * The production environment also has container images. Where there is no Docker to build them, a dry run
 * checks all the rest.
 */

import { spawn } from "node:child_process";
import { join } from "node:path";

import { ask } from "../lib/command.mjs";
import { MODULES, ROOT } from "../lib/paths.mjs";
import { main as build } from "./build.mjs";

export async function main() {
  await build();
  const args = ["deploy", ...process.argv.slice(2)];
  if (args.includes("--dry-run") && !args.some((it) => it.startsWith("--containers-rollout")) && !hasDocker()) {
    console.log("No Docker here: the container images are left out of this dry run.");
    args.push("--containers-rollout=none");
  }
  if (!args.some((it) => /^(-e|--env)(=|$)/.test(it))) args.push("--env="); // the top level, said aloud
  const child = spawn(process.execPath, [join(MODULES, "wrangler", "bin", "wrangler.js"), ...args], { cwd: ROOT, stdio: "inherit" });
  return new Promise((resolve, reject) => child.on("error", reject).on("exit", (code) => resolve(code ?? 1)));
}

const hasDocker = () => ask("docker", ["info"]) !== undefined;
