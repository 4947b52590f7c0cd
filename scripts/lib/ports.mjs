/** Ports on loopback. */

import { once } from "node:events";
import { createServer } from "node:net";

import { Failure } from "./failure.mjs";

const LOOPBACK = "127.0.0.1";

/**
 * The port that was asked for, or any that is free.
 *
 * @param {string | undefined} asked
 * @param {string} whatFor for the message: "--port" or the name of a variable
 * @returns {Promise<number>}
 * @throws {Failure} if it is no port, or busy
 */
export async function choosePort(asked, whatFor) {
  if (asked === undefined || asked === "") return bind(0);
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

async function bind(port) {
  const server = createServer().listen(port, LOOPBACK);
  await once(server, "listening");
  const { port: bound } = server.address();
  server.close();
  await once(server, "close");
  return bound;
}
