/** Builds the Worker (release wasm) and `sandboxd`, each only if something it is made from has changed. */

import { readFileSync, writeFileSync } from "node:fs";
import { basename, join, relative } from "node:path";
import { gzipSync } from "node:zlib";

import { ask, step } from "./command.mjs";
import { Failure } from "./failure.mjs";
import { ROOT, bin, inRoot } from "./paths.mjs";
import { Stamp } from "./stamp.mjs";
import { ensureRust, ensureWasmBindgen, ensureWorkerBuild, rustVersion } from "./tools.mjs";
import { withNamesOf } from "./wasm-names.mjs";

/** What every crate is built with. */
const SHARED_INPUTS = ["Cargo.lock", "Cargo.toml", "rust-toolchain.toml"];

/**
 * Builds what `npm start` runs.
 *
 * @returns {Promise<{sandboxd: string}>} where `sandboxd` is
 */
export async function buildAll() {
  await buildWorker();
  return { sandboxd: await buildSandboxd() };
}

/** `build/index.js` and `build/index_bg.wasm`. */
export async function buildWorker() {
  await ensureRust();
  await buildWasm({ name: "worker", crate: "holdfast", folder: ".", inputs: ["src"] });
}

/**
 * The Worker's size in bytes.
 *
 * @returns {{wasm: number, gzip: number}} `gzip`: of the wasm and its script together, which is what the platform limits
 */
export function workerSize() {
  const files = ["build/index_bg.wasm", "build/index.js"].map((file) => readFileSync(inRoot(file)));
  return { wasm: files[0].length, gzip: files.reduce((sum, file) => sum + gzipSync(file, { level: 9 }).length, 0) };
}

/**
 * Builds a Worker with `worker-build`.
 *
 * @param {object} worker
 * @param {string} worker.name of the stamp
 * @param {string} worker.crate
 * @param {string} worker.folder the crate's, relative to the checkout; the output is its `build`
 * @param {string[]} worker.inputs its sources, relative to the checkout
 */
export async function buildWasm({ name, crate, folder, inputs }) {
  const workerBuild = await ensureWorkerBuild();
  const wasmBindgen = await ensureWasmBindgen();
  const stamp = new Stamp(name, {
    inputs: [...SHARED_INPUTS, "package-lock.json", ...inputs, ...cratesOf(crate)],
    facts: [rustVersion(), workerBuild, wasmBindgen],
    outputs: [join(folder, "build")],
  });
  if (stamp.fresh) return;
  stamp.clear();
  await step(`Building ${crate} for Workers`, workerBuild, ["--release", "--locked", "--package", crate], {
    cwd: inRoot(folder),
    // The exact programs, so that nothing is looked for on the network.
    env: { ...process.env, WASM_BINDGEN_BIN: wasmBindgen, WASM_OPT_BIN: bin("wasm-opt"), ESBUILD_BIN: bin("esbuild") },
  });
  const wasm = inRoot(folder, "build", "index_bg.wasm");
  const own = [crate, ...cratesOf(crate).map((path) => basename(path))].map((name) => name.replaceAll("-", "_"));
  writeFileSync(wasm, withNamesOf(readFileSync(wasm), own));
  stamp.write();
}

/** @returns {Promise<string>} the path of the `sandboxd` that runs on this machine */
export async function buildSandboxd() {
  await ensureRust();
  const path = join(metadata().target_directory, "native", "sandboxd");
  const stamp = new Stamp("sandboxd", {
    inputs: [...SHARED_INPUTS, ...cratesOf("sandboxd")],
    facts: [rustVersion()],
    outputs: [relative(ROOT, path)],
  });
  if (stamp.fresh) return path;
  stamp.clear();
  await step("Building sandboxd", "cargo", ["build", "--profile", "native", "--package", "sandboxd", "--locked"], { cwd: ROOT });
  stamp.write();
  return path;
}

/** The folders of the workspace's crates that a crate is built from, itself among them; not the root package's. */
function cratesOf(name) {
  const packages = new Map(metadata().packages.map((it) => [it.name, it]));
  const seen = new Set();
  const visit = (crate) => {
    if (seen.has(crate) || !packages.has(crate)) return;
    seen.add(crate);
    packages.get(crate).dependencies.filter((it) => it.path && it.kind !== "dev").forEach((it) => visit(it.name));
  };
  visit(name);
  return [...seen].map((crate) => relative(ROOT, join(packages.get(crate).manifest_path, ".."))).filter(Boolean);
}

let known;

function metadata() {
  if (!known) {
    const answer = ask("cargo", ["metadata", "--format-version", "1", "--no-deps", "--offline"], { cwd: ROOT });
    if (answer === undefined) throw new Failure("cargo cannot read this workspace: run `cargo metadata` to see why.");
    known = JSON.parse(answer);
  }
  return known;
}
