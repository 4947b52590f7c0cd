/**
 * Plays the agent where a test decides what it says: the program `kilo`, as far as `sandboxd session` uses it, and the test's way to it.
 *
 * `kilo serve` has one more route, `POST /say`: texts of events, which go to every reader of `/event`. Where it listens is written to the player's folder.
 */

import { chmodSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const THIS = fileURLToPath(import.meta.url);

export class Player {
  /** @param {string} folder for the program `kilo` and what it writes */
  constructor(folder) {
    this.folder = folder;
    mkdirSync(folder, { recursive: true });
    const kilo = join(folder, "kilo");
    writeFileSync(kilo, `#!/bin/sh\nexec ${process.execPath} ${THIS} ${folder} "$@"\n`);
    chmodSync(kilo, 0o755);
  }

  /** What the running server has been asked: the agent session, and how many prompts it took. */
  async asked() {
    try {
      return await (await fetch(`${this.#url()}/asked`)).json();
    } catch {
      return { prompts: 0, readers: 0 }; // there is none, or not yet
    }
  }

  /**
   * Has the agent say this; returns when all of it is on its way.
   *
   * @param {string[]} payloads the texts of events
   */
  async say(payloads) {
    const answer = await fetch(`${this.#url()}/say`, { method: "POST", body: JSON.stringify(payloads) });
    if (!answer.ok) throw new Error(`the player answered ${answer.status}`);
  }

  #url() {
    return `http://127.0.0.1:${readFileSync(join(this.folder, "port"), "utf8")}`;
  }
}

/** The program. */
async function kilo(folder, [verb, ...args]) {
  if (verb === "export") process.stdout.write(JSON.stringify({ info: { id: args[0] }, messages: [] }));
  if (verb !== "serve") return;
  const port = Number(args[args.indexOf("--port") + 1]);
  const server = createServer(serve({ prompts: 0, readers: new Set() }));
  server.listen(port, "127.0.0.1", () => {
    writeFileSync(join(folder, "port.new"), `${port}`);
    renameSync(join(folder, "port.new"), join(folder, "port"));
    console.log(`kilo server listening on http://127.0.0.1:${port}`);
  });
  process.on("SIGTERM", () => process.exit(0));
}

const serve = (state) => async (request, response) => {
  const answer = (value) => response.end(JSON.stringify(value));
  switch (`${request.method} ${request.url.replace(/\/session\/ses_\w+/, "/session/ID").split("?")[0]}`) {
    case "GET /event":
      response.writeHead(200, { "content-type": "text/event-stream" });
      response.write('data: {"type":"server.connected","properties":{}}\n\n');
      state.readers.add(response);
      response.on("close", () => state.readers.delete(response));
      return;
    case "POST /session/ID/prompt_async":
      state.prompts++;
      response.writeHead(204).end();
      return;
    case "POST /say":
      for (const payload of JSON.parse(await text(request))) {
        for (const reader of state.readers) reader.write(`data: ${payload}\n\n`);
      }
      return answer(true);
    case "GET /asked":
      return answer({ prompts: state.prompts, readers: state.readers.size });
    case "POST /session/ID/abort":
      return answer(true);
    case "GET /session/status":
    case "GET /session/ID":
      return answer({});
    case "GET /permission":
    case "GET /question":
    case "GET /session/ID/children":
    case "GET /session/ID/message":
      return answer([]);
    default:
      response.writeHead(404).end();
  }
};

async function text(request) {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

if (process.argv[1] === THIS) await kilo(process.argv[2], process.argv.slice(3));
