import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { modelServer } from "./server.mjs";
import { nextStep, parse } from "./script.mjs";

const user = (content) => ({ role: "user", content });
const assistant = { role: "assistant", content: "" };

let server;
let url;
before(async () => {
  server = modelServer({ apiKey: "key" }).listen(0, "127.0.0.1");
  await once(server, "listening");
  url = `http://127.0.0.1:${server.address().port}/v1`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});

function complete(script, { messages = [user(script)], key = "key", ...rest } = {}) {
  return fetch(`${url}/chat/completions`, {
    method: "POST",
    headers: { authorization: `Bearer ${key}`, "content-type": "application/json" },
    body: JSON.stringify({ model: "m", stream: true, messages, ...rest }),
    signal: AbortSignal.timeout(10_000),
  });
}

/** The text, the reasoning, the tool calls and the finish reason of a streamed answer. */
async function collect(response) {
  const result = { text: "", reasoning: "", calls: [], finish: undefined, done: false };
  for (const frame of (await response.text()).split("\n\n").filter(Boolean)) {
    const data = frame.slice("data: ".length);
    if (data === "[DONE]") {
      result.done = true;
      continue;
    }
    const { delta, finish_reason: finish } = JSON.parse(data).choices[0];
    result.text += delta.content ?? "";
    result.reasoning += delta.reasoning_content ?? "";
    for (const call of delta.tool_calls ?? []) {
      if (call.id) result.calls.push({ name: call.function.name, arguments: "" });
      result.calls[call.index].arguments += call.function.arguments;
    }
    result.finish = finish ?? result.finish;
  }
  return result;
}

test("text is said whole, and ends with stop", async () => {
  const answer = await collect(await complete("@think why not\n@say two  words\n@say more"));
  assert.deepEqual(answer, {
    text: "two  words\nmore\n",
    reasoning: "why not\n",
    calls: [],
    finish: "stop",
    done: true,
  });
});

test("a tool call carries its arguments and ends the step", async () => {
  const answer = await collect(await complete("@say first\n@write notes/a.md some text here\n@say later"));
  assert.equal(answer.text, "first\n");
  assert.equal(answer.finish, "tool_calls");
  assert.equal(answer.calls[0].name, "write");
  assert.deepEqual(JSON.parse(answer.calls[0].arguments), { filePath: "notes/a.md", content: "some text here\n" });
});

test("every tool directive calls its tool", async () => {
  const cases = {
    "@bash ls -l": ["bash", { command: "ls -l", description: "Run a command" }],
    "@read a.md": ["read", { filePath: "a.md" }],
    '@tool glob {"pattern":"*"}': ["glob", { pattern: "*" }],
    "@question Which?|A|B": [
      "question",
      {
        questions: [
          {
            question: "Which?",
            header: "Pick",
            options: [
              { label: "A", description: "Option A" },
              { label: "B", description: "Option B" },
            ],
          },
        ],
      },
    ],
  };
  for (const [script, [name, args]] of Object.entries(cases)) {
    const { calls } = await collect(await complete(script));
    assert.deepEqual([calls[0].name, JSON.parse(calls[0].arguments)], [name, args], script);
  }
});

test("the assistant messages since the user spoke say which step is next", () => {
  const script = user("please\n@say a\n@bash one\n @bash two\n@say b");
  const names = (messages) => nextStep({ messages }).map(({ name, rest }) => `${name} ${rest}`);
  assert.deepEqual(names([script]), ["say a", "bash one"]);
  assert.deepEqual(names([script, assistant]), ["bash two"]);
  assert.deepEqual(names([script, assistant, { role: "tool", content: "" }, assistant]), ["say b"]);
  assert.deepEqual(names([script, assistant, assistant, assistant]), ["say done"]);
  assert.deepEqual(names([script, assistant, user("@say new")]), ["say new"]);
});

test("a message without a script does not interrupt the script before it", () => {
  const script = user("@bash one\n@bash two");
  const hurry = user("The container ends soon: finish your work.");
  const names = (messages) => nextStep({ messages }).map(({ rest }) => rest);
  assert.deepEqual(names([script, assistant, hurry]), ["two"]);
  assert.deepEqual(names([script, assistant, hurry, assistant]), ["done"]);
});

test("what is recalled is what the request holds", () => {
  const recall = user("now\n@recall");
  const said = (messages) => nextStep({ messages }).map(({ name, rest }) => `${name} ${rest}`);
  assert.deepEqual(said([recall]), ["say I remember nothing."]);
  assert.deepEqual(said([user("one\n@say x"), assistant, user("two"), assistant, recall]), ["say I remember: one | two"]);
});

test("what is seen are the images of the user's message, and none of an earlier one", () => {
  const pixel = { type: "image_url", image_url: { url: `data:image/png;base64,${btoa("pixel")}` } };
  const said = (...parts) => nextStep({ messages: [user([pixel]), assistant, user([{ type: "text", text: "@look" }, ...parts])] })[0].rest;
  assert.equal(said(), "I see nothing.");
  assert.equal(said(pixel), "I see: image/png 3f8d7379e2f0f7d0c845a06f7b67ef80cacce0c686254aced769c1698f3fe59a");
  assert.equal(said({ type: "image_url", image_url: { url: "https://example.com/a.png" } }), "I see: something that is not here");
});

test("a title is made without touching the script", () => {
  const messages = [{ role: "system", content: "You are a title generator." }, user("@bash rm -rf .")];
  assert.deepEqual(nextStep({ messages }), [{ name: "say", rest: "Scripted session" }]);
});

test("a summary is made without touching the scripts of the conversation", () => {
  const messages = [{ role: "system", content: "You are a context summarization agent." }, user("<conversation>\n@bash rm -rf .\n</conversation>")];
  assert.deepEqual(nextStep({ messages }).map(({ name }) => name), ["say"]);
});

test("message parts count as text, and prose is no script", () => {
  assert.equal(nextStep({ messages: [user([{ type: "text", text: "@bash a" }, { type: "image_url" }])] })[0].name, "bash");
  assert.match(nextStep({ messages: [user("mail me@example.com")] })[0].rest, /^Hello/);
});

test("an unknown directive is named", async () => {
  assert.throws(() => parse("@shout x"), /unknown directive @shout/);
  const response = await complete("@shout x");
  assert.equal(response.status, 400);
  assert.match((await response.json()).error.message, /@shout/);
});

test("@burst and @slow say as many pieces as they are told", async () => {
  assert.equal((await collect(await complete("@burst 2000 10"))).text.length, 20_000);
  assert.equal((await collect(await complete("@slow 3 1"))).text, "tok0 tok1 tok2 ");
});

test("@fail answers with its status, @drop breaks the stream, @hang says nothing", async () => {
  const failed = await complete("@fail 402 no credit");
  assert.equal(failed.status, 402);
  assert.equal((await failed.json()).error.message, "no credit");
  await assert.rejects(async () => collect(await complete("@drop 2")));
  const silent = await complete("@hang");
  assert.equal(silent.status, 200);
  await assert.rejects(Promise.race([silent.text(), new Promise((_, no) => setTimeout(no, 200, new Error("silent")))]), /silent/);
});

test("a wrong key, an unknown route and a body that is not JSON are refused", async () => {
  assert.equal((await complete("@say x", { key: "other" })).status, 401);
  const headers = { authorization: "Bearer key" };
  assert.equal((await fetch(`${url}/embeddings`, { headers })).status, 404);
  assert.equal((await fetch(`${url}/chat/completions`, { method: "POST", headers, body: "{" })).status, 400);
  assert.equal((await complete("@say x", { stream: false })).status, 400);
  assert.equal((await (await fetch(`${url}/models`, { headers })).json()).data[0].id, "scripted");
});

test("as a process it says its port, and ends with its standard input", { timeout: 20_000 }, async () => {
  const script = fileURLToPath(new URL("server.mjs", import.meta.url));
  const child = spawn(process.execPath, [script, "--exit-with-stdin"], { stdio: ["pipe", "pipe", "inherit"] });
  const [line] = await once(createInterface(child.stdout), "line");
  const { event, port } = JSON.parse(line);
  assert.equal(event, "ready");
  assert.equal((await fetch(`http://127.0.0.1:${port}/v1/models`)).status, 200);
  child.stdin.end();
  assert.deepEqual(await once(child, "exit"), [0, null]);
});
