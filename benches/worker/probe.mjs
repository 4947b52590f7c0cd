/**
 * The built Worker, and one way to look into a session's rows: the benchmark plays its container, and counts what it wrote. Everything else goes
 * to the Worker as it is.
 */

import * as holdfast from "./index.js";

export const { AgentDO, SandboxDO, TownContainerDO, TownDO, UserDO } = holdfast;

const PROBE = "/bench/sql";

export class CloudAgentSession {
  constructor(state, env) {
    this.inner = new holdfast.CloudAgentSession(state, env);
    this.sql = state.storage.sql;
  }

  async fetch(request) {
    if (new URL(request.url).pathname !== PROBE) return this.inner.fetch(request);
    return Response.json(this.sql.exec(await request.text()).toArray());
  }

  alarm(...args) {
    return this.inner.alarm(...args);
  }

  webSocketMessage(...args) {
    return this.inner.webSocketMessage(...args);
  }

  webSocketClose(...args) {
    return this.inner.webSocketClose(...args);
  }

  webSocketError(...args) {
    return this.inner.webSocketError(...args);
  }
}

export default {
  fetch(request, env, context) {
    const url = new URL(request.url);
    if (url.pathname !== PROBE) return new holdfast.default(context, env).fetch(request);
    const object = env.CLOUD_AGENT_SESSION.idFromName(request.headers.get("x-object"));
    return env.CLOUD_AGENT_SESSION.get(object).fetch(request);
  },
};
