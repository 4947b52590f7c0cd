import { cloudflareTest } from "@cloudflare/vitest-plugin";
import { defineConfig } from "vitest/config";

import { bindings } from "../worker/bindings.mjs";

/** As for the other tests of the Worker, but here a container host listens, and what stands for GitHub and GitLab. */
const town = ({ inject }) => {
  const host = inject("host");
  return {
    wrangler: { configPath: "../../wrangler.toml" },
    miniflare: {
      bindings: { ...bindings, HOLDFAST_HOST_URL: host, GITHUB_API_URL: `${host}/github`, GITLAB_API_URL: `${host}/gitlab` },
    },
  };
};

export default defineConfig({
  plugins: [cloudflareTest(town)],
  test: {
    name: "town",
    include: ["*.test.mjs"],
    globalSetup: ["./host.mjs"],
    // A panic in wasm shows as a request that is never answered: that is said first (socket.mjs).
    testTimeout: 90_000,
    // The runner would wait for ever for what an object logs while a file ends.
    disableConsoleIntercept: true,
  },
});
