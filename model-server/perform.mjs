/** What each directive of a script does to a completion. */

import { setTimeout as sleep } from "node:timers/promises";

/** Between two words of `@say`: the text arrives in pieces, and is soon there. */
const WORD_DELAY_MS = 2;
/** Before `@drop` cuts the connection, so that what was said has left. */
const DROP_DELAY_MS = 50;

/** @typedef {import("./completion.mjs").Completion} Completion */

/**
 * Performs one step. Returns when the stream has ended, or (`@hang`) never speaks again.
 *
 * @param {import("./script.mjs").Directive[]} step
 * @param {Completion} completion
 */
export async function perform(step, completion) {
  for (const { name, rest } of step) {
    if (completion.closed) return;
    if (name === "hang") return;
    if (name === "drop") return drop(completion, rest);
    await PERFORM[name](completion, rest);
  }
  await completion.finish();
}

/** @type {Record<string, (completion: Completion, rest: string) => Promise<void>>} */
const PERFORM = {
  bash: (completion, command) => completion.toolCall("bash", { command, description: "Run a command" }),

  async burst(completion, rest) {
    const [count, size] = numbers(rest, 1, 5);
    const word = `${"x".repeat(Math.max(size - 1, 0))} `;
    for (let n = 0; n < count && !completion.closed; n++) await completion.text(word);
  },

  question(completion, rest) {
    const [question, ...labels] = rest.split("|");
    const options = labels.map((label) => ({ label, description: `Option ${label}` }));
    return completion.toolCall("question", { questions: [{ question, header: "Pick", options }] });
  },

  read: (completion, filePath) => completion.toolCall("read", { filePath }),

  async say(completion, text) {
    for (const word of words(text)) {
      await completion.text(word);
      await sleep(WORD_DELAY_MS);
    }
  },

  async slow(completion, rest) {
    const [count, delayMs] = numbers(rest, 1, 100);
    for (let n = 0; n < count && !completion.closed; n++) {
      await completion.text(`tok${n} `);
      await sleep(delayMs);
    }
  },

  async think(completion, text) {
    for (const word of words(text)) await completion.reasoning(word);
  },

  tool(completion, rest) {
    const [name, json] = split(rest);
    return completion.toolCall(name, json === "" ? {} : JSON.parse(json));
  },

  write(completion, rest) {
    const [filePath, content] = split(rest);
    return completion.toolCall("write", { filePath, content: `${content}\n` });
  },
};

async function drop(completion, rest) {
  const [count] = numbers(rest, 1);
  for (let n = 0; n < count; n++) await completion.text(`tok${n} `);
  await sleep(DROP_DELAY_MS);
  completion.break();
}

/** Cuts after each space, so that the pieces joined are the text; a line's end closes it. */
function words(text) {
  return `${text}\n`.split(/(?<= )/);
}

/** The first word, and all after it. */
function split(text) {
  const at = text.indexOf(" ");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 1)];
}

/** Whole numbers of at most a million, with defaults for those that are missing. */
function numbers(text, ...defaults) {
  const given = text.split(/\s+/).filter(Boolean).map(Number);
  return defaults.map((fallback, i) => (Number.isSafeInteger(given[i]) && given[i] >= 0 ? Math.min(given[i], 1_000_000) : fallback));
}
