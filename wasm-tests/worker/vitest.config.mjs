import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

import { bindings } from "./bindings.mjs";

export default defineConfig({
  plugins: [cloudflareTest({ wrangler: { configPath: "../../wrangler.toml" }, miniflare: { bindings } })],
  test: {
    name: "worker",
    include: ["*.test.mjs"],
    globalSetup: ["./receiver.mjs"],
    // A panic in wasm shows as a request that is never answered: that is said first (socket.mjs).
    testTimeout: 90_000,
    // The runner would wait for ever for what an object logs while a file ends.
    disableConsoleIntercept: true,
  },
});
