/** A Worker in a workerd of its own, with its objects' storage on the real disk: nothing stands between it and the sockets. */

import { copyFileSync, mkdtempSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { Child } from "../../scripts/lib/children.mjs";
import { inRoot } from "../../scripts/lib/paths.mjs";
import { choosePort } from "../../scripts/lib/ports.mjs";

/** The package's own program is a script around it, which would not pass on signals. */
const WORKERD = createRequire(import.meta.url)("workerd").default;

const COMPATIBILITY_DATE = "2026-10-01";
const START_MS = 20_000;

/**
 * Starts a Worker.
 *
 * @param {object} worker
 * @param {string} worker.name
 * @param {{name: string, file: string, kind?: "esModule" | "wasm"}[]} worker.modules the first is the main one; files relative to the checkout
 * @param {Record<string, string>} worker.objects binding → class
 * @param {Record<string, string>} [worker.variables]
 * @returns {Promise<{url: string, stop: () => Promise<void>}>}
 */
export async function startWorker({ name, modules, objects, variables = {} }) {
  const folder = mkdtempSync(join(tmpdir(), `holdfast-bench-${name}-`));
  mkdirSync(join(folder, "disk"));
  const port = await choosePort(undefined, name);
  const text = JSON.stringify;
  for (const { name, file } of modules) copyFileSync(inRoot(file), join(folder, name));
  const module = ({ name, kind = "esModule" }) => `(name = ${text(name)}, ${kind} = embed ${text(name)})`;
  const object = (className) => `(className = ${text(className)}, uniqueKey = ${text(className)}, enableSql = true)`;
  const bindings = [
    ...Object.entries(objects).map(([binding, className]) => `(name = ${text(binding)}, durableObjectNamespace = ${text(className)})`),
    ...Object.entries(variables).map(([variable, value]) => `(name = ${text(variable)}, text = ${text(value)})`),
  ];
  const config = `using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [
    (name = "main", worker = (
      modules = [${modules.map(module).join(", ")}],
      compatibilityDate = "${COMPATIBILITY_DATE}",
      durableObjectNamespaces = [${Object.values(objects).map(object).join(", ")}],
      durableObjectStorage = (localDisk = "disk"),
      bindings = [${bindings.join(", ")}],
    )),
    (name = "disk", disk = (path = ${text(join(folder, "disk"))}, writable = true)),
  ],
  sockets = [(name = "http", address = "127.0.0.1:${port}", http = (), service = "main")],
);
`;
  writeFileSync(join(folder, "config.capnp"), config);
  const child = new Child({
    name,
    command: process.execPath,
    args: [inRoot("scripts", "lib", "guard.mjs"), WORKERD, "serve", join(folder, "config.capnp"), "--control-fd=1"],
    env: { PATH: process.env.PATH },
    cwd: folder,
    log: join(folder, "log"),
  });
  await child.line((line) => (line.includes('"listen"') ? true : undefined), START_MS);
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      await child.stop();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
