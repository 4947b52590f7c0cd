/** Counts what SQLite reads and writes for the statements of an object: the rows that the platform bills. */

import { runInDurableObject } from "cloudflare:test";

const cursors = [];
let metered = false;

/** The rows that statements read and write while `work` goes on. Statements of every object count. */
export async function rowsOf(object, work) {
  await runInDurableObject(object, (_object, state) => install(Object.getPrototypeOf(state.storage.sql)));
  cursors.length = 0;
  metered = true;
  await work();
  metered = false;
  const sum = (field) => cursors.reduce((rows, cursor) => rows + cursor[field], 0);
  return { read: sum("rowsRead"), written: sum("rowsWritten"), statements: cursors.length };
}

/** Once per isolate: objects share the prototype of their storage. */
function install(sql) {
  if (sql.metered) return;
  const exec = sql.exec;
  sql.metered = true;
  sql.exec = function (...input) {
    const cursor = exec.apply(this, input);
    if (metered) cursors.push(cursor);
    return cursor;
  };
}
