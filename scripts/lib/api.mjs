/** The HTTP API as a front end uses it (spec/session.md 2). */

import { Failure } from "./failure.mjs";
import { userToken } from "./tokens.mjs";

/** Most calls answer without waiting for a container. */
const TIMEOUT_MS = 30_000;

/** An answer that is not a success, in the words of the server. */
export class ApiError extends Failure {
  name = "ApiError";

  /**
   * @param {string} what was called
   * @param {number} status
   * @param {any} body
   */
  constructor(what, status, body) {
    super(`${what} answered ${status}: ${body?.error?.message ?? body?.error ?? body?.message ?? JSON.stringify(body)}`);
    this.status = status;
    this.body = body;
  }
}

export class Api {
  #headers;

  /**
   * A user's access.
   *
   * @param {{url: string, secrets: Record<string, string>, userId?: string}} options
   */
  constructor({ url, secrets, userId = "local-user" }) {
    this.url = url;
    this.#headers = {
      authorization: `Bearer ${userToken(secrets.NEXTAUTH_SECRET, userId)}`,
      "x-internal-api-key": secrets.INTERNAL_API_SECRET,
    };
  }

  /**
   * Calls a procedure that changes something.
   *
   * @param {string} name
   * @param {object} input
   * @param {number} [timeoutMs] more for a call that waits for a container
   */
  async mutate(name, input, timeoutMs = TIMEOUT_MS) {
    return (await this.#call(`/trpc/${name}`, { method: "POST", body: JSON.stringify(input), timeoutMs })).result.data;
  }

  /**
   * Calls a procedure that only reads.
   *
   * @param {string} name
   * @param {object} [input]
   */
  async query(name, input) {
    const search = input === undefined ? "" : `?input=${encodeURIComponent(JSON.stringify(input))}`;
    return (await this.#call(`/trpc/${name}${search}`, { method: "GET" })).result.data;
  }

  /**
   * What a session is, or undefined if there is none.
   *
   * @param {string} cloudAgentSessionId
   */
  async session(cloudAgentSessionId) {
    try {
      return await this.query("getSession", { cloudAgentSessionId });
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return undefined;
      throw error;
    }
  }

  /**
   * The address of a session's stream. The ticket in it is good for one connection, soon.
   *
   * @param {string} cloudAgentSessionId
   * @param {number} fromId the last stored event that the caller has
   */
  async streamUrl(cloudAgentSessionId, fromId) {
    const path = "/api/cloud-agent-next/sessions/stream-ticket";
    const { ticket } = await this.#call(path, { method: "POST", body: JSON.stringify({ cloudAgentSessionId }) });
    const url = new URL("/stream", this.url.replace(/^http/, "ws"));
    url.search = new URLSearchParams({ cloudAgentSessionId, ticket, ...(fromId > 0 && { fromId }) });
    return url;
  }

  #call(path, { method, body, timeoutMs }) {
    return call(this.url + path, { method, headers: this.#headers, body, timeoutMs });
  }
}

/**
 * Calls a route that takes and answers JSON.
 *
 * @param {string} url
 * @param {{method: string, headers: Record<string, string>, body?: string, timeoutMs?: number}} options
 * @returns {Promise<any>} the answer's body
 * @throws {ApiError} if it is no success
 */
export async function call(url, { method, headers, body, timeoutMs = TIMEOUT_MS }) {
  const response = await fetch(url, {
    method,
    headers: { ...headers, ...(body && { "content-type": "application/json" }) },
    body,
    signal: AbortSignal.timeout(timeoutMs),
  });
  const text = await response.text();
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    value = { message: text.slice(0, 200) };
  }
  if (!response.ok) throw new ApiError(new URL(url).pathname, response.status, value);
  return value;
}
