//! Walks JSON texts without building anything: checks them, and hands out the members of an object as they are written.
//!
//! Most of an event is text that nobody here looks at. A string is skipped by searching its end, so a walk costs a fraction of
//! what parsing does, and what was found is a slice of the input. What comes out of a walk that did not fail is valid JSON
//! and may be copied into another text as it is.

use memchr::memchr2;
use std::borrow::Cow;

/// Deeper nesting is refused: the readers behind us have limits too.
const DEPTH_MAX: u32 = 100;

/// Not JSON, or not of the form that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the JSON that was expected at byte {at}")]
pub struct Invalid {
    /// Where.
    pub at: usize,
}

/// Walks the members of an object that is the whole `text`.
pub(crate) fn object<'a>(
    text: &'a str,
    member: impl FnMut(&'a str, Value<'_, 'a>) -> Result<(), Invalid>,
) -> Result<(), Invalid> {
    let mut walker = Walker::new(text);
    walker.blank();
    walker.object(member)?;
    walker.end()
}

/// Walks the elements of an array that is the whole `text`.
pub(crate) fn array<'a>(text: &'a str, mut element: impl FnMut(&'a str)) -> Result<(), Invalid> {
    let mut walker = Walker::new(text);
    walker.blank();
    walker.expect(b'[')?;
    walker.blank();
    if walker.peek() == Some(b']') {
        walker.step();
        return walker.end();
    }
    loop {
        element(walker.value()?);
        walker.blank();
        match walker.next() {
            Some(b',') => {}
            Some(b']') => return walker.end(),
            _ => return Err(walker.invalid()),
        }
    }
}

/// The text of a JSON string; `None` if `raw` is something else.
pub(crate) fn text(raw: &str) -> Option<Cow<'_, str>> {
    let inner = raw.strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw).ok().map(Cow::Owned)
}

/// The value of a member that is being walked. Not taken, it is skipped.
pub(crate) struct Value<'w, 'a>(&'w mut Walker<'a>);

impl<'a> Value<'_, 'a> {
    /// The value as it is written.
    pub(crate) fn raw(self) -> Result<&'a str, Invalid> {
        self.0.value()
    }

    /// The value as it is written; if it is an object, its members are walked on the way.
    pub(crate) fn walk(
        self,
        member: impl FnMut(&'a str, Value<'_, 'a>) -> Result<(), Invalid>,
    ) -> Result<&'a str, Invalid> {
        if self.0.peek() != Some(b'{') {
            return self.0.value();
        }
        let start = self.0.at;
        self.0.object(member)?;
        Ok(self.0.since(start))
    }
}

struct Walker<'a> {
    text: &'a str,
    at: usize,
    /// There is a control character somewhere: each string must be searched for it.
    has_control: bool,
}

impl<'a> Walker<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0, has_control: has_control(text.as_bytes()) }
    }

    fn object(&mut self, mut member: impl FnMut(&'a str, Value<'_, 'a>) -> Result<(), Invalid>) -> Result<(), Invalid> {
        self.expect(b'{')?;
        self.blank();
        if self.peek() == Some(b'}') {
            self.step();
            return Ok(());
        }
        loop {
            let key = self.key()?;
            let start = self.at;
            member(key, Value(self))?;
            if self.at == start {
                self.value()?;
            }
            self.blank();
            match self.next() {
                Some(b',') => self.blank(),
                Some(b'}') => return Ok(()),
                _ => return Err(self.invalid()),
            }
        }
    }

    /// A key, between its quotes as it is written, and everything up to its value.
    fn key(&mut self) -> Result<&'a str, Invalid> {
        let start = self.at.saturating_add(1);
        self.string()?;
        let key = self.text.get(start..self.at.saturating_sub(1)).unwrap_or_default();
        self.blank();
        self.expect(b':')?;
        self.blank();
        Ok(key)
    }

    /// Any value, without recursion.
    fn value(&mut self) -> Result<&'a str, Invalid> {
        self.blank();
        let start = self.at;
        // One bit per open container: set for objects.
        let (mut open, mut depth) = (0_u128, 0_u32);
        loop {
            match self.peek() {
                Some(b'{') => {
                    self.step();
                    self.blank();
                    if self.peek() == Some(b'}') {
                        self.step();
                    } else {
                        (open, depth) = ((open << 1) | 1, self.deeper(depth)?);
                        self.key()?;
                        continue;
                    }
                }
                Some(b'[') => {
                    self.step();
                    self.blank();
                    if self.peek() == Some(b']') {
                        self.step();
                    } else {
                        (open, depth) = (open << 1, self.deeper(depth)?);
                        continue;
                    }
                }
                _ => self.scalar()?,
            }
            loop {
                if depth == 0 {
                    return Ok(self.since(start));
                }
                self.blank();
                let in_object = open & 1 == 1;
                match self.next() {
                    Some(b',') => {
                        self.blank();
                        if in_object {
                            self.key()?;
                        }
                        break;
                    }
                    Some(b'}') if in_object => {}
                    Some(b']') if !in_object => {}
                    _ => return Err(self.invalid()),
                }
                (open, depth) = (open >> 1, depth.saturating_sub(1));
            }
        }
    }

    fn deeper(&self, depth: u32) -> Result<u32, Invalid> {
        if depth < DEPTH_MAX { Ok(depth.saturating_add(1)) } else { Err(self.invalid()) }
    }

    fn scalar(&mut self) -> Result<(), Invalid> {
        match self.peek() {
            Some(b'"') => self.string(),
            Some(b't') => self.literal("true"),
            Some(b'f') => self.literal("false"),
            Some(b'n') => self.literal("null"),
            _ => self.number(),
        }
    }

    fn string(&mut self) -> Result<(), Invalid> {
        self.expect(b'"')?;
        loop {
            let rest = self.rest();
            let Some(found) = string_stop(rest) else { return Err(self.invalid()) };
            if self.has_control && has_control(rest.get(..found).unwrap_or_default()) {
                return Err(self.invalid());
            }
            self.at = self.at.saturating_add(found).saturating_add(1);
            if rest.get(found) == Some(&b'"') {
                return Ok(());
            }
            self.escape()?;
        }
    }

    /// What follows a backslash.
    fn escape(&mut self) -> Result<(), Invalid> {
        match self.next() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Ok(()),
            Some(b'u') => {
                let hex = self.rest().get(..4).filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
                hex.ok_or(self.invalid())?;
                self.at = self.at.saturating_add(4);
                Ok(())
            }
            _ => Err(self.invalid()),
        }
    }

    fn literal(&mut self, word: &str) -> Result<(), Invalid> {
        if !self.rest().starts_with(word.as_bytes()) {
            return Err(self.invalid());
        }
        self.at = self.at.saturating_add(word.len());
        Ok(())
    }

    fn number(&mut self) -> Result<(), Invalid> {
        if self.peek() == Some(b'-') {
            self.step();
        }
        if self.peek() == Some(b'0') {
            self.step();
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.step();
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.step();
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.step();
            }
            self.digits()?;
        }
        Ok(())
    }

    /// At least one.
    fn digits(&mut self) -> Result<(), Invalid> {
        let count = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at = self.at.saturating_add(count);
        if count == 0 { Err(self.invalid()) } else { Ok(()) }
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.step();
        }
    }

    fn end(&mut self) -> Result<(), Invalid> {
        self.blank();
        if self.peek().is_none() { Ok(()) } else { Err(self.invalid()) }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Invalid> {
        if self.next() == Some(byte) { Ok(()) } else { Err(self.invalid()) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.step();
        byte
    }

    fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn invalid(&self) -> Invalid {
        Invalid { at: self.at }
    }
}

/// The first quote or backslash. Where lines end and words are quoted it is near, and a call for a long search would cost more than the
/// look at a few words of bytes.
fn string_stop(bytes: &[u8]) -> Option<usize> {
    const NEAR_BYTES: usize = 32;
    let near = bytes.get(..NEAR_BYTES).unwrap_or_default();
    for (n, word) in near.chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes(word.try_into().ok()?);
        let stops = zero_bytes(word ^ 0x2222_2222_2222_2222) | zero_bytes(word ^ 0x5c5c_5c5c_5c5c_5c5c);
        if stops != 0 {
            let byte = usize::try_from(stops.trailing_zeros() / 8).ok()?;
            return Some(n.saturating_mul(8).saturating_add(byte));
        }
    }
    let rest = bytes.get(near.len()..)?;
    memchr2(b'"', b'\\', rest).map(|at| at.saturating_add(near.len()))
}

/// The high bit of each byte that is zero; of higher bytes perhaps some more.
fn zero_bytes(word: u64) -> u64 {
    word.wrapping_sub(0x0101_0101_0101_0101) & !word & 0x8080_8080_8080_8080
}

/// Control characters must be escaped in a string. Without an early return the compiler compares many bytes at once.
fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| found | (*byte < 0x20))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    fn members(text: &str) -> Result<Vec<(&str, &str)>, Invalid> {
        let mut found = Vec::new();
        object(text, |key, value| {
            found.push((key, value.raw()?));
            Ok(())
        })?;
        Ok(found)
    }

    /// Whether `text` is one value, by walking it as an element.
    fn is_value(text: &str) -> bool {
        let mut elements = 0;
        array(&format!("[{text}]"), |_| elements += 1).is_ok() && elements == 1
    }

    #[test]
    fn members_are_handed_out_as_they_are_written() {
        let text = r#" { "a" : 1.50 ,"b\n":{"c":[ ]}, "d":"}\"" } "#;
        assert_eq!(members(text).unwrap(), [("a", "1.50"), ("b\\n", r#"{"c":[ ]}"#), ("d", r#""}\"""#)]);
        assert_eq!(members("{}").unwrap(), []);
    }

    #[test]
    fn a_value_is_walked_or_skipped() {
        let mut found = Vec::new();
        object(r#"{"skipped":{"x":[{}]},"walked":{"y":2},"other":[3]}"#, |key, value| {
            if key != "skipped" {
                let raw = value.walk(|key, value| {
                    found.push((key, value.raw()?));
                    Ok(())
                })?;
                found.push((key, raw));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(found, [("y", "2"), ("walked", r#"{"y":2}"#), ("other", "[3]")]);
    }

    #[test]
    fn strings_are_read_with_their_escapes() {
        assert_eq!(text(r#""abc""#).as_deref(), Some("abc"));
        assert_eq!(text(r#""a\n\u00e9""#).as_deref(), Some("a\né"));
        assert_eq!((text("7"), text("\"")), (None, None));
    }

    #[test]
    fn what_a_parser_refuses_is_refused() {
        for text in [
            "",
            "{",
            "}",
            "{]",
            "[}",
            "[1,]",
            "[,1]",
            "{\"a\"}",
            "{\"a\":}",
            "{a:1}",
            "{\"a\":1,}",
            "01",
            "1.",
            ".5",
            "-",
            "+1",
            "1e",
            "tru",
            "nul",
            "\"",
            "\"\\x\"",
            "\"\\u12g4\"",
            "\"\u{1}\"",
            "\"a\nb\"",
            "1 2",
            "[1 2]",
            "'a'",
            "NaN",
        ] {
            assert!(serde_json::from_str::<&RawValue>(text).is_err(), "{text}");
            assert!(!is_value(text), "{text}");
        }
        assert!(members("[]").is_err() && members("{} x").is_err() && array("{}", |_| {}).is_err());
    }

    #[test]
    fn the_end_of_a_string_is_found_wherever_it_is() {
        for length in 0..80 {
            for stop in ['"', '\\'] {
                let text = format!("{}{stop}\"\\", "é".repeat(length / 2) + &"x".repeat(length % 2));
                assert_eq!(string_stop(text.as_bytes()), text.find(stop), "{text}");
            }
            assert_eq!(string_stop("x".repeat(length).as_bytes()), None);
        }
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(is_value(&nested(100)) && !is_value(&nested(1_000)));
    }

    fn any_text() -> impl Strategy<Value = String> {
        // Near JSON: pieces of it in any order.
        let pieces =
            ["{", "}", "[", "]", ",", ":", "\"a\"", "\"\\n\"", "\"", "\\", "1", "-0.5e+7", "true", "null", " ", "é"];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn what_is_taken_is_what_a_parser_takes(text in any_text()) {
            prop_assert_eq!(is_value(&text), serde_json::from_str::<&RawValue>(&text).is_ok(), "{}", text);
        }

        #[test]
        fn members_are_those_that_a_parser_finds(value in prop::collection::btree_map("[a-z]{0,3}", any::<Option<f32>>(), 0..5)) {
            let text = serde_json::to_string(&value).unwrap();
            let parsed: BTreeMap<&str, &RawValue> = serde_json::from_str(&text).unwrap();
            let expected: Vec<(&str, &str)> = parsed.iter().map(|(key, value)| (*key, value.get())).collect();
            prop_assert_eq!(members(&text).unwrap(), expected);
        }
    }
}
