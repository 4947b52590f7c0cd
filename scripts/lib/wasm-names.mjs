/**
 * The names of functions in a wasm file, for stack traces. Those of our own crates are worth their bytes; those of libraries are most of them, and the
 * hash at the end of each tells a reader nothing. Without both the deployed file is a tenth smaller.
 */

/** `::h` and 16 digits at the end; in the newer scheme, `[…]` after a crate's name. */
const HASHES = /::h[0-9a-f]{16}$|\[[0-9a-f]{16}\]/g;

/** What the compiler writes for every type: it holds no rule that could break, and its names are half of ours. */
const DERIVED = /^core::ptr::drop_in_place<| as core::(clone::Clone|fmt::Debug)>/;

const CUSTOM_SECTION = 0;
const FUNCTION_NAMES = 1;
const HEADER_BYTES = 8;

/**
 * A wasm file in which only functions that have to do with these crates have names, without hashes. Everything else stays as it is.
 *
 * @param {Buffer} wasm
 * @param {string[]} crates as Rust paths begin: `session_core`
 * @returns {Buffer}
 */
export function withNamesOf(wasm, crates) {
  const own = new RegExp(`\\b(${crates.join("|")})::`);
  const parts = [wasm.subarray(0, HEADER_BYTES)];
  for (const section of sections(wasm, HEADER_BYTES)) {
    const name = section.id === CUSTOM_SECTION ? text(section.content, 0) : undefined;
    if (name?.value !== "name") {
      parts.push(section.whole);
      continue;
    }
    const maps = sections(section.content, name.end).map((map) => (map.id === FUNCTION_NAMES ? part(map.id, shortened(map.content, own)) : map.whole));
    parts.push(part(CUSTOM_SECTION, Buffer.concat([section.content.subarray(0, name.end), ...maps])));
  }
  return Buffer.concat(parts);
}

function shortened(content, own) {
  const count = number(content, 0);
  const kept = [];
  let at = count.end;
  for (let n = 0; n < count.value; n += 1) {
    const index = number(content, at);
    const name = text(content, index.end);
    const short = name.value.replace(HASHES, "");
    const bytes = Buffer.from(short);
    if (own.test(short) && !DERIVED.test(short)) kept.push(Buffer.concat([content.subarray(at, index.end), leb128(bytes.length), bytes]));
    at = name.end;
  }
  return Buffer.concat([leb128(kept.length), ...kept]);
}

/** Parts that each say what they are and how long. */
function sections(bytes, from) {
  const found = [];
  for (let at = from; at < bytes.length; ) {
    const length = number(bytes, at + 1);
    const end = length.end + length.value;
    found.push({ id: bytes[at], content: bytes.subarray(length.end, end), whole: bytes.subarray(at, end) });
    at = end;
  }
  return found;
}

const part = (id, content) => Buffer.concat([Buffer.from([id]), leb128(content.length), content]);

function text(bytes, at) {
  const length = number(bytes, at);
  const end = length.end + length.value;
  return { value: bytes.toString("utf8", length.end, end), end };
}

/** Reads an unsigned LEB128 number. */
function number(bytes, at) {
  let value = 0;
  for (let shift = 0, end = at; ; shift += 7) {
    const byte = bytes[end];
    end += 1;
    value += (byte & 0x7f) * 2 ** shift;
    if (byte < 0x80) return { value, end };
  }
}

function leb128(value) {
  const bytes = [];
  do {
    bytes.push((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
    value >>>= 7;
  } while (value > 0);
  return Buffer.from(bytes);
}
