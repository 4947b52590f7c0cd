/** The measurements. Each takes a new object, so that none inherits what another left. */

import { setTimeout as sleep } from "node:timers/promises";

import { frame } from "./socket.mjs";
import { MARK, event } from "./subjects.mjs";

/** Frames are given to the kernel in pieces of this size. */
const WRITE_BYTES = 64 * 1024;
const SETTLE_MS = 150;
const RATE_PER_S = 200;

let objects = 0;
const nextName = () => `bench-${process.pid}-${(objects += 1)}`;

/**
 * A burst as fast as it is taken, until its end is acknowledged and every viewer has its last event.
 *
 * @param {{open: Function}} subject
 * @param {{count: number, size: number, viewers?: number, batch?: number}} burst `batch`: numbered events per frame; none: one event per frame, not numbered
 * @returns {Promise<{eventsPerSecond: number, rowsPer1000: number, target: object}>}
 */
export async function burst(subject, { count, size, viewers = 0, batch }) {
  const target = await subject.open(nextName());
  const watching = await openViewers(target, viewers);
  const writes = inPieces(batch ? batches(target, count, size, batch) : singles(count, size));
  const rows = await target.rows();
  const { end } = target;

  const began = performance.now();
  const arrived = [target.ingest.until(end.answer), ...watching.map((viewer) => viewer.until(MARK))];
  await target.ingest.send(...writes, end.frame);
  await Promise.all(arrived);
  const seconds = (performance.now() - began) / 1000;

  watching.forEach((viewer) => viewer.close());
  return { eventsPerSecond: count / seconds, rowsPer1000: (((await target.rows()) - rows) * 1000) / count, target };
}

/**
 * How fast a viewer that comes late gets what was stored.
 *
 * @param {object} target after a burst of `count` events
 * @param {{count: number, batch?: boolean}} options
 */
export async function replay(target, { count, batch }) {
  const open = await target.prepareViewer({ batch });
  const began = performance.now();
  const viewer = await open();
  await viewer.until(MARK);
  const seconds = (performance.now() - began) / 1000;
  viewer.close();
  return count / seconds;
}

/**
 * From the send of an event to its arrival at a viewer, at a rate that leaves everybody idle between two events.
 *
 * @param {{open: Function}} subject
 * @param {{seconds: number, size: number}} options
 * @returns {Promise<number[]>} milliseconds
 */
export async function latencies(subject, { seconds, size }) {
  const target = await subject.open(nextName());
  const [viewer] = await openViewers(target, 1);
  const count = seconds * RATE_PER_S;
  const sent = new Float64Array(count);
  const took = [];
  let tail = "";
  const done = new Promise((resolve) => {
    viewer.onChunk = (chunk) => {
      const now = performance.now();
      const text = tail + chunk.toString("latin1");
      let last = 0;
      for (const match of text.matchAll(/"mark":"m(\d+);"/g)) {
        took.push(now - sent[Number(match[1])]);
        last = match.index + match[0].length;
      }
      tail = text.slice(Math.max(last, text.length - 30));
      if (took.length === count) resolve();
    };
  });
  const began = performance.now();
  for (let n = 0; n < count; n += 1) {
    await sleep(Math.max(0, began + (n * 1000) / RATE_PER_S - performance.now()));
    const bytes = frame(event(n, size, { mark: `m${n};` }));
    sent[n] = performance.now();
    await target.ingest.send(bytes);
  }
  await done;
  viewer.close();
  target.ingest.close();
  return took;
}

async function openViewers(target, count) {
  const viewers = [];
  for (let n = 0; n < count; n += 1) viewers.push(await (await target.prepareViewer())());
  await sleep(SETTLE_MS);
  return viewers;
}

function* singles(count, size) {
  for (let n = 1; n < count; n += 1) yield frame(event(n, size));
  yield frame(event(count, size, { mark: MARK }));
}

function* batches(target, count, size, batch) {
  const first = target.numbers(count);
  for (let n = 0; n < count; n += batch) {
    const length = Math.min(batch, count - n);
    const events = Array.from({ length }, (_, at) => {
      const number = n + at;
      return event(number, size, { seq: first + number, mark: number === count - 1 ? MARK : undefined });
    });
    yield frame(`[${events.join(",")}]`);
  }
}

function inPieces(frames) {
  const pieces = [];
  let piece = [];
  let bytes = 0;
  for (const it of frames) {
    piece.push(it);
    bytes += it.length;
    if (bytes >= WRITE_BYTES) {
      pieces.push(Buffer.concat(piece));
      [piece, bytes] = [[], 0];
    }
  }
  return [...pieces, Buffer.concat(piece)];
}
