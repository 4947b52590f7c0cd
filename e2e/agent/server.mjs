/**
 * Plays `kilo serve` where many evictions are to be survived in minutes: the real one takes seconds and most of a gigabyte for each start.
 *
 * It does really what its script says (model-server/README.md): it writes files, runs commands as children, calls the tools of the servers that
 * it is configured with, and reports all of it as the agent server does (spec/kilo.md 4, 5). Only the model and its conversation are missing.
 */

import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

import { Tools } from "./tools.mjs";
import { Turn } from "./turn.mjs";

/** Longer than any pause in a turn; the agent server says it every 10 s. */
const HEARTBEAT_MS = 10_000;

const streams = new Set();
/** By id: the turn under way, if any, and what waits. @type {Map<string, {turn?: Turn, queue: string[]}>} */
const sessions = new Map();

function say(type, properties) {
  for (const stream of streams) stream.write(`data: ${JSON.stringify({ type, properties })}\n\n`);
}

/** Takes one prompt after the other, as the agent server does. */
async function work(id, session, tools) {
  while (session.queue.length > 0) {
    session.turn = new Turn(session.queue.shift(), tools, (type, properties) => say(type, { sessionID: id, ...properties }));
    say("session.turn.open", { sessionID: id });
    say("session.status", { sessionID: id, status: { type: "busy" } });
    const reason = await session.turn.run();
    session.turn = undefined;
    say("session.status", { sessionID: id, status: { type: "idle" } });
    say("session.idle", { sessionID: id });
    say("session.turn.close", { sessionID: id, reason });
  }
}

const ROUTES = [
  ["GET /global/health", () => ({ healthy: true, version: "7.7.9" })],
  ["GET /permission", () => []],
  ["GET /question", () => []],
  ["GET /session", () => [...sessions.keys()].map((id) => ({ id, time: { created: 0, updated: 0 } }))],
  ["GET /session/status", () => Object.fromEntries([...sessions].filter(([, { turn }]) => turn).map(([id]) => [id, { type: "busy" }]))],
  ["POST /session", create],
  ["GET /session/:id", (id) => ({ id })],
  ["DELETE /session/:id", (id) => sessions.delete(id)],
  ["GET /session/:id/children", () => []],
  ["GET /session/:id/message", () => []],
  ["POST /session/:id/prompt_async", prompt],
  ["POST /session/:id/abort", abort],
];

function create() {
  const id = `ses_${randomBytes(13).toString("hex")}`;
  sessions.set(id, { queue: [] });
  return { id, time: { created: Date.now(), updated: Date.now() } };
}

function prompt(id, { parts }, tools) {
  const session = sessions.get(id);
  session.queue.push(parts.map(({ text }) => text ?? "").join("\n"));
  if (session.turn === undefined) void work(id, session, tools);
}

async function abort(id) {
  const session = sessions.get(id);
  session.queue.length = 0;
  await session.turn?.abort();
  return true;
}

async function answer(request, response, tools) {
  const { pathname } = new URL(request.url, "http://localhost");
  if (request.method === "GET" && pathname === "/event") return stream(response);
  const [, id] = /^\/session\/(ses_\w+)/.exec(pathname) ?? [];
  if (id && !sessions.has(id)) return json(response, 404, { name: "NotFoundError" });
  const wanted = `${request.method} ${id ? pathname.replace(id, ":id") : pathname}`;
  const [, handle] = ROUTES.find(([route]) => route === wanted) ?? [];
  if (!handle) return json(response, 404, { name: "NotFoundError", data: { message: wanted } });
  let body = "";
  for await (const chunk of request) body += chunk;
  const value = await handle(...(id ? [id] : []), body ? JSON.parse(body) : {}, tools);
  if (value === undefined) response.writeHead(204).end();
  else json(response, 200, value);
}

function stream(response) {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(`data: ${JSON.stringify({ type: "server.connected", properties: {} })}\n\n`);
  streams.add(response);
  response.on("close", () => streams.delete(response));
}

function json(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

const { values, positionals } = parseArgs({
  strict: false,
  allowPositionals: true,
  options: { hostname: { type: "string" }, port: { type: "string" } },
});
if (positionals[0] === "serve") serve();

function serve() {
  const tools = new Tools(JSON.parse(process.env.KILO_CONFIG_CONTENT || "{}").mcp ?? {});
  const server = createServer((request, response) => {
    answer(request, response, tools).catch((error) => json(response, 500, { name: "UnknownError", data: { message: error.message } }));
  });
  server.listen(Number(values.port), values.hostname, () => {
    console.log(`kilo server listening on http://${values.hostname}:${server.address().port}`);
  });
  setInterval(() => say("server.heartbeat", {}), HEARTBEAT_MS).unref();
  process.on("SIGTERM", () => process.exit(0));
}
