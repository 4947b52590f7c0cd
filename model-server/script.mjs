/**
 * What the "model" does, read from the conversation itself.
 *
 * The last user message that has one holds the script: its lines that start with `@` are directives, the rest is ignored. So
 * whoever speaks without a script, say to announce that the container will end, does not make the model forget its work. One
 * request is one *step*: the text directives up to and including the next tool call. The agent runs the tool and comes back; the
 * number of assistant messages since that user message says which step is next. So the server holds no state between requests, and
 * a request that is repeated gets the same answer.
 */

import { createHash } from "node:crypto";

/** @typedef {{name: string, rest: string}} Directive */
/** @typedef {{directives: Directive[], tools: number}} Step  `tools`: the tool calls of the steps before, to number this one's. */

/** Directives that end a step: the agent has something to do, or the request fails. */
const ENDS_STEP = new Set(["bash", "drop", "fail", "hang", "question", "read", "tool", "write"]);

/** Every directive there is. */
export const DIRECTIVES = new Set([...ENDS_STEP, "burst", "look", "recall", "say", "slow", "think"]);

/** What an agent asks beside its work, told by the system prompt. The conversation is only material there: its script is not run. */
const ASIDES = [
  { asked: /title generator/i, answer: { name: "say", rest: "Scripted session" } },
  { asked: /context summarization/i, answer: { name: "say", rest: "The user wrote a script, and it was followed." } },
];
/** The answer to a prompt without a script. */
const GREETING = { name: "say", rest: "Hello from the scripted model. Start a line with @say, @bash or @write to tell it what to do." };
/** The answer when every step has been taken. */
const FINISHED = { name: "say", rest: "done" };

/**
 * The step that a chat completion request asks for.
 *
 * @param {{messages?: {role: string, content: unknown}[]}} request
 * @returns {Directive[]} at least one
 * @throws {SyntaxError} on a directive that does not exist
 */
export function nextStep(request) {
  const messages = Array.isArray(request.messages) ? request.messages : [];
  const system = messages.filter((m) => m.role === "system").map((m) => textOf(m.content)).join("\n");
  const aside = ASIDES.find(({ asked }) => asked.test(system));
  if (aside) return [aside.answer];

  const last = messages.findLastIndex((m) => m.role === "user" && parse(textOf(m.content)).length > 0);
  if (last < 0) return [GREETING];
  const directives = parse(textOf(messages[last].content));

  const taken = messages.slice(last + 1).filter((m) => m.role === "assistant").length;
  const step = steps(directives)[taken] ?? [FINISHED];
  return step.map((directive) => {
    if (directive.name === "look") return seen(messages[last]);
    return directive.name === "recall" ? remembered(messages.slice(0, last)) : directive;
  });
}

/** Says what the user's message shows: the type and the SHA-256 of each image. */
function seen({ content }) {
  const urls = (Array.isArray(content) ? content : []).filter(({ type }) => type === "image_url").map((part) => part.image_url.url);
  const images = urls.map((url) => {
    const [, type, base64] = /^data:([^;]*);base64,(.*)$/s.exec(url) ?? [];
    return type ? `${type} ${createHash("sha256").update(base64, "base64").digest("hex")}` : "something that is not here";
  });
  return { name: "say", rest: images.length === 0 ? "I see nothing." : `I see: ${images.join(" | ")}` };
}

/** Says the first line of each earlier message of the user: what a model knows of a conversation is in the request. */
function remembered(messages) {
  const lines = messages.filter((m) => m.role === "user").map((m) => textOf(m.content).trim().split("\n")[0]);
  return { name: "say", rest: lines.length === 0 ? "I remember nothing." : `I remember: ${lines.join(" | ")}` };
}

/**
 * The directives of a text.
 *
 * @param {string} text
 * @returns {Directive[]}
 */
export function parse(text) {
  return text
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line.startsWith("@"))
    .map((line) => {
      const [, name, rest] = /^@(\S*)\s?(.*)$/.exec(line);
      if (!DIRECTIVES.has(name)) {
        throw new SyntaxError(`unknown directive @${name}: use one of ${[...DIRECTIVES].sort().map((d) => `@${d}`).join(" ")}`);
      }
      return { name, rest };
    });
}

/**
 * Splits directives after each one that ends a step.
 *
 * @param {Directive[]} directives
 * @returns {Directive[][]}
 */
function steps(directives) {
  /** @type {Directive[][]} */
  const result = [[]];
  for (const directive of directives) {
    result.at(-1).push(directive);
    if (ENDS_STEP.has(directive.name)) result.push([]);
  }
  return result.filter((step) => step.length > 0);
}

/** The text of a message: a string, or an array of parts of which some are text. */
function textOf(content) {
  if (typeof content === "string") return content;
  return Array.isArray(content) ? content.map((part) => part.text ?? "").join("\n") : "";
}
