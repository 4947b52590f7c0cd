/**
 * Leaves nothing behind: whatever was started is stopped when this process ends, for any reason it can see.
 *
 * A signal stops everything in order and exits as a shell expects; a second one does not wait. If this process is killed
 * outright, each child notices by itself: its standard input closes (see `children.mjs`).
 */

/** @typedef {{stop: () => Promise<void>, kill: () => void}} Stoppable  `kill` is synchronous and final. */

/** @type {Set<Stoppable>} in the order of starting */
const running = new Set();

const SIGNALS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

let stopping;

/**
 * Registers something that must not outlive this process.
 *
 * @param {Stoppable} it
 * @returns {() => void} takes it out again
 */
export function untilStopped(it) {
  running.add(it);
  return () => running.delete(it);
}

/** Whether the end has begun: what fails now, fails because of it. */
export const isStopping = () => stopping !== undefined;

/** Stops everything, the latest first. Safe to call more than once. */
export function stopEverything() {
  stopping ??= (async () => {
    for (const it of [...running].reverse()) await it.stop().catch(() => it.kill());
  })();
  return stopping;
}

async function end(code) {
  if (isStopping()) killEverything();
  else await stopEverything();
  process.exit(code);
}

function killEverything() {
  for (const it of running) it.kill();
}

for (const [signal, number] of Object.entries(SIGNALS)) process.on(signal, () => end(128 + number));
process.on("disconnect", () => end(1)); // the launcher is gone: bootstrap.mjs
process.on("uncaughtException", (error) => {
  console.error(error);
  end(1);
});
process.on("exit", killEverything);
