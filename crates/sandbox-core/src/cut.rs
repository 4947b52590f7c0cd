//! Cuts JSON while it streams by: long strings end in a marker, and what is too much altogether is left out, value by value.
//!
//! The result is JSON again, whatever the input's chunks were, and cutting it once more changes nothing. Only tokens are
//! looked at; whether the input was JSON at all is for the parser to say.

use std::borrow::Cow;

/// Room for the marker in a cut string: ` … [18446744073709551615 bytes cut]`.
const MARKER_BYTES: usize = 48;
/// Containers this deep or less hold what identifies an event (`properties.part.id`): their members go on for a while
/// after the budget is spent on what is deeper.
const SHALLOW_DEPTH: usize = 3;
/// How long that while is.
const SHALLOW_BYTES: usize = 64 * 1024;

/// How much of a JSON text is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cut {
    /// The longest string, in bytes between its quotes; at least twice [`MARKER_BYTES`].
    pub string_bytes_max: usize,
    /// Beyond it, further members and elements are left out. The result can be longer by one string and [`SHALLOW_BYTES`].
    pub total_bytes_max: usize,
    /// How deep the text itself lies in its event: 0 for a whole event.
    pub depth: usize,
}

impl Cut {
    /// Cuts a whole text; `None` if it is nested beyond all reason.
    pub(crate) fn apply(self, text: &str) -> Option<Cow<'_, str>> {
        if text.len() <= self.string_bytes_max {
            return Some(Cow::Borrowed(text));
        }
        let mut cutter = Cutter::new(self);
        cutter.push(text.as_bytes());
        cutter.finish().map(Cow::Owned)
    }
}

/// A cut in progress.
pub(crate) struct Cutter {
    cut: Cut,
    out: Vec<u8>,
    /// Containers that are open in `out`, and those around the text.
    depth: usize,
    state: State,
    /// More than twice the budget of brackets or blanks: the text is given up.
    overflowed: bool,
}

#[derive(Clone, Copy)]
enum State {
    /// Between strings.
    Plain,
    /// In a string whose contents begin at `start` in `out`; `escaped`: the next byte belongs to a backslash.
    String { start: usize, escaped: bool },
    /// In the rest of a string that was cut; `dropped` bytes so far.
    CutString { dropped: u64, escaped: bool },
    /// In members or elements that are left out, `nested` containers deep.
    Skip { nested: usize },
    /// In a string in there.
    SkipString { nested: usize, escaped: bool },
}

impl Cutter {
    pub(crate) fn new(cut: Cut) -> Self {
        Self { cut, out: Vec::new(), depth: cut.depth, state: State::Plain, overflowed: false }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.state = match self.state {
                State::Plain => self.plain(byte),
                State::String { start, escaped } => self.string(byte, start, escaped),
                State::CutString { dropped, escaped: false } if byte == b'"' => {
                    self.out.extend_from_slice(format!(" … [{dropped} bytes cut]\"").as_bytes());
                    State::Plain
                }
                State::CutString { dropped, escaped } => {
                    State::CutString { dropped: dropped.saturating_add(1), escaped: !escaped && byte == b'\\' }
                }
                State::Skip { nested } => self.skip(byte, nested),
                State::SkipString { nested, escaped: false } if byte == b'"' => State::Skip { nested },
                State::SkipString { nested, escaped } => {
                    State::SkipString { nested, escaped: !escaped && byte == b'\\' }
                }
            };
        }
    }

    /// The cut text, or `None` if it was given up.
    pub(crate) fn finish(self) -> Option<String> {
        if self.overflowed {
            return None;
        }
        Some(String::from_utf8(self.out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    /// The memory that the cut holds.
    #[cfg(test)]
    pub(crate) fn held_bytes(&self) -> usize {
        self.out.capacity()
    }

    fn plain(&mut self, byte: u8) -> State {
        match byte {
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b',' if self.out.len() > self.budget() => return State::Skip { nested: 0 },
            _ => {}
        }
        if self.out.len() >= self.cut.total_bytes_max.saturating_mul(2) {
            self.overflowed = true;
            return State::Plain;
        }
        self.out.push(byte);
        if byte == b'"' { State::String { start: self.out.len(), escaped: false } } else { State::Plain }
    }

    fn string(&mut self, byte: u8, start: usize, escaped: bool) -> State {
        if byte == b'"' && !escaped {
            self.out.push(byte);
            return State::Plain;
        }
        let escaped = !escaped && byte == b'\\';
        if self.out.len().saturating_sub(start) < self.cut.string_bytes_max {
            self.out.push(byte);
            return State::String { start, escaped };
        }
        let keep = whole_characters(
            self.out.get(start..).unwrap_or_default(),
            self.cut.string_bytes_max.saturating_sub(MARKER_BYTES),
        );
        let end = start.saturating_add(keep);
        let dropped = self.out.len().saturating_sub(end).saturating_add(1);
        self.out.truncate(end);
        State::CutString { dropped: u64::try_from(dropped).unwrap_or(u64::MAX), escaped }
    }

    fn skip(&mut self, byte: u8, nested: usize) -> State {
        match byte {
            b'"' => State::SkipString { nested, escaped: false },
            b'{' | b'[' => State::Skip { nested: nested.saturating_add(1) },
            b'}' | b']' => match nested.checked_sub(1) {
                Some(nested) => State::Skip { nested },
                None => self.plain(byte),
            },
            _ => State::Skip { nested },
        }
    }

    fn budget(&self) -> usize {
        let extra = if self.depth <= SHALLOW_DEPTH { SHALLOW_BYTES } else { 0 };
        self.cut.total_bytes_max.saturating_add(extra)
    }
}

/// The length of the longest prefix of at most `max` bytes that ends between two characters of the string's contents. An escape is one
/// character, and so is an escaped surrogate pair.
fn whole_characters(contents: &[u8], max: usize) -> usize {
    let mut end = 0_usize;
    while let Some(rest) = contents.get(end..) {
        let next = end.saturating_add(character(rest));
        if next > max || next == end {
            break;
        }
        end = next;
    }
    end
}

fn character(rest: &[u8]) -> usize {
    match rest {
        [] => 0,
        [b'\\', b'u', b'd' | b'D', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', _, _, b'\\', b'u', ..] => 12,
        [b'\\', b'u', ..] => 6,
        [b'\\', ..] => 2,
        [0xf0..=0xff, ..] => 4,
        [0xe0..=0xef, ..] => 3,
        [0xc0..=0xdf, ..] => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;
    use serde_json::json;

    const SMALL: Cut = Cut { string_bytes_max: 100, total_bytes_max: 100_000, depth: 0 };

    fn cut(cut: Cut, text: &str) -> String {
        cut.apply(text).unwrap().into_owned()
    }

    #[test]
    fn a_long_string_ends_in_a_marker_and_its_neighbours_stay() {
        let text = json!({"a": 1, "text": "x".repeat(1_000), "b": "y"}).to_string();
        let value: Value = serde_json::from_str(&cut(SMALL, &text)).unwrap();
        assert_eq!((&value["a"], &value["b"]), (&json!(1), &json!("y")));
        assert_eq!(value["text"], format!("{} … [948 bytes cut]", "x".repeat(52)));
    }

    #[test]
    fn a_string_at_the_limit_is_whole() {
        let text = format!("[\"{}\"]", "x".repeat(100));
        assert_eq!(cut(SMALL, &text), text);
    }

    #[test]
    fn no_character_is_cut_in_two() {
        for filler in ["é", "€", "😀", "\\n", "\\\\", "\\\"", "\\u00e9", "\\ud83d\\ude00"] {
            for offset in 0..12 {
                let text = format!("[\"{}{}\",7]", "x".repeat(offset), filler.repeat(200));
                let value: Value = serde_json::from_str(&cut(SMALL, &text)).unwrap();
                assert_eq!(value[1], 7, "{filler} {offset}");
            }
        }
    }

    #[test]
    fn what_is_too_much_is_left_out_but_the_event_keeps_its_identity() {
        let many: Vec<u32> = (0..100_000).collect();
        let text = format!(
            r#"{{"type":"t","properties":{{"part":{{"state":{{"deep":{}}},"id":"prt_1"}},"sessionID":"ses_1"}}}}"#,
            serde_json::to_string(&many).unwrap()
        );
        let result = cut(Cut { string_bytes_max: 100, total_bytes_max: 1_000, depth: 0 }, &text);
        let value: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(value["properties"]["part"]["id"], "prt_1");
        assert_eq!(value["properties"]["sessionID"], "ses_1");
        assert!(result.len() < 1_200, "{}", result.len());
    }

    #[test]
    fn brackets_without_end_are_given_up() {
        let text = "[".repeat(10_000);
        assert_eq!(Cut { string_bytes_max: 100, total_bytes_max: 1_000, depth: 0 }.apply(&text), None);
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
            ("[a-c\"\\\\é😀\n]{1,4}", 1_usize..80).prop_map(|(s, n)| Value::from(s.repeat(n))),
        ];
        leaf.prop_recursive(5, 64, 8, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
                prop::collection::btree_map("[a-z\"]{0,4}", inner, 0..8)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn any_json_in_any_chunks_stays_json_and_a_second_cut_changes_nothing(
            value in any_json(), total in 100_usize..2_000, chunk in 1_usize..40,
        ) {
            let cut = Cut { string_bytes_max: 100, total_bytes_max: total, depth: 0 };
            let text = value.to_string();
            let mut cutter = Cutter::new(cut);
            for bytes in text.as_bytes().chunks(chunk) {
                cutter.push(bytes);
            }
            let Some(once) = cutter.finish() else { return Ok(()) };
            prop_assert!(serde_json::from_str::<Value>(&once).is_ok(), "{}", once);
            prop_assert_eq!(cut.apply(&once).unwrap(), once.as_str());
            if text.len() <= 100 {
                prop_assert_eq!(once, text);
            }
        }
    }
}
