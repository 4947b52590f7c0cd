// Rows are money: what a session writes for its events, counted by SQLite itself in the object's own database.

import { expect, test } from "vitest";

import { idle, runningSession } from "./wrapper.mjs";

const TABLES = ["execution", "owed", "session", "tombstone", "work"];

test("SQLite's counter", async () => {
  const { session, wrapper } = await runningSession("rows");
  console.log(JSON.stringify(await session.rows("SELECT total_changes() AS n")));
  wrapper.send(idle(1)); await wrapper.next();
  console.log(JSON.stringify(await session.rows("SELECT total_changes() AS n")));
  console.log(JSON.stringify(await session.rows("SELECT name FROM sqlite_master")));
});
