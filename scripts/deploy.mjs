#!/usr/bin/env node
// npm run deploy: build, then wrangler deploy.
import { command } from "./lib/bootstrap.mjs";

await command(() => import("./commands/deploy.mjs"));
