/** Where things are, and what the files that a checkout makes for itself are called. */

import { join } from "node:path";
import { fileURLToPath } from "node:url";

/** The checkout. */
export const ROOT = fileURLToPath(new URL("../..", import.meta.url)).replace(/\/$/, "");

/** All that building and running makes: stamps, state, logs. Git-ignored; may be deleted while nothing runs. */
export const WORK = join(ROOT, ".holdfast");

/** Installed programs. */
export const MODULES = join(ROOT, "node_modules");

/** A file inside the checkout. */
export const inRoot = (...parts) => join(ROOT, ...parts);

/** An executable of an installed package. */
export const bin = (name) => join(MODULES, ".bin", name);
