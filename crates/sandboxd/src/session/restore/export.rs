//! Reads what `kilo export` wrote: `{info, messages: [{info, parts}]}`.
//!
//! A conversation can be large, so its text is never held whole: what is not asked for is skipped while reading.

use crate::session::limits;
use protocol::id::KiloSessionId;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::path::Path;

/// Why a file is not the export of a session.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// It cannot be read.
    #[error("the session's export cannot be read: {0}")]
    Io(#[from] io::Error),
    /// Cut short, or something else.
    #[error("the session's export is not valid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// An answer that says what went wrong, for one, is JSON too.
    #[error("the session's export has no info.id")]
    NoId,
    /// Of another session.
    #[error("the export is of session {0}")]
    Other(String),
    /// Nobody's conversation.
    #[error("the session's export has more than {} bytes", limits::EXPORT_BYTES_MAX)]
    TooLarge,
}

/// What a session did to one file, as the agent keeps it where its own snapshots are on.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Diff {
    /// Relative to the workspace.
    pub file: String,
    /// `added`, `modified` or `deleted`.
    #[serde(default)]
    pub status: String,
    /// The whole file; absent where only a patch is kept.
    #[serde(default)]
    pub after: Option<String>,
}

/// Makes sure that `file` is a whole export of `session`. Returns how many files were left out of it, see [`super::slim`].
pub fn check(file: &Path, session: &KiloSessionId) -> Result<u64, ExportError> {
    #[derive(Deserialize)]
    struct Export {
        info: Option<Info>,
        #[serde(default)]
        holdfast: Own,
    }
    #[derive(Default, Deserialize)]
    struct Own {
        #[serde(default, rename = "filesLeftOut")]
        files_left_out: u64,
    }
    #[derive(Deserialize)]
    struct Info {
        id: Option<Value>,
    }
    let export: Export = read(file)?;
    match export.info.and_then(|info| info.id) {
        Some(Value::String(id)) if id == session.as_str() => Ok(export.holdfast.files_left_out),
        Some(Value::String(id)) => Err(ExportError::Other(id)),
        _ => Err(ExportError::NoId),
    }
}

/// The last diff of each file, in the order in which the files first appear.
pub fn diffs(file: &Path) -> Result<Vec<Diff>, ExportError> {
    #[derive(Deserialize)]
    struct Export {
        #[serde(default)]
        messages: Vec<Message>,
    }
    #[derive(Deserialize)]
    struct Message {
        info: Option<Info>,
    }
    #[derive(Deserialize)]
    struct Info {
        summary: Option<Summary>,
    }
    // A condensed message has `true` here.
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Summary {
        Of { diffs: Vec<Value> },
        Other(serde::de::IgnoredAny),
    }
    let export: Export = read(file)?;
    let mut last: Vec<Diff> = Vec::new();
    let summaries = export.messages.into_iter().filter_map(|message| message.info?.summary);
    for diff in summaries.flat_map(|summary| match summary {
        Summary::Of { diffs } => diffs,
        Summary::Other(_) => Vec::new(),
    }) {
        let Ok(diff) = serde_json::from_value::<Diff>(diff) else { continue };
        match last.iter_mut().find(|known| known.file == diff.file) {
            Some(known) => *known = diff,
            None => last.push(diff),
        }
    }
    Ok(last)
}

fn read<T: DeserializeOwned>(file: &Path) -> Result<T, ExportError> {
    let file = File::open(file)?;
    if file.metadata()?.len() > limits::EXPORT_BYTES_MAX {
        return Err(ExportError::TooLarge);
    }
    Ok(serde_json::from_reader(BufReader::new(file))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn only_a_whole_export_of_the_session_is_taken() {
        let session = KiloSessionId::parse("ses_0123456789abABCDEFGHIJKLMN").unwrap();
        let checked = |text: &str| check(file(text).path(), &session).map_err(|error| error.to_string());
        assert_eq!(checked(r#"{"info":{"id":"ses_0123456789abABCDEFGHIJKLMN"},"messages":[]}"#), Ok(0));
        let slim = r#"{"info":{"id":"ses_0123456789abABCDEFGHIJKLMN"},"messages":[],"holdfast":{"filesLeftOut":3}}"#;
        assert_eq!(checked(slim), Ok(3));
        for (text, words) in [
            (r#"{"info":{"id":"ses_0123456789abABCDEFGHIJKLMN"},"messages":["#, "not valid JSON"),
            (r#"{"info":{"id":"ses_another"},"messages":[]}"#, "of session ses_another"),
            (r#"{"detail":"Not found"}"#, "no info.id"),
            (r#"{"info":{"id":7}}"#, "no info.id"),
        ] {
            assert!(checked(text).unwrap_err().contains(words), "{text}");
        }
    }

    #[test]
    fn the_last_diff_of_a_file_counts() {
        let summary = |diffs: Value| json!({ "info": { "summary": { "diffs": diffs } }, "parts": [] });
        let export = json!({ "info": { "id": "ses_1" }, "messages": [
            summary(json!([{ "file": "a", "after": "1", "status": "added" }, { "file": "b", "after": "b" }])),
            { "info": { "summary": true } },
            { "info": {} },
            summary(json!([{ "file": "a", "after": "2", "status": "modified" }, { "nonsense": 1 }])),
        ] });
        let found = diffs(file(&export.to_string()).path()).unwrap();
        let of = |diff: &Diff| (diff.file.clone(), diff.after.clone());
        assert_eq!(
            found.iter().map(of).collect::<Vec<_>>(),
            [("a".into(), Some("2".into())), ("b".into(), Some("b".into()))]
        );
    }
}
