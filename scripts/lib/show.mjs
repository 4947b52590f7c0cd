/** How `npm start` speaks: to a person, or one JSON object per line. Standard output holds nothing else. */

import { seconds } from "./progress.mjs";

const { stdout } = process;

/** Width of the word in front of a line. */
const WORD = 9;

/** One JSON object per milestone. */
export class JsonShow {
  /** The text of the agent so far: pieces are for people. */
  #text = "";

  /** @param {{event: string} & Record<string, unknown>} milestone */
  show(milestone) {
    if (milestone.event === "text") {
      this.#text += milestone.text;
      if (!milestone.done) return;
      milestone = { event: "text", text: this.#text };
      this.#text = "";
    }
    stdout.write(`${JSON.stringify(milestone)}\n`);
  }
}

/** Lines for a person, with the agent's text as it comes. */
export class HumanShow {
  #started = performance.now();
  #inText = false;

  /** @param {{event: string} & Record<string, any>} milestone */
  show(milestone) {
    if (milestone.event === "text") return this.#text(milestone);
    this.#endText();
    for (const [word, text] of lines(milestone)) stdout.write(`${this.#margin(word)}${text}\n`);
  }

  #text({ text, done }) {
    for (const piece of text.split(/(?<=\n)/)) {
      if (!piece) continue;
      if (!this.#inText) stdout.write(this.#margin("agent"));
      stdout.write(piece);
      this.#inText = !piece.endsWith("\n");
    }
    if (done) this.#endText();
  }

  #endText() {
    if (this.#inText) stdout.write("\n");
    this.#inText = false;
  }

  #margin(word) {
    return `${seconds(performance.now() - this.#started).padStart(8)}  ${word.padEnd(WORD)} `;
  }
}

/** What a person reads of a milestone: a word and a text each. */
function lines(milestone) {
  switch (milestone.event) {
    case "ready":
      return [
        ["ready", `${milestone.url} (containers: ${milestone.hostUrl}, model: ${milestone.modelUrl})`],
      ];
    case "warning":
      return [["warning", milestone.message]];
    case "session":
      return [["session", `${milestone.sessionId} (answered in ${milestone.ms} ms)`]];
    case "step":
      return [["prepare", milestone.message]];
    case "tool":
      return [["tool", `${milestone.tool} ${milestone.input}${milestone.status === "called" ? "" : ` (${milestone.status})`}`]];
    case "commit":
      return [["commit", milestone.skipped ? `nothing to commit: ${milestone.message}` : milestone.message]];
    case "notice":
      return [["notice", milestone.message]];
    case "result":
      return result(milestone);
    case "town":
      return [["town", `${milestone.town} (repository: ${milestone.gitUrl})`]];
    case "convoy":
      return [["convoy", `${milestone.title}: ${milestone.beads} beads`]];
    case "bead":
      return [[milestone.type === "issue" ? "bead" : "review", bead(milestone)]];
    case "agent_status":
      return [["agent", `${milestone.agent}: ${milestone.message}`]];
    case "container":
      return [["container", milestone.replaces ? `${milestone.instance} is the replacement` : `${milestone.instance} runs`]];
    case "eviction":
      return [["evict", "SIGTERM to the container, while agents work"]];
    case "drain":
      return [["drain", milestone.draining ? "the town drains: nothing is dispatched" : `over after ${seconds(milestone.ms)}: work goes on`]];
    case "receipt":
      return [["saved", receipt(milestone)]];
    case "serving":
      return [["serving", `${milestone.url} until Ctrl-C`]];
    default:
      return [[milestone.event, JSON.stringify(milestone)]];
  }
}

function bead({ title, status, agent }) {
  const by = agent && status === "in_progress" ? ` (${agent})` : "";
  return `${title}: ${status.replace("_", " ")}${by}`;
}

function receipt({ agent, title, branch, commit, pushed, reason }) {
  return `${title} (${agent}): ${branch} at ${commit?.slice(0, 8)}${pushed ? ", pushed" : `, not pushed: ${reason}`}`;
}

function result(outcome) {
  return outcome.phases ? sessionResult(outcome) : townResult(outcome);
}

function townResult({ status, beads, landed, files, missing, times }) {
  const marks = Object.entries(times).map(([name, ms]) => `${name} ${seconds(ms)}`);
  return [
    ["result", `${status}: ${beads} beads closed, the convoy ${landed ? "landed" : "did not land"}`],
    ["merged", files.join(" ")],
    ...(missing.length > 0 ? [["missing", missing.join(" ")]] : []),
    ["times", marks.join(", ")],
  ];
}

function sessionResult({ status, error, branch, commit, phases }) {
  const times = Object.entries(phases).map(([name, ms]) => `${name} ${seconds(ms)}`);
  return [
    ["result", error ? `${status}: ${error}` : status],
    ...(branch ? [["branch", branch]] : []),
    ...(commit ? [["pushed", commit]] : []),
    ["times", times.join(", ")],
  ];
}
