/**
 * A receiver of callbacks: a real HTTP server on loopback, started by the runner outside of workerd.
 *
 * What it does is written in the path, `/hook/<name>/<action>,<action>,…`: one action for each request, the last one for all that follow. An action is a
 * status, `drop` (the connection ends without an answer), `hang` (it never answers) or `redirect`. `GET /log/<name>` lists what came.
 */

import { createServer } from "node:http";

/** @param {import("vitest/node").TestProject} project */
export default async function setup(project) {
  const log = new Map();
  const server = createServer(async (request, response) => {
    const [, verb, name, script] = request.url.split("/");
    if (verb === "log") return response.end(JSON.stringify(log.get(name) ?? []));
    let body = "";
    for await (const chunk of request) body += chunk;
    const came = log.get(name) ?? [];
    log.set(name, [...came, { method: request.method, path: request.url, headers: request.headers, body }]);
    const actions = script.split(",");
    const action = actions[Math.min(came.length, actions.length - 1)];
    if (action === "drop") return request.socket.destroy();
    if (action === "hang") return undefined;
    if (action === "redirect") return response.writeHead(302, { location: `/hook/${name}/200` }).end();
    return response.writeHead(Number(action)).end("a body that nobody reads");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  project.provide("receiver", `http://127.0.0.1:${server.address().port}`);
  return () => {
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
}
