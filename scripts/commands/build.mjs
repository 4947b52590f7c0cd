/** `npm run build`: the Worker as it is deployed, and its size. */

import { buildWorker, workerSize } from "../lib/build.mjs";

export async function main() {
  await buildWorker();
  const { wasm, gzip } = workerSize();
  const kib = (bytes) => `${(bytes / 1024).toFixed(0)} KiB`;
  console.log(`build/: wasm ${kib(wasm)}, with its script ${kib(gzip)} gzipped`);
}
