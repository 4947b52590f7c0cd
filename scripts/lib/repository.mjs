/** The repository that a session works on: the caller's, or a sample that is made here. */

import { existsSync, mkdtempSync, renameSync, rmSync, writeFileSync, mkdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, isAbsolute, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { ask, follow } from "./command.mjs";
import { Failure } from "./failure.mjs";

/** Never asks anyone for anything. */
const GIT_ENV = { ...process.env, GIT_TERMINAL_PROMPT: "0", GIT_SSH_COMMAND: "ssh -o BatchMode=yes", LC_ALL: "C" };

/**
 * The URL of a repository given by URL or path.
 *
 * @param {string} repo
 * @returns {Promise<string>}
 * @throws {Failure} if git cannot read it
 */
export async function repositoryUrl(repo) {
  const url = /^[a-z][a-z0-9+.-]*:\/\//i.test(repo) ? repo : pathToFileURL(isAbsolute(repo) ? repo : resolve(callerFolder(), repo)).href;
  if (!/^(https|file):\/\//i.test(url)) throw new Failure(`The repository ${repo} cannot be used: name it by an https:// URL or a path.`);
  const { code, output } = await git(["ls-remote", "--quiet", url, "HEAD"]);
  if (code === 0 && output.trim() === "") throw new Failure(`The repository ${repo} is empty: it needs a first commit.`);
  if (code === 0) return url;
  const why = output.trim().split("\n").find((line) => /^(fatal|error):/.test(line)) ?? output.trim().split("\n")[0];
  throw new Failure(`The repository ${repo} cannot be read: ${why.replace(/^(fatal|error): /, "")}.`);
}

/**
 * A bare repository with one commit, made if it is not there.
 *
 * @param {string} path
 * @returns {Promise<string>} its URL
 */
export async function sampleRepository(path) {
  if (!existsSync(path)) {
    const work = mkdtempSync(join(tmpdir(), "holdfast-sample-"));
    try {
      const bare = join(work, "bare.git");
      const tree = join(work, "tree");
      await must(["init", "--quiet", "--initial-branch", "main", tree]);
      writeFileSync(join(tree, "README.md"), "# A sample repository\n\nAgents that Holdfast runs work here.\n");
      await must(["-C", tree, "add", "README.md"]);
      await must(["-C", tree, "-c", "user.name=Holdfast", "-c", "user.email=holdfast@localhost", "commit", "--quiet", "-m", "A sample repository"]);
      await must(["clone", "--quiet", "--bare", tree, bare]);
      mkdirSync(dirname(path), { recursive: true });
      await move(bare, path);
    } finally {
      rmSync(work, { recursive: true, force: true });
    }
  }
  return pathToFileURL(path).href;
}

/**
 * The commit that a branch has on the remote.
 *
 * @param {string} url
 * @param {string} branch
 * @returns {Promise<string | undefined>} none if the branch is not there
 */
export async function remoteCommit(url, branch) {
  const { code, output } = await git(["ls-remote", "--quiet", url, `refs/heads/${branch}`]);
  return code === 0 ? output.trim().split(/\s/)[0] || undefined : undefined;
}

/**
 * What a bare repository on this machine holds.
 *
 * @param {string} url `file://`
 * @param {...string} args of git
 * @returns {string | undefined} none if git refuses
 */
export function readRepository(url, ...args) {
  return ask("git", ["--git-dir", new URL(url).pathname, ...args], { env: GIT_ENV });
}

function git(args) {
  return follow("git", args, { cwd: "/", env: GIT_ENV });
}

async function must(args) {
  const { code, output } = await git(args);
  if (code !== 0) throw new Failure("The sample repository could not be made: git failed.", { detail: output });
}

/** Within a file system by a rename; else by a copy. */
async function move(from, to) {
  try {
    renameSync(from, to);
  } catch {
    await must(["clone", "--quiet", "--bare", from, to]);
  }
}

/** Where the person stood who called npm. */
const callerFolder = () => process.env.INIT_CWD || process.cwd();
