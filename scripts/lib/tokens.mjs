/** Tokens as the platform's web backend makes them: HS256 JSON web tokens, and random ids. */

import { createHmac } from "node:crypto";

/**
 * A user's API token (spec/session.md 2.2).
 *
 * @param {string} secret `NEXTAUTH_SECRET`
 * @param {string} userId
 * @param {number} [ttlSeconds]
 */
export function userToken(secret, userId, ttlSeconds = 24 * 3600) {
  return sign(secret, { kiloUserId: userId, version: 3, exp: Math.floor(Date.now() / 1000) + ttlSeconds });
}

/** A JSON web token over any claims. */
export function sign(secret, claims) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", secret).update(text).digest("base64url")}`;
}
