#!/usr/bin/env node
// npm run soak: set up, and run what is longer than `npm test` may be.
import { command } from "./lib/bootstrap.mjs";

await command(() => import("./commands/soak.mjs"));
