/**
 * The programs that builds need: found, or installed once per user.
 *
 * Rust, a C compiler and git must be there. `worker-build` and `wasm-bindgen` are built from crates.io into
 * `${XDG_CACHE_HOME:-~/.cache}/holdfast/tools/<name>-<version>`, so that the next clone finds them. An installation becomes visible by a rename: an
 * interrupted one is never taken for a finished one.
 */

import { existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";

import { ask, step } from "./command.mjs";
import { Failure } from "./failure.mjs";
import { ROOT, inRoot } from "./paths.mjs";

/** Reads the version of `worker` that it builds for from Cargo.lock, and must fit it. */
export const WORKER_BUILD_VERSION = "0.8.7";
const WASM_TARGET = "wasm32-unknown-unknown";

/** Checks what cannot be installed from here, and adds what rustup can add. */
export async function ensureRust() {
  need("git", ["--version"], "git is missing: install it with your system's package manager.");
  need("cc", ["--version"], "a C compiler is missing: install cc (gcc or clang) with your system's package manager.");
  if (ask("cargo", ["--version"], { cwd: ROOT }) === undefined && ask("rustup", ["--version"]) !== undefined) {
    await step("Installing the stable Rust toolchain", "rustup", ["toolchain", "install", "stable", "--profile", "minimal"], {
      cwd: ROOT,
      hint: "Check that static.rust-lang.org can be reached, then try again.",
    });
  }
  need("cargo", ["--version"], "Rust is missing: install it from https://rustup.rs.");

  if (existsSync(join(need("rustc", ["--print", "sysroot"], "rustc is missing."), "lib", "rustlib", WASM_TARGET))) return;
  await step(`Adding the Rust target ${WASM_TARGET}`, "rustup", ["target", "add", WASM_TARGET], {
    cwd: ROOT,
    hint: "Add the target to your Rust installation by hand, then try again.",
  });
}

/** The version of the Rust compiler. */
export const rustVersion = () => need("rustc", ["-vV"], "rustc is missing.");

/** @returns {Promise<string>} the path of `worker-build` */
export const ensureWorkerBuild = () => ensureCargoTool("worker-build", "worker-build", WORKER_BUILD_VERSION, ["--locked"]);

/**
 * The version is the library's: the two must agree.
 *
 * @returns {Promise<string>} the path of `wasm-bindgen`
 */
export const ensureWasmBindgen = () => ensureCargoTool("wasm-bindgen-cli", "wasm-bindgen", lockedVersion("wasm-bindgen"), []);

/** The version of a crate in Cargo.lock. */
export function lockedVersion(crate) {
  const found = new RegExp(`name = "${crate}"\\nversion = "([^"]+)"`).exec(readFileSync(inRoot("Cargo.lock"), "utf8"));
  if (!found) throw new Failure(`Cargo.lock does not hold the crate ${crate}.`);
  return found[1];
}

async function ensureCargoTool(crate, binary, version, flags) {
  const tools = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "holdfast", "tools");
  const home = join(tools, `${crate}-${version}`);
  const path = join(home, "bin", binary);
  if (existsSync(path)) return path;

  mkdirSync(tools, { recursive: true });
  const temporary = mkdtempSync(join(tools, `.${crate}-`));
  try {
    const args = ["install", `${crate}@${version}`, ...flags, "--root", temporary];
    // Not in the checkout: its lockfile, toolchain file and target folder are none of the tool's business.
    await step(`Installing ${crate} ${version} (once, some minutes)`, "cargo", args, {
      cwd: temporary,
      env: { ...process.env, RUSTUP_TOOLCHAIN: "stable" },
      hint: "Check that crates.io can be reached, then try again.",
    });
    rmSync(home, { recursive: true, force: true });
    renameSync(temporary, home);
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
  return path;
}

function need(command, args, otherwise) {
  const answer = ask(command, args, { cwd: ROOT });
  if (answer === undefined) throw new Failure(otherwise);
  return answer;
}
