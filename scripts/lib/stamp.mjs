/**
 * Decides whether something must be made again: by a hash of all that it is made from, and of what was made.
 *
 * Times of files do not matter, so a fresh checkout of the same contents with the same outputs is up to date.
 */

import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { ROOT, WORK } from "./paths.mjs";

export class Stamp {
  #file;
  #inputs;
  #outputs;

  /**
   * @param {string} name of the thing
   * @param {{inputs: string[], facts: string[], outputs: string[]}} of `inputs` and `outputs`: files and folders,
   *   relative to the checkout; `facts`: whatever else matters, such as versions of tools
   */
  constructor(name, { inputs, facts, outputs }) {
    this.#file = join(WORK, "stamps", name);
    this.#inputs = hash(inputs, facts);
    this.#outputs = outputs;
  }

  /** Whether the outputs are those of these inputs. */
  get fresh() {
    return existsSync(this.#file) && readFileSync(this.#file, "utf8") === this.#text();
  }

  /** Before making: an interrupted build must not look finished. */
  clear() {
    rmSync(this.#file, { force: true });
  }

  /** After making. */
  write() {
    mkdirSync(dirname(this.#file), { recursive: true });
    writeFileSync(this.#file, this.#text());
  }

  #text() {
    return `${this.#inputs}\n${hash(this.#outputs, [])}\n`;
  }
}

function hash(paths, facts) {
  const sum = createHash("sha256");
  const add = (text) => sum.update(`${Buffer.byteLength(text)}:`).update(text);
  facts.forEach(add);
  for (const path of paths.flatMap(filesOf).sort()) {
    add(path);
    sum.update(createHash("sha256").update(readFileSync(join(ROOT, path))).digest());
  }
  return sum.digest("hex");
}

/** The files under a path, relative to the checkout; none if it is not there. */
function filesOf(path) {
  const stat = statSync(join(ROOT, path), { throwIfNoEntry: false });
  if (!stat) return [];
  if (!stat.isDirectory()) return [path];
  return readdirSync(join(ROOT, path)).flatMap((name) => filesOf(join(path, name)));
}
