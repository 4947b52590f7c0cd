/**
 * A container host (docs/host-api.md) whose containers are played, and a host of pull requests: one real HTTP server on loopback, started by the runner
 * outside of workerd.
 *
 * A container answers as `sandboxd town` does (spec/town.md 6.2), and keeps what it was asked. `/play/{name}` is the test's own: `GET` tells what became of
 * the container of a town, `PUT` says how it is to behave, `DELETE` ends it. `/play` with `PUT` sets the state of pull requests.
 */

import { createServer } from "node:http";
import { createRequire } from "node:module";

// The runner would resolve it to what browsers get.
const { WebSocketServer } = createRequire(import.meta.url)("ws");

/** @type {Map<string, {running: boolean, instance: number, env: object, starts: object[], asked: object[], play: object}>} */
const containers = new Map();
const pulls = { states: {}, asked: [] };

const nameOf = (path) => decodeURIComponent(path).replace(/^town-/, "");

function containerOf(name) {
  if (!containers.has(name)) containers.set(name, { running: false, instance: 0, env: {}, starts: [], asked: [], play: {} });
  return containers.get(name);
}

/** What a container answers to one request: status and body. */
function answerOf(container, method, path) {
  const { play } = container;
  const [, agents, id, verb] = path.split("?")[0].split("/");
  if (path === "/health") {
    const health = { status: "ok", agents: 0, servers: 0, uptime: 1, startedAt: "2026-01-01T00:00:00.000Z" };
    return [200, { ...health, containerInstanceId: `${container.env.GASTOWN_TOWN_ID}-${container.instance}`, draining: !!play.draining }];
  }
  if (path === "/agents/start" && play.draining) return [503, { error: "Container is draining, cannot start new agents" }];
  if (path === "/agents/start") return play.start ?? [201, { status: "starting" }];
  if (agents === "agents" && verb === "status") {
    const status = play.agents?.[id] ?? play.agents?.["*"];
    return status ? [200, { agentId: id, status, exitReason: null, startedAt: play.startedAt ?? new Date().toISOString() }] : [404, { error: `Agent ${id} not found` }];
  }
  if (agents === "agents") return play.agent ?? [200, { done: true }];
  if (path === "/repos/setup") return [202, { status: "accepted" }];
  return [200, { path, method }];
}

async function host(request, response, body) {
  const [, , named, verb, , ...rest] = request.url.split("/");
  const container = containerOf(nameOf(named));
  const send = (status, value) => response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
  const told = () => ({ name: named, instance: String(container.instance), running: container.running });
  if (verb === "ports") {
    if (!container.running || container.play.mute) return send(502, { error: "NOT_RUNNING", message: "it does not run" });
    if (request.headers.authorization !== `Bearer ${container.env.HOLDFAST_SANDBOX_TOKEN}`) return send(401, { error: "UNAUTHORIZED" });
    const path = `/${rest.join("/")}`;
    if (path !== "/health" || request.headers["x-drain-nonce"]) {
      container.asked.push({ method: request.method, path, headers: request.headers, body: body && JSON.parse(body) });
    }
    return send(...answerOf(container, request.method, path));
  }
  if (request.method === "PUT") {
    if (container.play.refuses) return send(503, { error: "TOO_MANY_CONTAINERS", message: "no room" });
    Object.assign(container, { running: true, instance: container.instance + 1, env: JSON.parse(body).env });
    container.starts.push(JSON.parse(body));
    return send(201, told());
  }
  if (verb === "signal") return send(202, {});
  if (request.method === "DELETE" && container.play.clings) return send(503, { error: "NOT_NOW", message: "it does not end" });
  if (request.method === "DELETE") container.running = false;
  return container.instance === 0 ? send(404, { error: "NO_SUCH_CONTAINER", message: "never started" }) : send(200, told());
}

function play(request, response, body) {
  const named = request.url.split("/")[2];
  if (named === undefined) {
    if (request.method === "PUT") Object.assign(pulls.states, JSON.parse(body));
    return response.end(JSON.stringify(pulls.asked));
  }
  const container = containerOf(nameOf(named));
  if (request.method === "PUT") container.play = JSON.parse(body);
  if (request.method === "DELETE") container.running = false;
  return response.end(JSON.stringify(container));
}

function forge(request, response) {
  pulls.asked.push({ method: request.method, path: request.url, headers: request.headers });
  const [status, value] = pulls.states[request.url] ?? [404, { message: "Not Found" }];
  response.writeHead(status, { "content-type": "application/json", location: "http://127.0.0.1:9/" }).end(JSON.stringify(value));
}

/** @param {import("vitest/node").TestProject} project */
export default async function setup(project) {
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += chunk;
    if (request.url.startsWith("/containers/")) return host(request, response, body);
    if (request.url.startsWith("/play")) return play(request, response, body);
    return forge(request, response);
  });
  const sockets = new WebSocketServer({ noServer: true });
  server.on("upgrade", (request, socket, head) => {
    const { url, headers } = request;
    sockets.handleUpgrade(request, socket, head, (opened) => {
      opened.send(JSON.stringify({ url, config: headers["x-town-config"] }));
      opened.on("message", (data, binary) => opened.send(binary ? data : `{"echo":${data}}`));
    });
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  project.provide("host", `http://127.0.0.1:${server.address().port}`);
  return () => {
    sockets.clients.forEach((socket) => socket.terminate());
    server.closeAllConnections();
    return new Promise((resolve) => server.close(resolve));
  };
}
