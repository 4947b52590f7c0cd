/** Tokens as the platform's web backend makes them, with what workerd has: Web Crypto. */

import { bindings } from "./bindings.mjs";

/** The headers of a request by a user's back end. */
export async function headersOf(userId) {
  const claims = { kiloUserId: userId, version: 3, exp: Math.floor(Date.now() / 1000) + 3600 };
  return {
    authorization: `Bearer ${await sign(bindings.NEXTAUTH_SECRET, claims)}`,
    "content-type": "application/json",
    "x-internal-api-key": bindings.INTERNAL_API_SECRET,
  };
}

/** An HS256 JSON web token. */
export async function sign(secret, claims) {
  const encode = (bytes) =>
    btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const utf8 = (text) => new TextEncoder().encode(text);
  const part = (value) => encode(utf8(JSON.stringify(value)));
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  const key = await crypto.subtle.importKey("raw", utf8(secret), { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  return `${text}.${encode(new Uint8Array(await crypto.subtle.sign("HMAC", key, utf8(text))))}`;
}
