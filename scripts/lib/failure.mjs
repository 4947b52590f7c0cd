/** Failures that a person can act on, and the one place where a command ends. */

import { stopEverything } from "./shutdown.mjs";

/** Something expected went wrong. The message is one sentence for a person; no stack is shown. */
export class Failure extends Error {
  name = "Failure";

  /**
   * @param {string} message
   * @param {{detail?: string, cause?: unknown}} [more] `detail`: output that explains it, shown under the message
   */
  constructor(message, { detail, cause } = {}) {
    super(message, { cause });
    this.detail = detail;
  }
}

/**
 * Runs a command's `main`, stops what it started, and exits with the code it returned, or 1.
 *
 * @param {() => Promise<number | void>} main
 */
export async function run(main) {
  let code = 1;
  try {
    code = (await main()) ?? 0;
  } catch (error) {
    report(error);
  }
  await stopEverything();
  process.exit(code);
}

/** Shows an error: a {@link Failure} as its sentence, anything else with its stack. */
export function report(error) {
  if (!(error instanceof Failure)) return console.error(error);
  if (error.detail) console.error(`\n${error.detail.trimEnd()}\n`);
  console.error(`holdfast: ${error.message}`);
}
