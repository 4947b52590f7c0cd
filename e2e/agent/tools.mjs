/** The tools of the servers that the configuration names (MCP over HTTP), each under `<server>_<tool>`. */

export class Tools {
  #servers;
  #last = 0;

  /** @param {Record<string, {url: string, headers: Record<string, string>}>} servers section `mcp` of the agent's configuration */
  constructor(servers) {
    this.#servers = servers;
  }

  /**
   * Calls a tool.
   *
   * @param {string} name
   * @param {object} args
   * @param {AbortSignal} signal who waits for the answer then waits no longer
   * @returns {Promise<string>} its text
   */
  async call(name, args, signal) {
    const of = Object.keys(this.#servers).find((server) => name.startsWith(`${server}_`));
    if (of === undefined) throw new Error(`no tool ${name}`);
    const { url, headers } = this.#servers[of];
    const params = { name: name.slice(of.length + 1), arguments: args };
    const answer = await fetch(url, {
      method: "POST",
      headers: { ...headers, "content-type": "application/json" },
      body: JSON.stringify({ jsonrpc: "2.0", id: ++this.#last, method: "tools/call", params }),
      signal,
    });
    const { result, error } = await answer.json();
    if (error) throw new Error(error.message);
    const text = (result.content ?? []).map((part) => part.text ?? "").join("\n");
    if (result.isError) throw new Error(text);
    return text;
  }
}
