import assert from "node:assert/strict";
import { test } from "node:test";

import { withNamesOf } from "./wasm-names.mjs";

const text = (value) => [value.length, ...Buffer.from(value)];
const section = (id, content) => [id, content.length, ...content];

/** Functions `() -> ()`, with these names by index, and a table of local names behind them. */
function wasm(names) {
  const map = [Object.keys(names).length, ...Object.entries(names).flatMap(([index, name]) => [Number(index), ...text(name)])];
  return Buffer.from([
    ...[0, 0x61, 0x73, 0x6d, 1, 0, 0, 0],
    ...section(1, [1, 0x60, 0, 0]),
    ...section(3, [3, 0, 0, 0]),
    ...section(10, [3, 2, 0, 0x0b, 2, 0, 0x0b, 2, 0, 0x0b]),
    ...section(0, [...text("name"), ...section(1, map), ...section(2, [0])]),
    ...section(0, [...text("producers"), 0]),
  ]);
}

test("libraries' names and all hashes go, and all else stays", () => {
  const all = wasm({ 0: "core::fmt::write", 1: "a_b::c::h0123456789abcdef", 2: "<x[0123456789abcdef]::Y as a_b[0123456789abcdef]::Z>::e" });
  const own = withNamesOf(all, ["a_b"]);
  assert.deepEqual(own, wasm({ 1: "a_b::c", 2: "<x::Y as a_b::Z>::e" }));
  assert.ok(WebAssembly.validate(own));
});

test("a name that only ends like a crate's is another's", () => {
  assert.deepEqual(withNamesOf(wasm({ 0: "xa::b", 1: "a::hash" }), ["a"]), wasm({ 1: "a::hash" }));
});

test("what the compiler writes for every type has no name", () => {
  const derived = { 0: "core::ptr::drop_in_place<a::b>", 1: "<a::b as core::clone::Clone>::clone", 2: "a::b::drop_in_place" };
  assert.deepEqual(withNamesOf(wasm(derived), ["a"]), wasm({ 2: "a::b::drop_in_place" }));
});

test("a file without names is not touched", () => {
  const empty = Buffer.from([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]);
  assert.deepEqual(withNamesOf(empty, ["a"]), empty);
});
