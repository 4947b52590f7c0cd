/**
 * One chat completion, streamed as server-sent events in the OpenAI format.
 *
 * The writer waits for a slow reader, and `closed` says that there is none any more: nothing is buffered without bound.
 */

import { once } from "node:events";

/** What a turn costs; the agent shows it, nothing depends on it. */
const USAGE = { prompt_tokens: 100, completion_tokens: 10, total_tokens: 110 };
/** Tool arguments arrive in pieces, as those of real models do. */
const ARGUMENT_PIECE_CHARS = 20;

export class Completion {
  #response;
  #head;
  #calls = 0;

  /**
   * @param {import("node:http").ServerResponse} response
   * @param {string} id unique per server
   * @param {string} model the name that the request gave
   */
  constructor(response, id, model) {
    this.#response = response;
    this.#head = { id, object: "chat.completion.chunk", created: Math.floor(Date.now() / 1000), model };
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-cache" });
    response.flushHeaders();
  }

  /** Whether the reader is gone. */
  get closed() {
    return this.#response.destroyed;
  }

  /** @param {string} content */
  text(content) {
    return this.#delta({ content });
  }

  /** @param {string} content */
  reasoning(content) {
    return this.#delta({ reasoning_content: content });
  }

  /**
   * @param {string} name
   * @param {object} args
   */
  async toolCall(name, args) {
    const index = this.#calls++;
    const json = JSON.stringify(args);
    await this.#delta({
      tool_calls: [{ index, id: `call_${this.#head.id}_${index}`, type: "function", function: { name, arguments: "" } }],
    });
    for (let at = 0; at < json.length; at += ARGUMENT_PIECE_CHARS) {
      const piece = json.slice(at, at + ARGUMENT_PIECE_CHARS);
      await this.#delta({ tool_calls: [{ index, function: { arguments: piece } }] });
    }
  }

  /** Ends the stream as a model does. */
  async finish() {
    await this.#chunk({ delta: {}, finish_reason: this.#calls > 0 ? "tool_calls" : "stop" }, { usage: USAGE });
    this.#response.end("data: [DONE]\n\n");
  }

  /** Ends the stream as a network does. */
  break() {
    this.#response.destroy();
  }

  #delta(delta) {
    return this.#chunk({ delta: { role: "assistant", ...delta }, finish_reason: null });
  }

  async #chunk(choice, extra = {}) {
    if (this.closed) return;
    const data = JSON.stringify({ ...this.#head, choices: [{ index: 0, ...choice }], ...extra });
    if (this.#response.write(`data: ${data}\n\n`)) return;
    await Promise.race([once(this.#response, "drain"), once(this.#response, "close")]);
  }
}
