//! Incremental reader of the agent server's event stream (spec/kilo.md 5): bytes in, texts of events out.
//!
//! Memory is bounded while an event of any size streams by: an event of up to the longest string is kept as it is; a longer one is cut
//! while it is read ([`Limits::string_bytes_max`], [`Limits::event_read_bytes_max`]). Of a burst of normal events only those are
//! copied that lie across two chunks.

use crate::cut::Cut;
use crate::cut::Cutter;
use crate::limits::Limits;
use memchr::memchr2;
use std::borrow::Cow;
use std::mem;
use std::str;

/// What is kept of one event's text.
fn event_cut(limits: &Limits) -> Cut {
    Cut { string_bytes_max: limits.string_bytes_max, total_bytes_max: limits.event_read_bytes_max, depth: 0 }
}

/// Cuts a whole event's text as the decoder would have; `None` if it would have given it up.
pub(crate) fn cut_event<'a>(limits: &Limits, payload: &'a str) -> Option<Cow<'a, str>> {
    event_cut(limits).apply(payload)
}

/// Turns the bytes of an SSE response into the texts of its events.
pub struct SseDecoder {
    cut: Cut,
    position: Position,
    /// The last byte was a CR: a LF that follows belongs to it.
    after_cr: bool,
    data: Option<Data>,
}

/// Where in a line the reader is.
enum Position {
    /// In the field's name; the bytes so far, as many as can matter.
    Name(Vec<u8>),
    /// Just after `data:`, where one blank is left out.
    BeforeData,
    /// In the text of a `data:` line.
    InData,
    /// In a comment, or a field that is of no interest.
    Other,
}

/// The text of the current event so far.
enum Data {
    /// Short enough to need no look inside.
    Whole(Vec<u8>),
    /// Long: being cut.
    Cut(Box<Cutter>),
}

impl SseDecoder {
    /// A decoder at the start of a stream.
    pub fn new(limits: &Limits) -> Self {
        Self { cut: event_cut(limits), position: Position::Name(Vec::new()), after_cr: false, data: None }
    }

    /// Takes the next bytes, cut anywhere; hands out the `data:` text of each event that is complete now.
    pub fn push(&mut self, chunk: &[u8], mut event: impl FnMut(&str)) {
        let mut rest = chunk;
        while let Some(&first) = rest.first() {
            if let Some((text, tail)) = self.whole_event(rest) {
                event(text);
                rest = tail;
                continue;
            }
            if mem::take(&mut self.after_cr) && first == b'\n' {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let Some(end) = memchr2(b'\n', b'\r', rest) else {
                self.line_bytes(rest);
                break;
            };
            let (line, tail) = rest.split_at(end);
            self.line_bytes(line);
            if let Some(text) = self.line_end() {
                event(&text);
            }
            self.after_cr = tail.first() == Some(&b'\r');
            rest = tail.get(1..).unwrap_or_default();
        }
    }

    /// The stream has ended: the last event, if only its blank line is missing.
    pub fn finish(mut self) -> Option<String> {
        let first = self.line_end();
        first.or_else(|| self.line_end())
    }

    /// The usual event, if it is all there: one `data:` line, one blank line, not too long. And what follows it.
    fn whole_event<'a>(&self, bytes: &'a [u8]) -> Option<(&'a str, &'a [u8])> {
        let at_start = matches!(&self.position, Position::Name(name) if name.is_empty());
        if !at_start || self.after_cr || self.data.is_some() {
            return None;
        }
        let text = bytes.strip_prefix(b"data: ")?;
        let (line, tail) = text.split_at(memchr2(b'\n', b'\r', text)?);
        let tail = tail.strip_prefix(b"\n\n")?;
        let line = str::from_utf8(line).ok().filter(|line| line.len() <= self.cut.string_bytes_max)?;
        Some((line, tail))
    }

    fn line_bytes(&mut self, bytes: &[u8]) {
        let mut bytes = bytes;
        if let Position::Name(name) = &mut self.position {
            let colon = bytes.iter().position(|byte| *byte == b':');
            let (part, tail) = bytes.split_at(colon.unwrap_or(bytes.len()));
            // One byte more than "data" is enough to know that it is another field.
            let room = 5_usize.saturating_sub(name.len());
            name.extend_from_slice(part.get(..room).unwrap_or(part));
            if colon.is_none() {
                return;
            }
            bytes = tail.get(1..).unwrap_or_default();
            self.position = if name == b"data" { Position::BeforeData } else { Position::Other };
        }
        if matches!(self.position, Position::BeforeData) {
            let Some(first) = bytes.first() else { return };
            if *first == b' ' {
                bytes = bytes.get(1..).unwrap_or_default();
            }
            self.begin_data();
        }
        if matches!(self.position, Position::InData) {
            self.append(bytes);
        }
    }

    /// The line has ended. A blank one ends the event.
    fn line_end(&mut self) -> Option<String> {
        match mem::replace(&mut self.position, Position::Name(Vec::new())) {
            Position::Name(name) if name.is_empty() => self.data.take().and_then(Data::finish),
            Position::BeforeData => {
                self.begin_data();
                self.position = Position::Name(Vec::new());
                None
            }
            _ => None,
        }
    }

    /// A further `data:` line of the same event continues its text on a new line.
    fn begin_data(&mut self) {
        self.position = Position::InData;
        if self.data.is_some() {
            self.append(b"\n");
        } else {
            self.data = Some(Data::Whole(Vec::new()));
        }
    }

    fn append(&mut self, bytes: &[u8]) {
        match &mut self.data {
            Some(Data::Whole(whole)) if whole.len().saturating_add(bytes.len()) <= self.cut.string_bytes_max => {
                whole.extend_from_slice(bytes);
            }
            Some(Data::Whole(whole)) => {
                let mut cutter = Box::new(Cutter::new(self.cut));
                cutter.push(whole);
                cutter.push(bytes);
                self.data = Some(Data::Cut(cutter));
            }
            Some(Data::Cut(cutter)) => cutter.push(bytes),
            None => {}
        }
    }
}

impl Data {
    fn finish(self) -> Option<String> {
        match self {
            Data::Whole(bytes) => Some(
                String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
            ),
            Data::Cut(cutter) => cutter.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn push(decoder: &mut SseDecoder, bytes: &[u8]) -> Vec<String> {
        let mut events = Vec::new();
        decoder.push(bytes, |event| events.push(event.to_owned()));
        events
    }

    fn decode(stream: &[u8], chunk: usize) -> Vec<String> {
        let mut decoder = SseDecoder::new(&Limits::default());
        let mut events: Vec<String> = stream.chunks(chunk).flat_map(|bytes| push(&mut decoder, bytes)).collect();
        events.extend(decoder.finish());
        events
    }

    #[test]
    fn events_are_whole_whatever_the_chunks() {
        let stream = "data: {\"a\":1}\n\n: comment\nevent: x\ndata:{\"b\":\"é\"}\r\nid: 7\r\n\r\ndata: [1,\rdata: 2]\r\rretry\n\ndata\n\n";
        for chunk in 1..stream.len() {
            assert_eq!(decode(stream.as_bytes(), chunk), ["{\"a\":1}", "{\"b\":\"é\"}", "[1,\n2]"], "{chunk}");
        }
    }

    #[test]
    fn the_last_event_may_lack_its_blank_line() {
        assert_eq!(decode(b"data: 1\n\ndata: 2\n", 3), ["1", "2"]);
        assert_eq!(decode(b"data: 1\n\ndata: 2", 3), ["1", "2"]);
        assert_eq!(decode(b"data: 1\n\n", 3), ["1"]);
        assert_eq!(decode(b"", 3), [""; 0]);
    }

    #[test]
    fn bytes_that_are_not_utf8_do_not_end_the_stream() {
        assert_eq!(decode(b"data: \xff\n\ndata: 2\n\n", 100), ["\u{fffd}", "2"]);
    }

    #[test]
    fn a_49_mb_event_is_cut_while_it_is_read() {
        let limits = Limits::default();
        let mut decoder = SseDecoder::new(&limits);
        let mut events = push(&mut decoder, b"data: {\"type\":\"t\",\"properties\":{\"text\":\"");
        let chunk = vec![b'x'; 64 * 1024];
        let mut held = 0;
        for _ in 0..784 {
            events.extend(push(&mut decoder, &chunk));
            held = held.max(match &decoder.data {
                Some(Data::Whole(bytes)) => bytes.capacity(),
                Some(Data::Cut(cutter)) => cutter.held_bytes(),
                None => 0,
            });
        }
        events.extend(push(&mut decoder, b"\",\"id\":\"a\"}}\n\ndata: 2\n\n"));
        assert_eq!(events.len(), 2);
        assert!(events[0].len() < limits.string_bytes_max + 100 && events[0].ends_with("bytes cut]\",\"id\":\"a\"}}"));
        assert!(held < 1024 * 1024, "{held}");
    }

    proptest! {
        #[test]
        fn reading_in_chunks_cuts_as_cutting_the_whole(texts in prop::collection::vec(("[a-z\\\\\"é]{0,9}", 0_usize..60), 1..4), chunk in 1_usize..99) {
            let limits = Limits { string_bytes_max: 100, event_read_bytes_max: 400, ..Limits::default() };
            let payloads: Vec<String> =
                texts.iter().map(|(s, n)| serde_json::json!({"text": s.repeat(*n), "n": n}).to_string()).collect();
            let stream: String = payloads.iter().map(|payload| format!("data: {payload}\n\n")).collect();
            let mut decoder = SseDecoder::new(&limits);
            let events: Vec<String> = stream.as_bytes().chunks(chunk).flat_map(|bytes| push(&mut decoder, bytes)).collect();
            let expected: Vec<String> =
                payloads.iter().map(|payload| cut_event(&limits, payload).unwrap().into_owned()).collect();
            prop_assert_eq!(events, expected);
        }
    }
}
