/** A viewer of a session: a ticket, then the stream. */

import { Socket } from "./socket.mjs";
import { ask } from "./wrapper.mjs";

const TICKETS = "/api/cloud-agent-next/sessions/stream-ticket";

/** Asks for a stream ticket. */
export function askTicket(headers, body) {
  return ask(TICKETS, { method: "POST", headers, body: JSON.stringify(body) });
}

/** A ticket for a session of the caller. */
export async function ticketFor(session) {
  const response = await askTicket(session.headers, { cloudAgentSessionId: session.id });
  return (await response.json()).ticket;
}

/** The upgrade to a session's stream. */
export function handshake(query, headers = { upgrade: "websocket" }) {
  return ask(`/stream?${new URLSearchParams(query)}`, { headers });
}

/** Opens a session's stream with these filters. The object is evicted afterwards. */
export async function watch(session, filters = {}) {
  const query = { cloudAgentSessionId: session.id, ticket: await ticketFor(session), ...filters };
  const viewer = new Socket(await handshake(query));
  await session.evict();
  return viewer;
}

/** Matches frames of a type. */
export const ofType = (type) => (frame) => frame.streamEventType === type;

export const isConnected = ofType("connected");
