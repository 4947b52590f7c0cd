/**
 * A session's events, over connections that may break (spec/session.md 6.5).
 *
 * Each connection has a ticket of its own and resumes after the last stored event, so that none is missed or seen twice.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { Failure } from "./failure.mjs";

/** In a row, without a frame in between. */
const ATTEMPTS_MAX = 8;
const BACKOFF_MS = { first: 1_000, max: 30_000 };
const CONNECT_TIMEOUT_MS = 15_000;

/**
 * Yields every event of a session, until the caller stops or the session is gone.
 *
 * @param {import("./api.mjs").Api} api
 * @param {string} sessionId
 * @param {AbortSignal} signal ends it
 * @returns {AsyncGenerator<{eventId: number, executionId: string | null, streamEventType: string, timestamp: string, data: any}>}
 */
export async function* events(api, sessionId, signal) {
  let fromId = 0;
  let attempts = 0;
  while (!signal.aborted) {
    let why;
    try {
      for await (const frame of connection(await api.streamUrl(sessionId, fromId), signal)) {
        attempts = 0;
        if (frame.eventId > 0) fromId = frame.eventId;
        if (frame.streamEventType) yield frame;
      }
      why = "it was closed";
    } catch (error) {
      if (error.status === 403 || error.status === 404) return; // the session is gone, or not ours
      why = error.message;
    }
    if (signal.aborted) return;
    if (++attempts >= ATTEMPTS_MAX) throw new Failure(`The session's stream was lost ${attempts} times in a row: ${why}.`);
    const delay = Math.min(BACKOFF_MS.max, BACKOFF_MS.first * 2 ** (attempts - 1)) * (0.5 + Math.random());
    await sleep(delay, undefined, { signal }).catch(() => {});
  }
}

/** The frames of one connection. */
async function* connection(url, signal) {
  const socket = new WebSocket(url);
  const frames = [];
  let wake = () => {};
  let problem;
  let closed = false;
  const close = () => socket.close();
  const timer = setTimeout(() => {
    problem = new Error("the connection was not made in time");
    closed = true;
    socket.close();
    wake();
  }, CONNECT_TIMEOUT_MS);
  socket.addEventListener("open", () => clearTimeout(timer));
  socket.addEventListener("message", ({ data }) => {
    frames.push(JSON.parse(data));
    wake();
  });
  socket.addEventListener("error", (event) => {
    problem = new Error(event.message || "the connection failed");
  });
  socket.addEventListener("close", () => {
    closed = true;
    wake();
  });
  signal.addEventListener("abort", close);
  try {
    for (;;) {
      while (frames.length > 0) yield frames.shift();
      if (closed) break;
      await new Promise((resolve) => (wake = resolve));
    }
    if (problem) throw problem;
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", close);
    close();
  }
}
