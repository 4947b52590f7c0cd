import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

export default defineConfig({
  plugins: [cloudflareTest({ wrangler: { configPath: "./wrangler.toml" } })],
  // Each case is one request; what hangs in workerd answers never.
  test: { name: "sql-suite", include: ["*.test.mjs"], testTimeout: 20_000 },
});
