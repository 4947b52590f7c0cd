import { defineConfig } from "vitest/config";

export default defineConfig({ test: { projects: ["sql-suite", "town", "worker"] } });
