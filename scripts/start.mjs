#!/usr/bin/env node
// npm start: set up, serve, and run a first session.
import { command } from "./lib/bootstrap.mjs";

await command(() => import("./commands/start.mjs"));
