/**
 * `npm start [-- OPTIONS]`: from a fresh clone to a pushed commit.
 *
 * Builds what has changed, starts every service on loopback, runs a first session as a front end would, and keeps serving until
 * Ctrl-C. See USAGE for the options, README.md for the variables.
 */

import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { Api } from "../lib/api.mjs";
import { buildAll } from "../lib/build.mjs";
import { ask } from "../lib/command.mjs";
import { Failure, report } from "../lib/failure.mjs";
import { hold } from "../lib/lock.mjs";
import { WORK, inRoot } from "../lib/paths.mjs";
import { choosePort } from "../lib/ports.mjs";
import { repositoryUrl, sampleRepository } from "../lib/repository.mjs";
import { Services } from "../lib/services.mjs";
import { runSession } from "../lib/session.mjs";
import { HumanShow, JsonShow } from "../lib/show.mjs";

const USAGE = `Usage: npm start [-- OPTIONS]

  --once          exit after the first session: 0 if it completed and its commit is on the remote
  --serve-only    run no session
  --json          print one JSON object per milestone
  --port PORT     the Worker's port (default: any that is free)
  --repo REPO     work on this repository: an https:// URL, or a path (default: a sample)
  --prompt TEXT   what the agent is asked; needed with --repo
  --help          print this`;

/** What the scripted model does in the first session: model-server/README.md. */
const SCRIPT = `Please add a greeting to this repository.
@say I will add a greeting and look at what changed.
@write HELLO.md Hello from an agent that Holdfast holds fast.
@bash git status --short
@say Done: HELLO.md is there.`;

/** The same for a real model. */
const PROMPT = "Add a file HELLO.md with one friendly sentence to this repository, then say what you did.";

export async function main() {
  const options = parseOptions();
  if (options.help) {
    console.log(USAGE);
    return 0;
  }
  if (options.port !== undefined) await choosePort(options.port, "--port"); // before the long work
  if (ask("git", ["--version"]) === undefined) throw new Failure("git is missing: install it with your system's package manager.");
  const gitUrl = options.repo === undefined ? undefined : await repositoryUrl(options.repo);
  const folder = resolve(process.env.HOLDFAST_DIR || WORK);
  await hold(join(folder, "lock"), `Holdfast is running with the state in ${folder} already: use that one, or stop it first.`);

  const out = options.json ? new JsonShow() : new HumanShow();
  const { sandboxd } = await buildAll();
  const services = new Services({ folder, sandboxd, secretsFile: inRoot(".dev.vars") });
  if (services.realModel) {
    out.show({ event: "warning", message: "A real model is configured: its agents run as you, unsandboxed, on this machine." });
  }
  await services.start({ port: options.port });
  out.show({ event: "ready", url: services.url, hostUrl: services.hostUrl, modelUrl: services.modelUrl });

  const ended = services.ended();
  if (!options["serve-only"]) {
    const work = {
      gitUrl: gitUrl ?? (await sampleRepository(join(folder, "sample.git"))),
      prompt: options.prompt ?? (services.realModel ? PROMPT : SCRIPT),
      model: services.model,
    };
    const code = await first(services, work, out, ended, options.once);
    if (options.once) return code;
  }
  out.show({ event: "serving", url: services.url });
  throw await ended;
}

/** Runs the first session. Serving goes on if it fails; a service that ends does not let it wait. */
async function first(services, work, out, ended, once) {
  try {
    const session = runSession(new Api(services), work, (milestone) => out.show(milestone));
    const outcome = await Promise.race([session, ended.then((failure) => Promise.reject(failure))]);
    out.show({ event: "result", ...outcome });
    return outcome.status === "completed" && outcome.commit ? 0 : 1;
  } catch (error) {
    if (once) throw error;
    report(error);
    return 1;
  }
}

function parseOptions() {
  let values;
  try {
    ({ values } = parseArgs({
      options: {
        help: { type: "boolean" },
        json: { type: "boolean" },
        once: { type: "boolean" },
        port: { type: "string" },
        prompt: { type: "string" },
        repo: { type: "string" },
        "serve-only": { type: "boolean" },
      },
    }));
  } catch (error) {
    throw new Failure(`${error.message.split(". ")[0]}.\n\n${USAGE}`);
  }
  if (values.once && values["serve-only"]) throw new Failure("--once and --serve-only contradict each other: use one.");
  if (values.repo !== undefined && values.prompt === undefined) throw new Failure("--repo needs --prompt: say what the agent should do there.");
  return values;
}
