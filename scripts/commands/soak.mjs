/** `npm run soak [-- OPTIONS] [PART…]`: what is longer than `npm test` may be. See USAGE. */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { parseArgs } from "node:util";

import { buildAll } from "../lib/build.mjs";
import { Failure } from "../lib/failure.mjs";
import { ROOT } from "../lib/paths.mjs";
import { untilStopped } from "../lib/shutdown.mjs";

/** Each says whether it went well. @type {Record<string, (options: {count: string, seed?: string, seeds: string}) => Promise<boolean>>} */
const PARTS = { evictions, simulation, mutations };

const USAGE = `Usage: npm run soak [-- OPTIONS] [PART…]

  PART            ${Object.keys(PARTS).join(" or ")} (default: all)
  --count N       how many evictions (default: 100)
  --seeds N       how many seeds of each profile of the simulation (default: 1000000)
  --seed N        repeat the choices of an earlier run
  --help          print this`;

export async function main() {
  const { values, positionals } = parseOptions();
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const parts = positionals.length > 0 ? positionals : Object.keys(PARTS);
  if (parts.includes("evictions")) await buildAll();
  let ok = true;
  for (const name of parts) ok = (await PARTS[name](values)) && ok;
  return ok ? 0 : 1;
}

/** Evictions while the real agent works: in three ways, and many in a row, as `npm test` does with a played agent. */
function evictions({ count, seed = `${Date.now() % 1_000_000}` }) {
  const env = { SOAK_AGENT: "kilo", SOAK_EVICTIONS: count, SOAK_SEED: seed };
  return run(process.execPath, ["--test", "--test-reporter=spec", "--test-concurrency=1", "e2e/town-eviction.test.mjs", "e2e/town-soak.test.mjs"], env);
}

/** What `npm test` runs 1,000 seeds of each profile of. */
function simulation({ seeds }) {
  return run(process.execPath, ["scripts/simulate.mjs", "--seeds", seeds, "--shrink"]);
}

/** Whether the simulation finds the bugs that it should. */
function mutations() {
  return run(process.execPath, ["scripts/simulate.mjs", "--mutations", "--seeds", "1000"]);
}

async function run(program, args, env) {
  const child = spawn(program, args, { cwd: ROOT, env: { ...process.env, ...env }, stdio: ["ignore", "inherit", "inherit"] });
  const forget = untilStopped({ stop: async () => child.kill("SIGTERM"), kill: () => child.kill("SIGKILL") });
  const [code] = await once(child, "exit");
  forget();
  return code === 0;
}

function parseOptions() {
  try {
    const options = { help: { type: "boolean" }, count: { type: "string", default: "100" }, seed: { type: "string" }, seeds: { type: "string", default: "1000000" } };
    const parsed = parseArgs({ options, allowPositionals: true });
    const unknown = parsed.positionals.find((name) => !Object.hasOwn(PARTS, name));
    if (unknown !== undefined) throw new Error(`There is no part ${JSON.stringify(unknown)}`);
    const wrong = ["count", "seed", "seeds"].find((name) => parsed.values[name] !== undefined && !/^[1-9]\d{0,8}$/.test(parsed.values[name]));
    if (wrong) throw new Error(`--${wrong} is ${JSON.stringify(parsed.values[wrong])}: give a whole number from 1`);
    return parsed;
  } catch (error) {
    throw new Failure(`${error.message.split(". ")[0]}.\n\n${USAGE}`);
  }
}
