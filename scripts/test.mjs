#!/usr/bin/env node
// npm test: set up, and run every suite.
import { command } from "./lib/bootstrap.mjs";

await command(() => import("./commands/test.mjs"));
