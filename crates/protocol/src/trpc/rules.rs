//! The rules of single texts (spec/session.md 2.4). Each says what would have been right.

use crate::envelope::VALUE_BYTES_MAX;
use crate::id::InvalidId;
use crate::id::SessionId;
use crate::sandbox::Secret;

pub fn secret(text: &str) -> Result<Secret, InvalidId> {
    match text {
        "" => Err(InvalidId { message: "Must not be empty" }),
        _ if text.len() > VALUE_BYTES_MAX || text.chars().any(char::is_control) => {
            Err(InvalidId { message: "Must be at most 4096 bytes, without control characters" })
        }
        _ => Ok(Secret(text.to_owned())),
    }
}

pub fn prompt(text: &str) -> Result<String, InvalidId> {
    if text.trim().is_empty() {
        return Err(InvalidId { message: "Must not be empty" });
    }
    limited(text, 100_000, "At most 100000 characters")
}

/// At most `chars` characters; `message` says so.
pub fn limited(text: &str, chars: usize, message: &'static str) -> Result<String, InvalidId> {
    if text.chars().count() <= chars { Ok(text.to_owned()) } else { Err(InvalidId { message }) }
}

pub fn system_prompt(text: &str) -> Result<String, InvalidId> {
    limited(text, 10_000, "At most 10000 characters")
}

pub fn model(text: &str) -> Result<String, InvalidId> {
    let valid = (1..=255).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/' | ':'));
    if valid { Ok(text.to_owned()) } else { Err(InvalidId { message: "Expected 1 to 255 of a-z A-Z 0-9 . _ - / :" }) }
}

pub fn variant(text: &str) -> Result<String, InvalidId> {
    let valid = (1..=50).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphabetic());
    if valid { Ok(text.to_owned()) } else { Err(InvalidId { message: "Expected 1 to 50 letters" }) }
}

pub fn uuid(text: &str) -> Result<String, InvalidId> {
    SessionId::parse(&format!("agent_{text}"))
        .map(|_| text.to_owned())
        .map_err(|_| InvalidId { message: "Expected a UUID" })
}

pub fn github_repo(text: &str) -> Result<String, InvalidId> {
    let part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    match text.split_once('/') {
        Some((owner, name)) if text.len() <= 255 && part(owner) && part(name) => Ok(text.to_owned()),
        _ => Err(InvalidId { message: "Invalid repository format" }),
    }
}

/// A URL that git may be given. Credentials in it would end up in logs: they have a field of their own.
pub fn git_url(text: &str, allow_loopback: bool) -> Result<String, InvalidId> {
    let plain = text.len() <= 2_048 && !text.chars().any(|c| c.is_whitespace() || c.is_control());
    let local = text.starts_with("file:///") || (text.starts_with("http://127.0.0.1:") && !text.contains('@'));
    let host = text.strip_prefix("https://").map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    match host {
        Some(host) if plain && host.contains('@') => {
            Err(InvalidId { message: "Credentials do not belong into the URL: use gitToken" })
        }
        Some(host) if plain && !host.is_empty() => Ok(text.to_owned()),
        None if plain && local && allow_loopback => Ok(text.to_owned()),
        _ => Err(InvalidId { message: "Only HTTPS URLs are supported" }),
    }
}
