/**
 * Known bugs, to see that the simulation finds them: patches in `crates/simulation/mutations/<profile>`, each with a line that says what it breaks.
 *
 * They are planted one after the other into a copy of the crates under `target/`, which all of them share, so that each build only takes what changed.
 */

import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { ask } from "./command.mjs";
import { Failure } from "./failure.mjs";
import { ROOT } from "./paths.mjs";
import { buildSimulation, search } from "./simulation.mjs";

const FOLDER = join(ROOT, "crates", "simulation", "mutations");
const COPY = join(ROOT, "target", "mutations", "copy");

/** @returns {{profile: string, name: string, file: string, words: string, touches: string[]}[]} */
export function mutations() {
  return readdirSync(FOLDER)
    .sort()
    .flatMap((profile) =>
      readdirSync(join(FOLDER, profile))
        .sort()
        .map((patch) => {
          const file = join(FOLDER, profile, patch);
          const text = readFileSync(file, "utf8");
          const touches = [...text.matchAll(/^\+\+\+ b\/(.+)$/gm)].map((match) => match[1]);
          return { profile, name: patch.replace(/\.patch$/, ""), file, words: text.split("\n")[0], touches };
        }),
    );
}

/** Whether a mutation still fits the sources under `root`. */
export function applies({ file }, root = ROOT) {
  return git(["apply", "--check", file], root);
}

/** Plants each mutation of these profiles, searches for it, and prints where it was found. False if one was not, or applies no more. */
export async function runMutations({ seeds, profile }) {
  const rows = [];
  for (const mutation of mutations().filter((known) => profile === "all" || known.profile === profile)) {
    copy();
    rows.push(await find(mutation, seeds));
  }
  if (rows.length === 0) throw new Failure(`There are no mutations of a profile ${JSON.stringify(profile)}.`);
  console.log(`\n${"mutation".padEnd(58)}${"seed".padStart(6)}  broken promise`);
  for (const { name, found, promise } of rows) console.log(`${name.padEnd(58)}${String(found ?? "–").padStart(6)}  ${promise}`);
  const missed = rows.filter(({ found }) => found === undefined).length;
  console.log(`\n${rows.length - missed} mutations found, ${missed} missed`);
  return missed === 0;
}

async function find({ profile, name, file }, seeds) {
  if (!git(["apply", file], COPY)) return { name, promise: "it applies no more: bring it up to date" };
  // One function differs from build to build.
  const env = { ...process.env, CARGO_PROFILE_SIM_INCREMENTAL: "true" };
  const binary = await buildSimulation({ root: COPY, target: join(ROOT, "target", "mutations", "target"), env });
  const { failure } = await search(binary, { profile, seeds, title: `Searching for ${name}` });
  return { name, found: failure?.seed, promise: failure?.promise ?? `none within ${seeds} seeds` };
}

/** The crates as they are. What did not change keeps its time, so that it is not built again. */
function copy() {
  mkdirSync(COPY, { recursive: true });
  const crates = join(COPY, "crates");
  const changed = existsSync(crates) ? removeChanged(crates) : [];
  cpSync(join(ROOT, "crates"), crates, { recursive: true, preserveTimestamps: true });
  // Older than what was built of them: without this, cargo would not see that they are whole again.
  const now = new Date();
  changed.filter(existsSync).forEach((file) => utimesSync(file, now, now));
  cpSync(join(ROOT, "fixtures"), join(COPY, "fixtures"), { recursive: true, preserveTimestamps: true });
  cpSync(join(ROOT, "Cargo.lock"), join(COPY, "Cargo.lock"));
  writeFileSync(join(COPY, "Cargo.toml"), workspaceOnly(readFileSync(join(ROOT, "Cargo.toml"), "utf8")));
}

/** Removes what an earlier mutation left, and what is there no more; returns what it removed. */
function removeChanged(crates) {
  const files = readdirSync(crates, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
  const changed = files.map((entry) => join(entry.parentPath, entry.name)).filter((there) => {
    const here = join(ROOT, "crates", there.slice(crates.length + 1));
    return !existsSync(here) || !readFileSync(here).equals(readFileSync(there));
  });
  changed.forEach((file) => rmSync(file));
  return changed;
}

/** The manifest without the Worker's own package. */
function workspaceOnly(manifest) {
  const [workspace, rest] = manifest.split(/^\[package\]$/m);
  const profiles = rest?.slice(rest.indexOf("[profile."));
  if (profiles === undefined) throw new Failure("Cargo.toml has no [package] any more: scripts/lib/mutations.mjs reads it.");
  const members = workspace.replace(/^members = .*$/m, 'members = ["crates/*"]').replace(/^default-members = .*$/m, "");
  return members + profiles;
}

/** As if there were no repository around it: paths are those of the folder. */
function git(args, cwd) {
  return ask("git", args, { cwd, env: { ...process.env, GIT_CEILING_DIRECTORIES: join(cwd, "..") } }) !== undefined;
}
