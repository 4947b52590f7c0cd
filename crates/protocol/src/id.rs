//! Identifiers, parsed once at the edge. Inside, an invalid one cannot exist.

use serde::Deserialize;
use serde::Serialize;
use std::fmt;

/// Why a text is not the identifier it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId {
    /// Says what is wrong and what would be right; safe to show to the caller.
    pub message: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl std::error::Error for InvalidId {}

macro_rules! identifiers {
    ($($(#[$doc:meta])* $name:ident: $rule:expr, $message:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Parses `text`, or says what would have been right.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                let valid: fn(&str) -> bool = $rule;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidId { message: $message }) }
            }

            /// The text of the identifier.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}

identifiers! {
    /// One agent inside a town.
    AgentId: is_slug, "Invalid agent id: 1 to 128 letters, digits, '-', '_' or '.'";
    /// A question of the agent, or its request for a permission.
    AskId: is_slug, "Invalid question or permission id: 1 to 128 letters, digits, '-', '_' or '.'";
    /// One record of a town's ledger.
    BeadId: is_slug, "Invalid bead id: 1 to 128 letters, digits, '-', '_' or '.'";
    /// A branch or ref that a caller names (spec/session.md 2.4, plus the rules of `git check-ref-format`).
    BranchName: is_branch, "Invalid branch name: 1 to 255 of a-z A-Z 0-9 . _ - /, as git allows";
    /// One run of an agent: `exc_` and a ULID.
    ExecutionId: |s| has_form(s, "exc_", 26, is_crockford), "Invalid execution ID format";
    /// The file name of an image that a user sends along: a UUID, and what kind of image it is (spec/session.md 2.4).
    ImageFile: |s| image_type(s).is_some(), "Expected <UUID>.png, .jpg, .jpeg, .webp or .gif";
    /// What holds the images of one message: a UUID.
    ImagePath: is_uuid, "Expected a UUID";
    /// One process of a container, named by itself (spec/town.md 5.9).
    InstanceId: is_slug, "Invalid instance id: 1 to 128 letters, digits, '-', '_' or '.'";
    /// The agent server's session: `ses_`, 12 hex digits, 14 base-62 digits (spec/session.md 3.8).
    KiloSessionId: |s| has_form(s, "ses_", 26, |c| c.is_ascii_alphanumeric()), "Invalid Kilo session ID format";
    /// A user's message: `msg_` and 26 more (spec/session.md 2.4).
    MessageId: |s| has_form(s, "msg_", 26, |c| c.is_ascii_alphanumeric()), "Invalid message ID: 'msg_' and 26 letters or digits";
    /// One repository inside a town.
    RigId: is_slug, "Invalid rig id: 1 to 128 letters, digits, '-', '_' or '.'";
    /// The container that a user's sessions share (spec/session.md 3.8).
    SandboxId: is_sandbox_id, "Invalid sandbox id: ses-, org-, usr-, bot- or ubt-, and hex digits";
    /// One session as front ends know it: `agent_` and a UUID.
    SessionId: is_session_id, "Invalid session ID format";
    /// One town.
    TownId: is_slug, "Invalid town id: 1 to 128 letters, digits, '-', '_' or '.'";
    /// A user. Opaque: ids of identity providers hold `:` and `/`.
    UserId: |s| !s.is_empty() && s.len() <= 255 && !s.chars().any(char::is_control), "Invalid user id: 1 to 255 bytes without control characters";
}

impl SessionId {
    /// The name of the Durable Object that owns this session of `user`.
    pub fn object_name(&self, user: &UserId) -> String {
        format!("{user}:{self}")
    }
}

impl ImageFile {
    /// The type that the name says.
    pub fn content_type(&self) -> &'static str {
        image_type(&self.0).unwrap_or_default()
    }
}

fn image_type(name: &str) -> Option<&'static str> {
    let (uuid, extension) = name.split_once('.')?;
    is_uuid(uuid).then_some(())?;
    match extension {
        "gif" => Some("image/gif"),
        "jpeg" | "jpg" => Some("image/jpeg"),
        "png" => Some("image/png"),
        "webp" => Some("image/webp"),
        _ => None,
    }
}

fn has_form(text: &str, prefix: &str, length: usize, allowed: fn(char) -> bool) -> bool {
    text.strip_prefix(prefix).is_some_and(|rest| rest.len() == length && rest.chars().all(allowed))
}

fn is_crockford(c: char) -> bool {
    c.is_ascii_digit() || (c.is_ascii_uppercase() && !matches!(c, 'I' | 'L' | 'O' | 'U'))
}

/// No leading dot or dash: such an id must also be harmless as a file name and as an argument.
fn is_slug(text: &str) -> bool {
    (1..=128).contains(&text.len())
        && !text.starts_with(['.', '-'])
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

fn is_session_id(text: &str) -> bool {
    text.strip_prefix("agent_").is_some_and(is_uuid)
}

fn is_uuid(text: &str) -> bool {
    let mut groups = text.split('-');
    [8, 4, 4, 4, 12]
        .iter()
        .all(|length| groups.next().is_some_and(|g| g.len() == *length && g.chars().all(|c| c.is_ascii_hexdigit())))
        && groups.next().is_none()
}

fn is_sandbox_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(kind, hash)| {
        matches!(kind, "ses" | "org" | "usr" | "bot" | "ubt")
            && (1..=59).contains(&hash.len())
            && hash.chars().all(|c| matches!(c, '0'..='9' | 'a'..='f'))
    })
}

fn is_branch(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '/'))
        && !text.starts_with('-')
        && !text.contains("..")
        && text
            .split('/')
            .all(|part| !part.is_empty() && !part.starts_with('.') && !part.ends_with('.') && !part.ends_with(".lock"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn session_ids_are_agent_and_a_uuid_in_any_case() {
        assert!(SessionId::parse("agent_01234567-89ab-cdef-0123-456789ABCDEF").is_ok());
        for bad in [
            "",
            "agent_",
            "01234567-89ab-cdef-0123-456789abcdef",
            "agent_01234567-89ab-cdef-0123-456789abcde",
            "agent_01234567-89ab-cdef-0123-456789abcdef-",
            "agent_0123456789abcdef0123456789abcdef",
            "agent_g1234567-89ab-cdef-0123-456789abcdef",
        ] {
            assert!(SessionId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn branches_follow_git() {
        for good in ["main", "session/agent_1", "refs/pull/12/head", "v1.2.3"] {
            assert!(BranchName::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "-b", "a..b", "a/", "/a", "a//b", ".a", "a/.b", "a.lock", "a b", "a~1", "a."] {
            assert!(BranchName::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_that_become_file_names_cannot_climb() {
        for bad in ["..", ".", "-rf", "a/b", ""] {
            assert!(TownId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_name_of_an_image_is_a_uuid_and_its_type() {
        let uuid = "01234567-89ab-cdef-0123-456789abcdef";
        for (extension, content_type) in [
            ("png", "image/png"),
            ("jpg", "image/jpeg"),
            ("jpeg", "image/jpeg"),
            ("webp", "image/webp"),
            ("gif", "image/gif"),
        ] {
            let file = ImageFile::parse(&format!("{uuid}.{extension}")).unwrap();
            assert_eq!(file.content_type(), content_type);
        }
        for bad in ["", ".png", "a.png", "../x.png", &format!("{uuid}.svg"), &format!("{uuid}.png.gif"), uuid] {
            assert!(ImageFile::parse(bad).is_err(), "{bad}");
        }
        assert!(ImagePath::parse(uuid).is_ok() && ImagePath::parse("..").is_err());
    }

    #[test]
    fn an_invalid_id_does_not_deserialise() {
        let error = serde_json::from_str::<SessionId>("\"nope\"").unwrap_err();
        assert!(error.to_string().contains("Invalid session ID format"));
    }
}
