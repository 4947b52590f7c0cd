#!/usr/bin/env node
/**
 * A scripted, OpenAI-compatible model server on loopback. See README.md.
 *
 *     node model-server/server.mjs [--port N] [--exit-with-stdin]
 *
 * Prints one line of JSON, `{"event":"ready","port":N}`, when it listens. With `HOLDFAST_MODEL_API_KEY` set, requests must
 * carry it as their bearer.
 */

import { createHash, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { Completion } from "./completion.mjs";
import { perform } from "./perform.mjs";
import { nextStep } from "./script.mjs";

/** A conversation with every tool's schema is some 60 KB; the bound is for what is not a conversation. */
const BODY_BYTES_MAX = 32 * 1024 * 1024;
/** The one model that the server lists. It answers to every name. */
const MODEL = "scripted";

/**
 * The server, not yet listening.
 *
 * @param {{apiKey?: string}} [options] the bearer that requests must carry, if any
 * @returns {import("node:http").Server}
 */
export function modelServer({ apiKey } = {}) {
  let count = 0;
  return createServer((request, response) => {
    answer(request, response, apiKey, () => `chatcmpl-${++count}`).catch((error) => {
      if (response.headersSent) response.destroy();
      else refuse(response, error.status ?? 500, error.message);
    });
  });
}

async function answer(request, response, apiKey, nextId) {
  if (apiKey !== undefined && !same(request.headers.authorization ?? "", `Bearer ${apiKey}`)) {
    return refuse(response, 401, "missing or wrong API key");
  }
  const { pathname } = new URL(request.url, "http://localhost");
  const route = `${request.method} ${pathname.replace(/^.*\/(?=models$|chat\/completions$)/, "")}`;
  if (route === "GET models") {
    return json(response, 200, { object: "list", data: [{ id: MODEL, object: "model", created: 0, owned_by: "holdfast" }] });
  }
  if (route !== "POST chat/completions") return refuse(response, 404, `no such route: ${request.method} ${pathname}`);

  const body = parseBody(await readBody(request));
  const step = stepOf(body);
  const fail = step.find(({ name }) => name === "fail");
  if (fail) {
    const [status, ...words] = fail.rest.split(" ");
    return refuse(response, /^[45]\d\d$/.test(status) ? Number(status) : 500, words.join(" ") || "scripted failure");
  }
  if (body.stream !== true) return refuse(response, 400, "only streaming completions are served: set stream to true");
  await perform(step, new Completion(response, nextId(), body.model ?? MODEL));
}

function stepOf(body) {
  try {
    return nextStep(body);
  } catch (error) {
    throw Object.assign(error, { status: 400 });
  }
}

function parseBody(text) {
  try {
    return JSON.parse(text) ?? {};
  } catch (error) {
    throw Object.assign(error, { status: 400 });
  }
}

async function readBody(request) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_BYTES_MAX) throw Object.assign(new Error(`body over ${BODY_BYTES_MAX} bytes`), { status: 413 });
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function refuse(response, status, message) {
  json(response, status, { error: { message, type: "scripted_model", code: String(status) } });
}

function json(response, status, value) {
  response.writeHead(status, { "content-type": "application/json" }).end(JSON.stringify(value));
}

/** Equality in constant time, whatever the lengths. */
function same(a, b) {
  const digest = (text) => createHash("sha256").update(text).digest();
  return timingSafeEqual(digest(a), digest(b));
}

function main() {
  const { values } = parseArgs({ options: { port: { type: "string", default: "0" }, "exit-with-stdin": { type: "boolean" } } });
  const server = modelServer({ apiKey: process.env.HOLDFAST_MODEL_API_KEY });
  server.on("error", (error) => {
    console.error(`model server: ${error.message}`);
    process.exit(1);
  });
  server.listen(Number(values.port), "127.0.0.1", () => {
    console.log(JSON.stringify({ event: "ready", port: server.address().port }));
  });
  const stop = () => process.exit(0);
  process.on("SIGTERM", stop).on("SIGINT", stop);
  if (values["exit-with-stdin"]) process.stdin.resume().on("end", stop).on("error", stop);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) main();
