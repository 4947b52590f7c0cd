/**
 * The floor: the least that a Durable Object can do and still be a durable, replayable event stream. One insert and one send per event; nothing is
 * parsed, checked or numbered by its producer. What `CloudAgentSession` costs is measured against it, in the same run.
 */

import { DurableObject } from "cloudflare:workers";

/** Ends a burst: it is not stored, and answered once everything before it is durable. */
const END = "end";

export class Floor extends DurableObject {
  constructor(state, env) {
    super(state, env);
    this.sql = state.storage.sql;
    this.sql.exec("CREATE TABLE IF NOT EXISTS event (id INTEGER PRIMARY KEY, text TEXT NOT NULL)");
  }

  fetch(request) {
    const { pathname, searchParams } = new URL(request.url);
    if (pathname === "/rows") return Response.json(this.sql.exec("SELECT total_changes() AS rows").one());
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server, [pathname]);
    if (pathname === "/stream") {
      const events = this.sql.exec("SELECT id, text FROM event WHERE id > ? ORDER BY id", Number(searchParams.get("fromId") ?? 0));
      for (const [id, text] of events.raw()) server.send(frame(id, text));
    }
    return new Response(null, { status: 101, webSocket: client });
  }

  webSocketMessage(socket, text) {
    if (text === END) return socket.send(END);
    const { id } = this.sql.exec("INSERT INTO event (text) VALUES (?) RETURNING id", text).one();
    const viewers = this.ctx.getWebSockets("/stream");
    if (viewers.length === 0) return;
    const sent = frame(id, text);
    for (const viewer of viewers) viewer.send(sent);
  }
}

const frame = (id, text) => `{"eventId":${id},${text.slice(1)}`;

export default {
  fetch(request, env) {
    const name = request.headers.get("x-object");
    return env.FLOOR.get(env.FLOOR.idFromName(name)).fetch(request);
  },
};
