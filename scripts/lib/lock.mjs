/**
 * One holder at a time, which ends with its process: a listening local socket.
 *
 * A lock file would have to guess whether its process lives; the kernel knows who listens.
 */

import { once } from "node:events";
import { mkdirSync, rmSync } from "node:fs";
import { connect, createServer } from "node:net";
import { dirname, relative } from "node:path";

import { Failure } from "./failure.mjs";

/**
 * Takes the lock for the life of this process.
 *
 * @param {string} path of the socket
 * @param {string} otherwise the sentence for when another process holds it
 */
export async function hold(path, otherwise) {
  // The name of a socket is short (108 bytes), that of a checkout may not be.
  const name = relative(process.cwd(), path);
  mkdirSync(dirname(path), { recursive: true });
  if (await answers(name)) throw new Failure(otherwise);
  rmSync(path, { force: true });
  const server = createServer((socket) => socket.destroy()).listen(name);
  await once(server, "listening");
  server.unref();
}

function answers(name) {
  return new Promise((resolve) => {
    const socket = connect(name);
    socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
    socket.on("connect", () => socket.destroy());
  });
}
