/**
 * `npm run bench -- worker`: ingest, live latency and replay of a session in real workerd, beside the floor (`floor.mjs`) in the same run.
 *
 * Machines are noisy: a figure is the median of several rounds, in each of which both are measured one after the other. The ratios are what counts.
 */

import { burst, latencies, replay } from "./measure.mjs";
import { Floor, Session } from "./subjects.mjs";

const SIZES = [200, 1_000, 8_000];
const VIEWERS = [0, 1, 10, 100];
/** A burst moves about this much to its viewers, so that each takes about a second. */
const BURST_BYTES = 40_000_000;
const EVENTS = { min: 500, max: 10_000 };
const BATCH = 50;
const LATENCY_SECONDS = 3;

/** @param {{rounds: number, quick?: boolean}} options */
export async function run({ rounds, quick }) {
  const sizes = quick ? [1_000] : SIZES;
  const [floor, session] = [await Floor.start(), await Session.start()];
  const table = [];
  const add = (what, ours, theirs) => {
    table.push({ what, floor: round(median(theirs)), session: round(median(ours)), ratio: (median(ours) / median(theirs)).toFixed(2) });
    console.error(`${what}: ${table.at(-1).session} (floor ${table.at(-1).floor}, ×${table.at(-1).ratio})`);
  };
  try {
    const rows = [];
    for (const size of sizes) {
      for (const viewers of VIEWERS) {
        const count = Math.min(EVENTS.max, Math.max(EVENTS.min, Math.round(BURST_BYTES / size / Math.max(1, viewers))));
        const measured = { floor: [], single: [], batched: [] };
        const replayed = { floor: [], single: [], batched: [] };
        for (let n = 0; n < rounds; n += 1) {
          const bare = await burst(floor, { count, size, viewers });
          const single = await burst(session, { count, size, viewers });
          const batched = await burst(session, { count, size, viewers, batch: BATCH });
          measured.floor.push(bare.eventsPerSecond);
          measured.single.push(single.eventsPerSecond);
          measured.batched.push(batched.eventsPerSecond);
          rows.push(single.rowsPer1000, batched.rowsPer1000);
          if (viewers === 0) {
            replayed.floor.push(await replay(bare.target, { count }));
            replayed.single.push(await replay(single.target, { count }));
            replayed.batched.push(await replay(single.target, { count, batch: true }));
          }
          [bare, single, batched].forEach(({ target }) => target.ingest.close());
        }
        const what = `${size} B, ${viewers} viewers, events/s`;
        add(`${what}, one event per frame`, measured.single, measured.floor);
        add(`${what}, ${BATCH} events per frame`, measured.batched, measured.floor);
        if (viewers > 0) continue;
        add(`${size} B, replayed events/s, one event per frame`, replayed.single, replayed.floor);
        add(`${size} B, replayed events/s, batch=1`, replayed.batched, replayed.floor);
      }
    }
    const took = { floor: [], session: [] };
    for (let n = 0; n < rounds; n += 1) {
      took.floor.push(...(await latencies(floor, { seconds: LATENCY_SECONDS, size: 1_000 })));
      took.session.push(...(await latencies(session, { seconds: LATENCY_SECONDS, size: 1_000 })));
    }
    for (const [name, part] of [["p50", 0.5], ["p99", 0.99]]) {
      const at = (list) => [list.toSorted((a, b) => a - b)[Math.floor(list.length * part)]];
      add(`1000 B, 1 viewer, live latency at 200 events/s, ${name} in ms`, at(took.session), at(took.floor));
    }
    console.table(table);
    console.log(`rows written per 1,000 stored events: ${median(rows).toFixed(0)} (most: ${Math.max(...rows).toFixed(0)})`);
  } finally {
    await Promise.all([floor.stop(), session.stop()]);
  }
}

const round = (value) => (value >= 100 ? Math.round(value) : Number(value.toFixed(3)));

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)];
}
