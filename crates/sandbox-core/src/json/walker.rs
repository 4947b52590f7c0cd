//! One pass over the bytes of a JSON text, checking its grammar on the way.

use super::Invalid;
use super::Value;
use memchr::memchr2;

/// Deeper nesting is refused: the readers behind us have limits too.
const DEPTH_MAX: u32 = 100;

/// A place in a text.
pub(super) struct Walker<'a> {
    text: &'a str,
    pub(super) at: usize,
    /// There is a control character somewhere: each string must be searched for it.
    has_control: bool,
}

impl<'a> Walker<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, has_control: has_control(text.as_bytes()) }
    }

    pub(super) fn object(
        &mut self,
        mut member: impl FnMut(&'a str, Value<'_, 'a>) -> Result<(), Invalid>,
    ) -> Result<(), Invalid> {
        self.take(b'{')?;
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
        self.take(b':')?;
        self.blank();
        Ok(key)
    }

    /// Any value, without recursion.
    pub(super) fn value(&mut self) -> Result<&'a str, Invalid> {
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
        self.take(b'"')?;
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

    pub(super) fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.step();
        }
    }

    pub(super) fn end(&mut self) -> Result<(), Invalid> {
        self.blank();
        if self.peek().is_none() { Ok(()) } else { Err(self.invalid()) }
    }

    pub(super) fn take(&mut self, byte: u8) -> Result<(), Invalid> {
        if self.next() == Some(byte) { Ok(()) } else { Err(self.invalid()) }
    }

    pub(super) fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    pub(super) fn next(&mut self) -> Option<u8> {
        let byte = self.peek();
        self.step();
        byte
    }

    pub(super) fn step(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    pub(super) fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    pub(super) fn invalid(&self) -> Invalid {
        Invalid { at: self.at }
    }
}

/// The first quote or backslash. Where lines end and words are quoted it is near, and a call for a long search would cost more than the
/// look at a few words of bytes.
pub(super) fn string_stop(bytes: &[u8]) -> Option<usize> {
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
