/**
 * The secrets of a local Holdfast: random, made once, readable by their owner only, never in an argument or a log.
 *
 * They are kept in a file that wrangler reads as secrets of the Worker.
 */

import { randomBytes } from "node:crypto";
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";

import { Failure } from "./failure.mjs";

const SECRET_BYTES = 32;

/** Random values, one each. */
const RANDOM = [
  "NEXTAUTH_SECRET",
  "INTERNAL_API_SECRET",
  "GASTOWN_JWT_SECRET",
  "CALLBACK_SIGNING_SECRET",
  "HOLDFAST_HOST_TOKEN",
  "HOLDFAST_MODEL_API_KEY",
];
/** Admits `file://` and loopback URLs. Written here only: production ignores it, and does not have this file. */
const FIXED = { ALLOW_LOOPBACK: "1" };

/**
 * The secrets in a file, which is made, or completed, if need be.
 *
 * @param {string} file
 * @returns {Record<string, string>}
 */
export function readSecrets(file) {
  const text = existsSync(file) ? readFileSync(file, "utf8") : "";
  const secrets = parse(text);
  const missing = { ...FIXED, ...Object.fromEntries(RANDOM.map((name) => [name, randomBytes(SECRET_BYTES).toString("hex")])) };
  for (const name of Object.keys(secrets)) delete missing[name];
  if (Object.keys(missing).length > 0) writeSecrets(file, missing, text && !text.endsWith("\n") ? `${text}\n` : text);
  return { ...secrets, ...missing };
}

/**
 * Writes values to a file that only its owner can read.
 *
 * @param {string} file
 * @param {Record<string, string>} values
 * @param {string} [before] what the file holds already
 */
export function writeSecrets(file, values, before = "") {
  const lines = Object.entries(values).map(([name, value]) => `${name}=${quote(name, value)}\n`);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, before + lines.join(""), { mode: 0o600 });
  chmodSync(file, 0o600); // one that was there keeps its mode otherwise
}

/** As wrangler reads it: a plain word stands for itself; else in quotes, where `$` would be expanded. */
function quote(name, value) {
  if (/^[\w./:-]*$/.test(value)) return value;
  if (/['\r\n]/.test(value)) throw new Failure(`${name} holds a quote or a line break: it cannot be handed to wrangler.`);
  return `'${value.replaceAll("$", "\\$")}'`;
}

/** Only the form that {@link writeSecrets} writes, and comments. */
function parse(text) {
  const values = {};
  for (const line of text.split("\n")) {
    const match = /^\s*([A-Za-z_]\w*)\s*=\s*(?:'(.*)'|"(.*)"|(.*?))\s*$/.exec(line);
    if (match) values[match[1]] = match[2] ?? match[3] ?? match[4];
  }
  return values;
}
