/** Ports on loopback. */

import { once } from "node:events";
import { createServer } from "node:net";

import { Failure } from "./failure.mjs";

const LOOPBACK = "127.0.0.1";

/** Below the ports that systems give to outgoing connections: one of those could be gone before it is used. */
const FREE_PORTS = { first: 20_000, count: 10_000 };
const TRIES = 50;

/**
 * The port that was asked for, or any that is free.
 *
 * @param {string | undefined} asked
 * @param {string} whatFor for the message: "--port" or the name of a variable
 * @returns {Promise<number>}
 * @throws {Failure} if it is no port, or busy
 */
export async function choosePort(asked, whatFor) {
  if (asked === undefined || asked === "") return anyPort();
  if (!/^\d{1,5}$/.test(asked) || Number(asked) < 1 || Number(asked) > 65_535) {
    throw new Failure(`${whatFor} is ${JSON.stringify(asked)}: a port is a number from 1 to 65535.`);
  }
  try {
    return await bind(Number(asked));
  } catch (error) {
    const why = error.code === "EADDRINUSE" ? "is in use by another program" : `cannot be used (${error.code})`;
    throw new Failure(`Port ${asked} ${why}: free it, or name another one with ${whatFor}.`);
  }
}

async function anyPort() {
  for (let n = 0; n < TRIES; n++) {
    const port = FREE_PORTS.first + Math.floor(Math.random() * FREE_PORTS.count);
    const free = await bind(port).catch(() => undefined);
    if (free) return free;
  }
  throw new Failure(`No free port was found on ${LOOPBACK}.`);
}

async function bind(port) {
  const server = createServer().listen(port, LOOPBACK);
  await once(server, "listening");
  server.close();
  await once(server, "close");
  return port;
}
