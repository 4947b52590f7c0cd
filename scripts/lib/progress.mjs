/**
 * Shows that a long step goes on: seconds so far and the last thing it said.
 *
 * On a terminal this is one line that is rewritten; elsewhere a line every now and then. It goes to standard error,
 * so that standard output holds results only.
 */

const { stderr } = process;
const TERMINAL_EVERY_MS = 500;
const LOG_EVERY_MS = 20_000;

/** Steps shorter than this are not worth a line in a log. */
const SHORT_MS = 300;

export class Progress {
  #title;
  #started = Date.now();
  #last = "";
  #timer;

  /** @param {string} title */
  constructor(title) {
    this.#title = title;
    if (!stderr.isTTY) stderr.write(`${title} …\n`);
    this.#timer = setInterval(() => this.#show(), stderr.isTTY ? TERMINAL_EVERY_MS : LOG_EVERY_MS);
    this.#timer.unref();
  }

  /** Takes a line of the step's output. */
  line(line) {
    const text = line.replace(/\x1b\[[0-9;]*m/g, "").trim();
    if (text) this.#last = text;
  }

  /** @param {boolean} ok */
  end(ok) {
    clearInterval(this.#timer);
    const ms = Date.now() - this.#started;
    const clear = stderr.isTTY ? "\r\x1b[2K" : "";
    if (stderr.isTTY || ms > SHORT_MS) stderr.write(`${clear}${this.#title}: ${ok ? "done" : "failed"} in ${seconds(ms)}\n`);
  }

  #show() {
    const line = `${this.#title} … ${seconds(Date.now() - this.#started)}  ${this.#last}`;
    stderr.write(stderr.isTTY ? `\r\x1b[2K${line.slice(0, (stderr.columns ?? 80) - 1)}` : `${line}\n`);
  }
}

/** 1234 → "1.2 s" */
export function seconds(ms) {
  return `${(ms / 1000).toFixed(1)} s`;
}
