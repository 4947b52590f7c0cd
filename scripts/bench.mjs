#!/usr/bin/env node
// npm run bench: set up, and run the benchmarks.
import { command } from "./lib/bootstrap.mjs";

await command(() => import("./commands/bench.mjs"));
