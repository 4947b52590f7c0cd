#!/usr/bin/env node
// npm run build: the Worker, as it is deployed.
import { command } from "./lib/bootstrap.mjs";

await command(() => import("./commands/build.mjs"));
