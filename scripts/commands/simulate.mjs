/** `npm run simulate [-- OPTIONS]`: the whole system in one process, from seeds, under faults (crates/simulation). See USAGE. */

import { parseArgs } from "node:util";

import { Failure } from "../lib/failure.mjs";
import { runMutations } from "../lib/mutations.mjs";
import { buildSimulation, profiles, replay, runSeeds } from "../lib/simulation.mjs";

const USAGE = `Usage: npm run simulate [-- OPTIONS]

  --seeds N       how many seeds (default: 1000)
  --from S        the first of them (default: 0)
  --profile P     sessions, town, or all (default: all there are)
  --shrink        of a failing seed, find a schedule with fewer faults
  --coverage      print how often each input came in each state
  --seed S        run this one seed, and print its trace
  --only LIST     of that seed, only these faults, as a failure names them
  --mutations     plant known bugs into a copy, one after the other, and see that each is found within --seeds
  --help          print this`;

export async function main() {
  const values = parseOptions();
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  const seeds = whole(values, "seeds");
  if (values.mutations) return (await runMutations({ seeds, profile: values.profile })) ? 0 : 1;
  const binary = await buildSimulation();
  const names = chosen(profiles(binary), values.profile);
  if (values.seed !== undefined) return replay(binary, { profile: names[0], seed: whole(values, "seed"), only: values.only });
  let ok = true;
  for (const profile of names) {
    ok = (await runSeeds(binary, { profile, seeds, from: whole(values, "from"), shrink: values.shrink, coverage: values.coverage })) && ok;
  }
  return ok ? 0 : 1;
}

function chosen(known, wanted) {
  if (wanted === "all") return known;
  if (!known.includes(wanted)) throw new Failure(`There is no profile ${JSON.stringify(wanted)}: there is ${known.join(", ")}, and all.`);
  return [wanted];
}

function whole(values, name) {
  if (!/^\d{1,15}$/.test(values[name])) throw new Failure(`--${name} is ${JSON.stringify(values[name])}: give a whole number.`);
  return Number(values[name]);
}

function parseOptions() {
  try {
    const options = {
      coverage: { type: "boolean" },
      from: { type: "string", default: "0" },
      help: { type: "boolean" },
      mutations: { type: "boolean" },
      only: { type: "string" },
      profile: { type: "string", default: "all" },
      seed: { type: "string" },
      seeds: { type: "string", default: "1000" },
      shrink: { type: "boolean" },
    };
    return parseArgs({ options }).values;
  } catch (error) {
    throw new Failure(`${error.message.split(". ")[0]}.\n\n${USAGE}`);
  }
}
