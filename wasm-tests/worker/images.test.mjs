// The images of prompts, through the built Worker and a real bucket: put by their user, read by the containers of the user's sessions alone.

import { env } from "cloudflare:test";
import { expect, test } from "vitest";

import { eventually } from "./socket.mjs";
import { headersOf } from "./tokens.mjs";
import { ask, newSession, runningSession } from "./wrapper.mjs";

const BYTES_MAX = 5 * 1024 * 1024;

const names = (extension = "png") => ({ path: crypto.randomUUID(), file: `${crypto.randomUUID()}.${extension}` });
const keyOf = (user, { path, file }) => `images/${encodeURIComponent(user)}/${path}/${file}`;

async function put(headers, { path, file }, body, more) {
  const { authorization } = headers;
  const response = await ask(`/images/${path}/${file}`, { method: "PUT", headers: { authorization, ...more }, body });
  return [response.status, await response.json()];
}

async function get(url, token) {
  const response = await ask(url, { headers: token ? { authorization: `Bearer ${token}` } : {} });
  return [response.status, response.headers.get("content-type"), new TextDecoder().decode(await response.arrayBuffer())];
}

/** The work that begins the first turn. */
async function start(session) {
  await session.report(await session.work(), 1, "kilo_server", { type: "done", branch: "session/test", resume: "fresh" });
  return session.work();
}

test("what a user uploaded reaches the container of the user's session, for the first turn and for the next", async () => {
  const [first, second] = [names("png"), names("webp")];
  const headers = await headersOf("oauth/images:1");
  expect(await put(headers, first, "first")).toEqual([200, {}]);
  expect(await put(headers, second, "old")).toEqual([200, {}]);
  expect(await put(headers, second, "second")).toEqual([200, {}]);

  const { session, wrapper, turn, report } = await runningSession("images", { images: { path: first.path, files: [first.file] } });
  expect(turn.images).toMatchObject([{ filename: first.file, mime: "image/png" }]);
  expect(await get(turn.images[0].url, report.token)).toEqual([200, "image/png", "first"]);

  wrapper.send({ streamEventType: "complete", seq: 1, data: { exitCode: 0 } });
  await wrapper.next();
  const images = { path: second.path, files: [second.file] };
  const sent = session.mutate("sendMessageV2", { cloudAgentSessionId: session.id, prompt: "and this?", images });
  const next = await eventually(() => session.work().catch(() => undefined), (work) => work !== undefined);
  expect(next.turn.images).toMatchObject([{ filename: second.file, mime: "image/webp" }]);
  expect(await get(next.turn.images[0].url, next.report.token)).toEqual([200, "image/webp", "second"]);
  await session.mutate("deleteSession", { sessionId: session.id });
  expect((await sent).status).toBe(404);
});

test("nobody reads another user's image, or one without a report token", async () => {
  const image = names();
  const theirs = "oauth/images-theirs:1";
  await put(await headersOf(theirs), image, "theirs");
  const session = await newSession("images-own", { images: { path: image.path, files: [image.file] } });
  const { turn, report } = await start(session);
  const { url } = turn.images[0];
  expect((await get(url, report.token))[0]).toBe(404);
  const climbed = url.replace(encodeURIComponent(session.user), encodeURIComponent(theirs));
  expect(climbed).not.toBe(url);
  expect((await get(climbed, report.token))[0]).toBe(404);

  expect((await put(session.headers, image, "own"))[0]).toBe(200);
  expect((await get(url, report.token))[2]).toBe("own");
  expect(await (await env.STORE.get(keyOf(theirs, image))).text()).toBe("theirs");
  for (const token of [undefined, "wrong", session.headers.authorization.split(" ")[1]]) {
    expect((await get(url, token))[0]).toBe(401);
  }
});

test("an upload needs its user's token, a name that says what it is, and at most 5 MiB", async () => {
  const image = names();
  const headers = await headersOf("oauth/images-bad:1");
  const tooLarge = { error: "INVALID_REQUEST", message: `The body must have at most ${BYTES_MAX} bytes` };
  expect(await put(headers, image, new Uint8Array(BYTES_MAX + 1))).toEqual([413, tooLarge]);
  expect((await put(headers, image, new Uint8Array(BYTES_MAX)))[0]).toBe(200);
  const endless = new ReadableStream({ pull: (controller) => controller.close() });
  expect((await put(headers, image, endless))[0]).toBe(411);
  expect((await put({ authorization: "Bearer a.b.c" }, image, "x"))[0]).toBe(401);
  expect((await put({}, image, "x"))[0]).toBe(401);
  for (const bad of [{ file: "cat.png" }, { path: "x" }, { file: names("svg").file }]) {
    const [status, { error }] = await put(headers, { ...image, ...bad }, "x");
    expect([status, error]).toEqual([400, "Expected /images/<UUID>/<UUID>.(png|jpg|jpeg|webp|gif)"]);
  }
  const { path, file } = image;
  expect((await ask(`/images/${path}/${file}`, { headers })).status).toBe(405);

  const input = { cloudAgentSessionId: `agent_${path}`, prompt: "p", images: { path, files: ["cat.png"] } };
  const response = await ask("/trpc/sendMessageV2", { method: "POST", headers, body: JSON.stringify(input) });
  const [issue] = JSON.parse((await response.json()).error.message);
  expect([response.status, issue.path]).toEqual([400, ["images"]]);
});
