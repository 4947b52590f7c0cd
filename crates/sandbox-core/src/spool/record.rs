//! One numbered event in the spool's file: a line `<seq> <length> <kind>`, then the event as it travels, then a line's end.
//!
//! A person can read it, and a reader needs no checksum: the file is written from front to back by one process, so all that a kill or a
//! full disk can leave is a record that is not whole, at the end, and behind it what an earlier failure left there: records of
//! smaller numbers, by which they are told.

use std::fmt::Write;
use std::str;

/// The longest head: two numbers of 20 digits and a word.
const HEAD_BYTES_MAX: usize = 64;

const EVENT: &str = "event";
const LIFECYCLE: &str = "lifecycle";

/// A record, as found in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub seq: u64,
    pub lifecycle: bool,
    /// The event as it travels.
    pub body: &'a str,
    /// The bytes of the whole record.
    pub bytes: usize,
}

/// Writes what comes before the body of a record to the end of `out`. After the body comes [`END`].
pub(super) fn begin(out: &mut String, seq: u64, lifecycle: bool, body_bytes: usize) {
    let kind = if lifecycle { LIFECYCLE } else { EVENT };
    // A string takes everything.
    let _ = writeln!(out, "{seq} {body_bytes} {kind}");
}

/// The end of a record.
pub(super) const END: char = '\n';

/// The records of a file, up to the first that is not whole.
pub(super) fn decode(file: &[u8]) -> impl Iterator<Item = Record<'_>> {
    let mut rest = file;
    std::iter::from_fn(move || {
        let record = first(rest)?;
        rest = rest.get(record.bytes..)?;
        Some(record)
    })
}

fn first(bytes: &[u8]) -> Option<Record<'_>> {
    let head_end = bytes.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n')?;
    let mut head = str::from_utf8(bytes.get(..head_end)?).ok()?.split(' ');
    let seq = head.next()?.parse().ok()?;
    let length: usize = head.next()?.parse().ok()?;
    let lifecycle = match head.next()? {
        EVENT => false,
        LIFECYCLE => true,
        _ => return None,
    };
    let body_start = head_end.checked_add(1)?;
    let body_end = body_start.checked_add(length)?;
    let body = str::from_utf8(bytes.get(body_start..body_end)?).ok()?;
    (bytes.get(body_end) == Some(&b'\n')).then_some(Record { seq, lifecycle, body, bytes: body_end.checked_add(1)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Writes a whole record; returns its length.
    fn encode(file: &mut Vec<u8>, seq: u64, lifecycle: bool, body: &str) -> usize {
        let mut record = String::new();
        begin(&mut record, seq, lifecycle, body.len());
        record.push_str(body);
        record.push(END);
        file.extend(record.as_bytes());
        record.len()
    }

    #[test]
    fn the_format_is_pinned() {
        let mut file = Vec::new();
        assert_eq!(encode(&mut file, 7, false, "{\"é\":1}"), 19);
        encode(&mut file, 8, true, "{}");
        assert_eq!(str::from_utf8(&file).unwrap(), "7 8 event\n{\"é\":1}\n8 2 lifecycle\n{}\n");
    }

    #[test]
    fn what_is_no_record_ends_the_file() {
        for file in [
            "",
            "\n",
            "x",
            "1 2\n{}\n",
            "1 2 event\n{}",
            "1 2 event\n{}x",
            "1 3 event\n{}\n",
            "-1 2 event\n{}\n",
            "1 2 other\n{}\n",
        ] {
            assert_eq!(decode(file.as_bytes()).count(), 0, "{file}");
        }
        assert_eq!(decode(format!("1 {} event\n{{}}\n", usize::MAX).as_bytes()).count(), 0);
    }

    proptest! {
        #[test]
        fn all_whole_records_of_a_torn_file_are_found(bodies in prop::collection::vec("[ -~\n]{0,40}", 0..9), torn in any::<prop::sample::Index>()) {
            let mut file = Vec::new();
            let mut ends = Vec::new();
            for (n, body) in bodies.iter().enumerate() {
                encode(&mut file, n as u64, n % 2 == 0, body);
                ends.push(file.len());
            }
            let torn = torn.index(file.len() + 1);
            let found: Vec<Record> = decode(&file[..torn]).collect();
            prop_assert_eq!(found.len(), ends.iter().filter(|end| **end <= torn).count());
            for (n, record) in found.iter().enumerate() {
                prop_assert_eq!((record.seq, record.lifecycle, record.body), (n as u64, n % 2 == 0, bodies[n].as_str()));
            }
        }
    }
}
