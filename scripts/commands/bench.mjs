/** `npm run bench [-- OPTIONS] [BENCH…]`: builds what is measured, and prints the tables. See USAGE, and `benches/README.md`. */

import { parseArgs } from "node:util";

import { buildSandboxd, buildWorker } from "../lib/build.mjs";
import { Failure } from "../lib/failure.mjs";
import { inRoot } from "../lib/paths.mjs";

const BENCHES = { worker: buildWorker, sandboxd: buildSandboxd };

const USAGE = `Usage: npm run bench [-- OPTIONS] [BENCH…]

  BENCH           ${Object.keys(BENCHES).join(" or ")} (default: all)
  --rounds N      how often each figure is measured; the median is shown (default: 5)
  --quick         one round, and of the worker only events of 1 KB
  --help          print this`;

export async function main() {
  const { values, positionals } = parseOptions();
  if (values.help) {
    console.log(USAGE);
    return;
  }
  const rounds = values.quick ? 1 : Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Failure(`--rounds is ${JSON.stringify(values.rounds)}: give a whole number from 1.`);
  for (const name of positionals.length > 0 ? positionals : Object.keys(BENCHES)) {
    const built = await BENCHES[name]();
    const { run } = await import(inRoot("benches", name, "run.mjs"));
    await run({ rounds, quick: values.quick, built });
  }
}

function parseOptions() {
  try {
    const options = {
      help: { type: "boolean" },
      quick: { type: "boolean" },
      rounds: { type: "string", default: "5" },
    };
    const parsed = parseArgs({ options, allowPositionals: true });
    const unknown = parsed.positionals.find((name) => !Object.hasOwn(BENCHES, name));
    if (unknown !== undefined) throw new Error(`There is no benchmark ${JSON.stringify(unknown)}`);
    return parsed;
  } catch (error) {
    throw new Failure(`${error.message.split(". ")[0]}.\n\n${USAGE}`);
  }
}
