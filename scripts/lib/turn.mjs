/**
 * Understands a session's events: what to show as they come, and how it ended.
 *
 * A pure reducer: frames in, milestones out. It knows no socket and no clock.
 */

/**
 * @typedef {{event: "step", step: string, message: string}
 *   | {event: "text", text: string, done: boolean}
 *   | {event: "tool", tool: string, input: string, status: string}
 *   | {event: "commit", success: boolean, skipped: boolean, commit?: string, message: string}
 *   | {event: "notice", message: string}
 *   | {event: "end", status: "completed" | "failed" | "interrupted", branch?: string, error?: string}} Milestone
 */

export class Turn {
  /** Messages of the agent; the user's own words come back as parts too. */
  #assistant = new Set();
  /** Of each text, how much was shown. */
  #shown = new Map();
  /** Of each tool call, the state that was shown. */
  #tools = new Map();
  /** The branch that is worked on, once it is known. */
  branch;

  /**
   * @param {{streamEventType: string, data: any, executionId: string | null}} frame
   * @returns {Milestone[]}
   */
  take({ streamEventType, data, executionId }) {
    switch (streamEventType) {
      case "preparing":
        return this.#preparing(data, executionId);
      case "connected":
        // What a viewer finds who was away when it failed.
        if (data.cloudStatus?.type === "error") return [{ event: "end", status: "failed", error: data.cloudStatus.message }];
        return [];
      case "kilocode":
        return this.#agent(data.event ?? data.type, data.properties ?? {});
      case "autocommit_completed":
        return [
          { event: "commit", success: data.success === true, skipped: data.skipped === true, commit: data.commitHash, message: data.message },
        ];
      case "wrapper_disconnected":
        return [{ event: "notice", message: "the container's connection was lost; waiting for it to come back" }];
      case "complete":
        this.branch = data.currentBranch ?? this.branch;
        return [{ event: "end", status: "completed", branch: this.branch }];
      case "interrupted":
        return [{ event: "end", status: "interrupted", error: data.reason }];
      case "error":
        if (data.fatal === true) return [{ event: "end", status: "failed", error: data.error ?? data.message }];
        return [{ event: "notice", message: data.error ?? data.message }];
      default:
        return [];
    }
  }

  #preparing({ step, message, branch }, executionId) {
    this.branch = branch ?? this.branch;
    const milestones = [{ event: "step", step, message }];
    // A failed start of an execution has an `error` event of its own; a failed preparation has nothing else.
    if (step === "failed" && !executionId?.startsWith("exc_")) milestones.push({ event: "end", status: "failed", error: message });
    return milestones;
  }

  #agent(name, { info, part, partID, delta, field }) {
    if (name === "message.updated" && info?.role === "assistant") this.#assistant.add(info.id);
    if (name === "message.part.delta" && field === "text") return this.#delta(partID, delta);
    if (name !== "message.part.updated" || !this.#assistant.has(part?.messageID)) return [];
    if (part.type === "text") return this.#text(part.id, part.text ?? "", part.time?.end !== undefined);
    return part.type === "tool" ? this.#tool(part) : [];
  }

  /** Only of a text that has begun: deltas come of the agent's thoughts too. */
  #delta(id, delta) {
    const before = this.#shown.get(id);
    return typeof before === "string" ? this.#text(id, before + delta) : [];
  }

  /** Of a text that grows, only what is new. */
  #text(id, whole, done = false) {
    const before = this.#shown.get(id) ?? "";
    if (before === END) return [];
    this.#shown.set(id, done ? END : whole);
    const text = whole.startsWith(before) ? whole.slice(before.length) : "";
    return text || done ? [{ event: "text", text, done }] : [];
  }

  /** A call is shown when its input is known, and again when it failed. */
  #tool({ callID, tool, state = {} }) {
    const phase = state.status === "error" ? "error" : state.status === "running" || state.status === "completed" ? "called" : "pending";
    if (phase === "pending" || this.#tools.get(callID) === phase) return [];
    this.#tools.set(callID, phase);
    return [{ event: "tool", tool, input: summary(state.input ?? {}), status: phase === "error" ? `failed: ${state.error}` : "called" }];
  }
}

/** Marks a text that is complete: a replay of it shows nothing again. */
const END = Symbol("end");

/** The one argument that says most, on one line. */
function summary(input) {
  const text = input.command ?? input.filePath ?? input.pattern ?? input.query ?? JSON.stringify(input);
  const line = String(text).split("\n")[0];
  return line.length > 120 ? `${line.slice(0, 119)}…` : line;
}
