/**
 * A WebSocket client whose waits are bounded.
 *
 * Frames are kept in the order in which they came, so a test never misses one that came before it asked.
 */

/** How long a test waits for what must come. Nothing here takes a hundredth of it, but the machine may be busy. */
const WAIT_MS = 30_000;
/** The same for an answer of the Worker. */
export const ANSWER_MS = 60_000;
/** Between two looks. */
const STEP_MS = 50;

export class Socket {
  /** Frames that came and were not taken yet, parsed. */
  frames = [];
  #socket;
  #closed;
  #wake = () => {};

  /** @param {Response} response the answer to an upgrade */
  constructor(response) {
    if (!response.webSocket) throw new Error(`no upgrade: ${response.status}`);
    this.#socket = response.webSocket;
    this.#socket.accept();
    this.#socket.addEventListener("message", ({ data }) => {
      this.frames.push(JSON.parse(data));
      this.#wake();
    });
    this.#socket.addEventListener("close", ({ code, reason }) => {
      this.#closed = { code, reason };
      this.#wake();
    });
  }

  /** Sends JSON; bytes as they are. */
  send(value) {
    this.#socket.send(value instanceof Uint8Array ? value : JSON.stringify(value));
  }

  close(code = 1000, reason = "") {
    this.#socket.close(code, reason);
  }

  /** Takes the first frame that matches, and drops those before it. */
  async next(matches = () => true) {
    return (await this.until(matches)).at(-1);
  }

  /** Takes all frames up to the first that matches, that one included. */
  async until(matches) {
    const end = await this.#wait(() => {
      const index = this.frames.findIndex(matches);
      return index < 0 ? undefined : index + 1;
    });
    return this.frames.splice(0, end);
  }

  /** How the socket was closed. */
  closed() {
    return this.#wait(() => this.#closed);
  }

  /** Waits until `look` finds something. */
  async #wait(look) {
    let timer;
    const late = new Promise((_, reject) => {
      const tell = () => reject(new Error(`not within ${WAIT_MS} ms; closed: ${JSON.stringify(this.#closed)}, frames: ${summary(this.frames)}`));
      timer = setTimeout(tell, WAIT_MS);
    });
    try {
      for (;;) {
        const found = look();
        if (found !== undefined) return found;
        await Promise.race([late, new Promise((resolve) => (this.#wake = resolve))]);
      }
    } finally {
      clearTimeout(timer);
    }
  }
}

/** Waits until `look` gives something that `matches`, and returns it. For what only a look into the object shows. */
export async function eventually(look, matches) {
  for (let tries = 0; tries < WAIT_MS / STEP_MS; tries += 1) {
    const found = await look();
    if (matches(found)) return found;
    await new Promise((resolve) => setTimeout(resolve, STEP_MS));
  }
  throw new Error(`not within ${WAIT_MS} ms; at last: ${JSON.stringify(await look())}`);
}

function summary(frames) {
  return JSON.stringify(frames.slice(0, 20)).slice(0, 2_000);
}
