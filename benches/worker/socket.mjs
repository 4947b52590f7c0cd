/**
 * A WebSocket client that costs next to nothing, so that the benchmark measures the server: frames to be sent are made beforehand, and of what
 * comes only the end is looked for.
 */

import { randomBytes } from "node:crypto";
import { connect } from "node:net";

const WAIT_MS = 120_000;

/** A text frame, as a client sends it. The mask is zero: the text stays as it is. */
export function frame(text) {
  const payload = Buffer.from(text);
  const head = Buffer.alloc(payload.length < 126 ? 6 : payload.length < 65_536 ? 8 : 14);
  head[0] = 0x81;
  if (head.length === 6) head[1] = 0x80 | payload.length;
  else if (head.length === 8) (head[1] = 0xfe), head.writeUInt16BE(payload.length, 2);
  else (head[1] = 0xff), head.writeBigUInt64BE(BigInt(payload.length), 2);
  return Buffer.concat([head, payload]);
}

export class RawSocket {
  #socket;
  #seen = () => {};
  #tail = Buffer.alloc(0);

  /**
   * Connects.
   *
   * @param {string} url
   * @param {Record<string, string>} headers
   */
  static async open(url, headers = {}) {
    const { hostname, port, pathname, search } = new URL(url);
    const socket = connect({ host: hostname, port: Number(port), noDelay: true });
    const lines = {
      host: `${hostname}:${port}`,
      upgrade: "websocket",
      connection: "Upgrade",
      "sec-websocket-key": randomBytes(16).toString("base64"),
      "sec-websocket-version": "13",
      ...headers,
    };
    const head = Object.entries(lines).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`GET ${pathname}${search} HTTP/1.1\r\n${head.join("")}\r\n`);
    const raw = new RawSocket();
    raw.#socket = socket;
    const answered = raw.until("\r\n\r\n");
    socket.on("data", (chunk) => raw.#take(chunk));
    socket.on("error", () => {}); // whoever waits hears of it in time
    const answer = (await answered).toString("latin1");
    if (!answer.startsWith("HTTP/1.1 101")) throw new Error(`no upgrade: ${answer.slice(0, 500)}`);
    return raw;
  }

  /** Called with every chunk that comes. */
  onChunk = () => {};

  #take(chunk) {
    this.onChunk(chunk);
    this.#seen(chunk);
  }

  /** Waits for a text to come; what came before counts no more. */
  until(text) {
    this.#tail = Buffer.alloc(0);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${JSON.stringify(text)} did not come in ${WAIT_MS} ms`)), WAIT_MS);
      this.#seen = (chunk) => {
        const joined = Buffer.concat([this.#tail, chunk]);
        if (!joined.includes(text)) {
          this.#tail = joined.subarray(-text.length);
          return;
        }
        clearTimeout(timer);
        this.#seen = () => {};
        resolve(joined);
      };
    });
  }

  /** Sends frames that were made before, as fast as they are taken. */
  async send(...frames) {
    for (const bytes of frames) {
      if (!this.#socket.write(bytes)) await new Promise((resolve) => this.#socket.once("drain", resolve));
    }
  }

  close() {
    this.#socket.destroy();
  }
}
