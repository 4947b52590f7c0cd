/**
 * The processes of a local Holdfast: the Worker in `wrangler dev`, the container host, and the scripted model server.
 *
 * All listen on loopback only. Everything that they keep is under one folder, so that several can run side by side.
 */

import { existsSync, readdirSync } from "node:fs";
import { delimiter, join } from "node:path";

import { Child, readyLine } from "./children.mjs";
import { ask } from "./command.mjs";
import { Failure } from "./failure.mjs";
import { MODULES, ROOT, inRoot } from "./paths.mjs";
import { choosePort } from "./ports.mjs";
import { isStopping } from "./shutdown.mjs";
import { readSecrets, writeSecrets } from "./secrets.mjs";

const READY_TIMEOUT_MS = 60_000;
/** wrangler restarts workerd while it starts, and may then lose a port of its own to another program. */
const WORKER_TRIES = 3;

/** What the caller may know of its environment and set for itself; see README.md. */
const { env } = process;

export class Services {
  #folder;
  #sandboxd;
  #secretsFile;
  #limits;
  #agent;
  #front;
  #children = {};
  #vars;
  /** @type {Record<string, string>} */
  secrets;

  /**
   * @param {object} options
   * @param {string} options.folder for state, containers and logs
   * @param {string} options.sandboxd the program
   * @param {string} [options.secretsFile] by default one in the folder
   * @param {object} [options.limits] that differ from those of production: `HOLDFAST_LIMITS`
   * @param {string} [options.agent] the folder with the program `kilo`; by default the installed one
   * @param {(port: number) => Promise<string>} [options.front] opens what containers reach the Worker through, given its port; returns the URL
   */
  constructor({ folder, sandboxd, secretsFile = join(folder, "secrets"), limits, agent = agentFolder(), front }) {
    this.#folder = folder;
    this.#sandboxd = sandboxd;
    this.#secretsFile = secretsFile;
    this.#limits = limits;
    this.#agent = agent;
    this.#front = front;
    this.secrets = readSecrets(secretsFile);
  }

  /** Where containers have their disks. */
  get containers() {
    return join(this.#folder, "containers");
  }

  /**
   * Starts everything, and returns when all of it answers.
   *
   * @param {{port?: string}} [options] the Worker's
   */
  async start({ port } = {}) {
    this.port = await choosePort(port ?? env.HOLDFAST_PORT, port ? "--port" : "HOLDFAST_PORT");
    this.url = `http://127.0.0.1:${this.port}`;
    const [host, modelUrl] = await Promise.all([this.#startHost(), this.#startModel()]);
    this.hostUrl = `http://127.0.0.1:${host.port}`;
    this.modelUrl = modelUrl;
    this.#vars = {
      WORKER_URL: (await this.#front?.(this.port)) ?? this.url,
      HOLDFAST_HOST_URL: this.hostUrl,
      HOLDFAST_MODEL_BASE_URL: modelUrl,
      HOLDFAST_MODEL: this.model,
      ...(env.HOLDFAST_MODEL_IMAGES && { HOLDFAST_MODEL_IMAGES: env.HOLDFAST_MODEL_IMAGES }),
      ...(this.#limits && { HOLDFAST_LIMITS: JSON.stringify(this.#limits) }),
    };
    await this.startWorker();
  }

  /** Whether a real model answers, instead of the scripted one. */
  get realModel() {
    return Boolean(env.HOLDFAST_MODEL_BASE_URL);
  }

  /** The model's name. */
  get model() {
    return env.HOLDFAST_MODEL || "scripted";
  }

  /** Starts the Worker on the port and the state that it had. */
  async startWorker() {
    for (let n = 1; ; n++) {
      this.#children.worker = this.#spawnWorker();
      try {
        await this.#children.worker.line((line) => (line.includes("Ready on ") ? true : undefined), READY_TIMEOUT_MS);
        return;
      } catch (error) {
        await this.#children.worker.stop();
        if (n === WORKER_TRIES || !this.#children.worker.output.includes("Address already in use")) throw error;
      }
    }
  }

  #spawnWorker() {
    const args = ["dev", "--ip", "127.0.0.1", "--port", `${this.port}`, "--persist-to", join(this.#folder, "state")];
    args.push("--show-interactive-dev-session=false", "--log-level", "log");
    for (const file of this.#secretFiles()) args.push("--env-file", file);
    for (const [name, value] of Object.entries(this.#vars)) args.push("--var", `${name}:${value}`);
    return new Child({
      name: "The Worker (wrangler dev)",
      command: process.execPath,
      args: [inRoot("scripts", "lib", "guard.mjs"), process.execPath, join(MODULES, "wrangler", "bin", "wrangler.js"), ...args],
      // Nothing of the caller's environment may change what runs, and nothing is reported to anyone.
      env: {
        ...env,
        CI: "1",
        CLOUDFLARE_CF_FETCH_ENABLED: "false",
        CLOUDFLARE_ENV: undefined,
        CLOUDFLARE_INCLUDE_PROCESS_ENV: "false",
        CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV: "true",
        HOLDFAST_MODEL_API_KEY: undefined,
        NO_COLOR: "1",
        WRANGLER_LOG_PATH: join(this.#folder, "logs", "wrangler"),
        WRANGLER_REGISTRY_PATH: join(this.#folder, "registry"),
        WRANGLER_SEND_METRICS: "false",
      },
      cwd: ROOT,
      log: join(this.#folder, "logs", "worker.log"),
    });
  }

  /** Ends the Worker as a power cut would. */
  async killWorker() {
    this.#children.worker.kill();
    await this.#children.worker.exited;
  }

  /** Resolves when one of the processes has ended by itself. */
  async ended() {
    const children = Object.values(this.#children);
    return Promise.race(
      children.map(async (child) => {
        const how = await child.exited;
        if (isStopping()) await new Promise(() => {}); // not by itself: we end it
        return new Failure(`${child.name} ${how}.`, { detail: child.tail });
      }),
    );
  }

  /** Stops everything; the state stays. The Worker first: it would take the containers for lost. */
  async stop() {
    const { worker, host, model } = this.#children;
    await worker?.stop();
    await Promise.all([host?.stop(), model?.stop()]);
  }

  #secretFiles() {
    const files = [this.#secretsFile];
    if (env.HOLDFAST_MODEL_API_KEY) {
      const file = join(this.#folder, "model-key");
      writeSecrets(file, { HOLDFAST_MODEL_API_KEY: env.HOLDFAST_MODEL_API_KEY });
      files.push(file);
    }
    return files;
  }

  async #startHost() {
    const port = await choosePort(env.HOLDFAST_HOST_PORT, "HOLDFAST_HOST_PORT");
    this.#children.host = new Child({
      name: "The container host (sandboxd host)",
      command: this.#sandboxd,
      args: ["host", "--listen", `127.0.0.1:${port}`, "--root", this.containers, "--exit-with-stdin"],
      env: { PATH: `${this.#agent}${delimiter}${env.PATH}`, HOLDFAST_HOST_TOKEN: this.secrets.HOLDFAST_HOST_TOKEN },
      cwd: ROOT,
      log: join(this.#folder, "logs", "host.log"),
    });
    await this.#children.host.line(readyLine, READY_TIMEOUT_MS);
    return { port };
  }

  async #startModel() {
    if (this.realModel) return env.HOLDFAST_MODEL_BASE_URL;
    const port = await choosePort(env.HOLDFAST_MODEL_PORT, "HOLDFAST_MODEL_PORT");
    this.#children.model = new Child({
      name: "The scripted model server",
      command: process.execPath,
      args: [inRoot("model-server", "server.mjs"), "--port", `${port}`, "--exit-with-stdin"],
      env: { HOLDFAST_MODEL_API_KEY: env.HOLDFAST_MODEL_API_KEY || this.secrets.HOLDFAST_MODEL_API_KEY },
      cwd: ROOT,
      log: join(this.#folder, "logs", "model.log"),
    });
    await this.#children.model.line(readyLine, READY_TIMEOUT_MS);
    return `http://127.0.0.1:${port}/v1`;
  }
}

/** The folder that holds the agent, `kilo`. */
function agentFolder() {
  const scope = join(MODULES, "@kilocode");
  const folders = existsSync(scope) ? readdirSync(scope).map((name) => join(scope, name, "bin")) : [];
  const found = folders.find((folder) => existsSync(join(folder, "kilo")));
  if (found) return found;
  const onPath = ask("sh", ["-c", "command -v kilo"]);
  if (onPath) return join(onPath, "..");
  throw new Failure(`The agent is missing: no package of the Kilo CLI fits ${process.platform} ${process.arch}; install \`kilo\` 7.7.9 on the PATH.`);
}
