/** A TCP proxy in front of the Worker that breaks connections of `sandboxd` to a session's object, wherever they are at. */

import { createServer, connect } from "node:net";

/** How much of a connection's beginning says what it is for. */
const HEAD_BYTES = 16 * 1024;

export class Proxy {
  /** How many ingest connections there were. */
  connections = 0;
  /** How many of them were cut. */
  cuts = 0;
  /** Whether ingest connections are refused. */
  closed = false;
  #server = createServer((client) => this.#serve(client));
  #port;
  #ingest = new Set();
  #budget = () => Infinity;

  /**
   * @param {number} port the Worker's
   * @returns {Promise<string>} the URL to use instead
   */
  async open(port) {
    this.#port = port;
    await new Promise((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /**
   * From now on each ingest connection is cut after this many bytes, in either direction.
   *
   * @param {() => number} budget asked once for each connection, those that there are included
   */
  cutAfter(budget) {
    this.#budget = budget;
    for (const connection of this.#ingest) connection.left = budget();
  }

  /** Ends the ingest connections that there are, and until {@link admit} takes no more. */
  refuse() {
    this.closed = true;
    for (const { end } of [...this.#ingest]) end();
  }

  admit() {
    this.closed = false;
  }

  stop() {
    this.refuse();
    this.#server.close();
  }

  #serve(client) {
    const worker = connect(this.#port, "127.0.0.1");
    const connection = { left: Infinity, end: () => undefined };
    const end = (connection.end = () => {
      client.destroy();
      worker.destroy();
      this.#ingest.delete(connection);
    });
    for (const socket of [client, worker]) socket.on("error", end).on("close", end);
    let head = "";
    let isIngest = false;
    let isCut = false;
    const pass = (from, to) =>
      from.on("data", (bytes) => {
        if (from === client && !isIngest && head.length < HEAD_BYTES) {
          head += bytes.toString("latin1");
          if (/^GET \S*\/ingest\?/.test(head)) {
            isIngest = true;
            if (this.closed) return end();
            this.connections++;
            connection.left = this.#budget();
            this.#ingest.add(connection);
          }
        }
        const passed = bytes.subarray(0, Math.min(bytes.length, connection.left));
        connection.left -= passed.length;
        if (!to.write(passed)) {
          from.pause();
          to.once("drain", () => from.resume());
        }
        if (connection.left > 0 || isCut) return;
        isCut = true;
        this.cuts++;
        // What was let through arrives: a cut may fall between an event and its acknowledgement.
        to.end(end);
      });
    pass(client, worker);
    pass(worker, client);
  }
}
