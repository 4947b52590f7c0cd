#!/usr/bin/env node
// npm run simulate: set up, and run the simulation (crates/simulation).
import { command } from "./lib/bootstrap.mjs";

await command(() => import("./commands/simulate.mjs"));
