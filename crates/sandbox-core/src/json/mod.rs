//! Walks JSON texts without building anything: checks them, and hands out the members of an object as they are written.
//!
//! Most of an event is text that nobody here looks at. A string is skipped by searching its end, so a walk costs a fraction of
//! what parsing does, and what was found is a slice of the input. What comes out of a walk that did not fail is valid JSON
//! and may be copied into another text as it is.

#[cfg(test)]
mod tests;
mod walker;

use std::borrow::Cow;
use walker::Walker;

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
    walker.take(b'[')?;
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
