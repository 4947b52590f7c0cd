/** What containers reach the Worker through, where a test wants some of their calls never to be answered. */

import { once } from "node:events";
import { createServer, request as call } from "node:http";

/**
 * Passes every request on but those whose path ends like this: they hang until their caller gives up.
 *
 * @param {string} suffix
 */
export function hangingAt(suffix) {
  let worker;
  const server = createServer((request, response) => {
    if (new URL(request.url, "http://localhost").pathname.endsWith(suffix)) {
      front.hung++;
      return;
    }
    const { method, url: path, headers } = request;
    const passed = call({ host: "127.0.0.1", port: worker, method, path, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.destroy());
    request.pipe(passed);
  });
  const front = {
    /** How many calls hung. */
    hung: 0,

    /**
     * @param {number} port the Worker's
     * @returns {Promise<string>} the URL to use instead
     */
    async open(port) {
      worker = port;
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      return `http://127.0.0.1:${server.address().port}`;
    },

    close() {
      server.closeAllConnections();
      server.close();
    },
  };
  return front;
}
