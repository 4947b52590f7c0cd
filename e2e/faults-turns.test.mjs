// In the middle of a turn of the real agent the Worker dies, and then the wrapper does: the session's log is whole all the same, and the session goes on.

import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { holdfast, processesUnder, until } from "./harness.mjs";
import { Turns, says } from "./turns.mjs";

const it = holdfast("faults-turns");
const turns = new Turns(it);

const PIECES = 150;
const whole = Array.from({ length: PIECES }, (_, n) => `tok${n}`).join(" ");

describe("faults in the turns of one session", { timeout: 400_000 }, () => {
  test("SIGKILL of workerd in a turn: each event is in the log once, in order", async () => {
    let restarted;
    const restart = async () => {
      await it.services.killWorker();
      await it.services.startWorker();
    };
    const prompt = `@bash echo before\n@slow ${PIECES} 30\n@bash echo after\n@say End.`;
    const { texts, tools, kinds } = await turns.run(prompt, (frame) => {
      if (says(frame, "tok20")) restarted ??= restart();
    });
    assert.ok(restarted, "the turn was over before it could be disturbed");
    await restarted;
    assert.deepEqual(texts, [whole, "End."]);
    assert.deepEqual(tools.map(({ state }) => state.output.trim()), ["before", "after"]);
    assert.equal(kinds.filter((name) => name === "session.turn.close").length, 1);
    assert.equal(kinds.at(-1), "complete");
    assert.ok(!kinds.includes("events_lost"), `${kinds}`);
  });

  test("SIGKILL of the wrapper in a turn: what it had is in the log, then that it was killed; no tool survives", async () => {
    let killed = false;
    const { end, tools } = await turns.run("@bash echo first\n@bash sleep 654\n@say never", ({ data }) => {
      const { part } = data?.properties ?? {};
      if (killed || !part?.state?.input?.command?.includes("sleep 654") || part.state.status !== "running") return;
      killed = true;
      const [wrapper] = processesUnder(it.services.containers).filter(({ args }) => /sandboxd session$/.test(args));
      process.kill(wrapper.pid, "SIGKILL");
    });
    assert.deepEqual([end.streamEventType, end.data.error], ["error", "Wrapper restarted"]);
    assert.equal(tools[0].state.output.trim(), "first");
    await until("nothing is left", () => turns.tools().length === 0, 15_000);
  });

  test("the session goes on, and remembers what was said before", async () => {
    const { texts, kinds } = await turns.run("@say Still here.");
    assert.deepEqual(texts, ["Still here."]);
    assert.equal(kinds.at(-1), "complete");
  });
});
