/**
 * `npm start [-- OPTIONS]`: from a fresh clone to a pushed commit.
 *
 * Builds what has changed, starts every service on loopback, runs a first session as a front end would, or a first town, and keeps
 * serving until Ctrl-C. See USAGE for the options, README.md for the variables.
 */

import { randomUUID } from "node:crypto";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

import { Api } from "../lib/api.mjs";
import { buildAll } from "../lib/build.mjs";
import { ask } from "../lib/command.mjs";
import { Failure, report } from "../lib/failure.mjs";
import { fastLimits } from "../lib/limits.mjs";
import { hold } from "../lib/lock.mjs";
import { WORK, inRoot } from "../lib/paths.mjs";
import { choosePort } from "../lib/ports.mjs";
import { repositoryUrl, sampleRepository } from "../lib/repository.mjs";
import { Services } from "../lib/services.mjs";
import { runSession } from "../lib/session.mjs";
import { HumanShow, JsonShow } from "../lib/show.mjs";
import { TownApi } from "../lib/town-api.mjs";
import { runTown } from "../lib/town.mjs";

const USAGE = `Usage: npm start [-- OPTIONS]

  --once          exit after the first session: 0 if it completed and its commit is on the remote
  --town          run a town instead: three tasks, two agents, and an eviction; with --once, 0 if all of it is merged
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
  const limits = options.town ? fastLimits() : undefined;
  const services = new Services({ folder, sandboxd, secretsFile: inRoot(".dev.vars"), limits });
  if (services.realModel) {
    out.show({ event: "warning", message: "A real model is configured: its agents run as you, unsandboxed, on this machine." });
  }
  await services.start({ port: options.port });
  out.show({ event: "ready", url: services.url, hostUrl: services.hostUrl, modelUrl: services.modelUrl });

  const ended = services.ended();
  if (!options["serve-only"]) {
    const show = (milestone) => out.show(milestone);
    const run = options.town ? firstTown(services, folder, show) : firstSession(services, folder, { gitUrl, prompt: options.prompt }, show);
    const code = await first(run, out, ended, options.once);
    if (options.once) return code;
  }
  out.show({ event: "serving", url: services.url });
  throw await ended;
}

async function firstSession(services, folder, { gitUrl, prompt }, show) {
  const work = {
    gitUrl: gitUrl ?? (await sampleRepository(join(folder, "sample.git"))),
    prompt: prompt ?? (services.realModel ? PROMPT : SCRIPT),
    model: services.model,
  };
  const outcome = await runSession(new Api(services), work, show);
  return { ...outcome, ok: outcome.status === "completed" && Boolean(outcome.commit) };
}

/** In a repository of its own: the tasks are written for an empty one. */
async function firstTown(services, folder, show) {
  const gitUrl = await sampleRepository(join(folder, "towns", `${randomUUID()}.git`));
  const outcome = await runTown(new TownApi(services), { gitUrl, model: services.model }, show);
  return { ...outcome, ok: outcome.status === "completed" };
}

/** Waits for what is run first. Serving goes on if it fails; a service that ends does not let it wait. */
async function first(run, out, ended, once) {
  try {
    const { ok, ...outcome } = await Promise.race([run, ended.then((failure) => Promise.reject(failure))]);
    out.show({ event: "result", ...outcome });
    return ok ? 0 : 1;
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
        town: { type: "boolean" },
      },
    }));
  } catch (error) {
    throw new Failure(`${error.message.split(". ")[0]}.\n\n${USAGE}`);
  }
  if (values.once && values["serve-only"]) throw new Failure("--once and --serve-only contradict each other: use one.");
  if (values.town && values["serve-only"]) throw new Failure("--town and --serve-only contradict each other: use one.");
  if (values.town && process.env.HOLDFAST_MODEL_BASE_URL) throw new Failure("--town needs the scripted model: unset HOLDFAST_MODEL_BASE_URL.");
  if (values.town && (values.repo ?? values.prompt) !== undefined) throw new Failure("--town works on a sample: leave --repo and --prompt out.");
  if (values.repo !== undefined && values.prompt === undefined) throw new Failure("--repo needs --prompt: say what the agent should do there.");
  return values;
}
