import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

import { bindings } from "./bindings.mjs";

export default defineConfig({
  plugins: [cloudflareTest({ wrangler: { configPath: "../../wrangler.toml" }, miniflare: { bindings } })],
  // A panic in wasm shows as a request that is never answered.
  test: { name: "worker", include: ["*.test.mjs"], testTimeout: 20_000, disableConsoleIntercept: true },
});
