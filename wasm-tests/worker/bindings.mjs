/** What the Worker is told in these tests. No container host and no model listen there. */

export const bindings = {
  ALLOW_LOOPBACK: "1",
  CALLBACK_SIGNING_SECRET: "test-callback-secret-0123456789abcdef0123456789abc",
  CORS_ALLOWED_ORIGINS: "https://console.example, http://localhost:*",
  GASTOWN_JWT_SECRET: "test-gastown-secret-0123456789abcdef0123456789abcdef",
  HOLDFAST_HOST_TOKEN: "test-host-token-0123456789abcdef0123456789abcdef01",
  HOLDFAST_HOST_URL: "http://127.0.0.1:9",
  HOLDFAST_MODEL: "scripted",
  HOLDFAST_MODEL_API_KEY: "test-model-key-0123456789abcdef0123456789abcdef012",
  HOLDFAST_MODEL_BASE_URL: "http://127.0.0.1:9/v1",
  INTERNAL_API_SECRET: "test-internal-secret-0123456789abcdef0123456789abc",
  NEXTAUTH_SECRET: "test-nextauth-secret-0123456789abcdef0123456789abc",
  WORKER_URL: "http://127.0.0.1:9",
  WS_ALLOWED_ORIGINS: "https://app.example, https://other.example",
};
