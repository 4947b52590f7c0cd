//! An export without the files that were shown to the agent: images stand in it as `data:` URLs, and some dozen of them are more than a
//! snapshot may hold. The words of the conversation matter more than its pictures, so these go first.
//!
//! Message by message: one prompt with its images is the most that is in memory at a time.

use super::export::ExportError;
use serde::Deserializer;
use serde::de::DeserializeSeed;
use serde::de::Error;
use serde::de::MapAccess;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::Value;
use serde_json::json;
use std::fmt;
use std::fs::File;
use std::io::BufReader;
use std::io::BufWriter;
use std::io::Write;
use std::path::Path;

/// Writes the export `from` to `to` with a note in the place of each file. Returns how many there were, which [`super::export::check`] also tells.
pub fn without_files(from: &Path, to: File) -> Result<u64, ExportError> {
    let mut slim = Slim { to: BufWriter::new(to), left_out: 0 };
    let mut reader = serde_json::Deserializer::from_reader(BufReader::new(File::open(from)?));
    Document(&mut slim).deserialize(&mut reader)?;
    slim.to.flush()?;
    Ok(slim.left_out)
}

struct Slim {
    to: BufWriter<File>,
    left_out: u64,
}

impl Slim {
    fn write<E: Error>(&mut self, text: &str) -> Result<(), E> {
        self.to.write_all(text.as_bytes()).map_err(E::custom)
    }

    fn value<E: Error>(&mut self, value: &impl serde::Serialize) -> Result<(), E> {
        serde_json::to_writer(&mut self.to, value).map_err(E::custom)
    }

    /// Files of a prompt are parts, those that a tool read are attachments of its result.
    fn strip(&mut self, message: &mut Value) {
        let parts = message.get_mut("parts").and_then(Value::as_array_mut);
        for part in parts.into_iter().flatten() {
            if is_file(part) {
                self.left_out = self.left_out.saturating_add(1);
                *part = note(part);
            }
            if let Some(attachments) = part.pointer_mut("/state/attachments").and_then(Value::as_array_mut) {
                let before = attachments.len();
                attachments.retain(|attachment| !is_file(attachment));
                let gone = before.saturating_sub(attachments.len());
                self.left_out = self.left_out.saturating_add(u64::try_from(gone).unwrap_or(u64::MAX));
            }
        }
    }
}

fn is_file(part: &Value) -> bool {
    part.get("type").is_some_and(|kind| kind == "file")
        && part.get("url").and_then(Value::as_str).is_some_and(|url| url.starts_with("data:"))
}

/// What the agent reads instead.
fn note(file: &Value) -> Value {
    let name = file.get("filename").and_then(Value::as_str).unwrap_or("a file");
    let text = format!("[{name} was shown here. It is no longer kept.]");
    let mut note = json!({ "type": "text", "text": text, "synthetic": true });
    for key in ["id", "sessionID", "messageID"] {
        if let (Some(value), Some(fields)) = (file.get(key), note.as_object_mut()) {
            fields.insert(key.to_owned(), value.clone());
        }
    }
    note
}

/// The export itself: an object whose `messages` are copied one by one.
struct Document<'a>(&'a mut Slim);

impl<'de> DeserializeSeed<'de> for Document<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an exported session")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        self.0.write("{")?;
        while let Some(key) = map.next_key::<String>()? {
            self.0.value(&key)?;
            self.0.write(":")?;
            if key == "messages" {
                map.next_value_seed(Messages(self.0))?;
            } else {
                let value: Value = map.next_value()?;
                self.0.value(&value)?;
            }
            self.0.write(",")?;
        }
        let note = format!(r#""holdfast":{{"filesLeftOut":{}}}}}"#, self.0.left_out);
        self.0.write(&note)
    }
}

struct Messages<'a>(&'a mut Slim);

impl<'de> DeserializeSeed<'de> for Messages<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Messages<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("messages")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut messages: A) -> Result<(), A::Error> {
        self.0.write("[")?;
        let mut separator = "";
        while let Some(mut message) = messages.next_element::<Value>()? {
            self.0.strip(&mut message);
            self.0.write(separator)?;
            self.0.value(&message)?;
            separator = ",";
        }
        self.0.write("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slim(export: &Value) -> Result<(u64, Value), ExportError> {
        let (from, to) = (tempfile::NamedTempFile::new().unwrap(), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(from.path(), export.to_string()).unwrap();
        let left_out = without_files(from.path(), to.reopen().unwrap())?;
        Ok((left_out, serde_json::from_slice(&std::fs::read(to.path()).unwrap()).unwrap()))
    }

    #[test]
    fn files_become_notes_and_everything_else_stays() {
        let image = json!({ "type": "file", "id": "prt_1", "messageID": "msg_1", "sessionID": "ses_1",
            "mime": "image/png", "filename": "a.png", "url": "data:image/png;base64,AAAA" });
        let linked = json!({ "type": "file", "url": "file:///b.txt" });
        let tool =
            |attachments: Value| json!({ "type": "tool", "state": { "output": "o", "attachments": attachments } });
        let text = json!({ "type": "text", "text": "data:image/png is a word" });
        let export = |parts: Value| json!({ "info": { "id": "ses_1" }, "messages": [{ "info": {}, "parts": parts }] });
        let (left_out, found) = slim(&export(json!([image, text, linked, tool(json!([image, linked]))]))).unwrap();
        let note = json!({ "type": "text", "id": "prt_1", "messageID": "msg_1", "sessionID": "ses_1",
            "text": "[a.png was shown here. It is no longer kept.]", "synthetic": true });
        let mut expected = export(json!([note, text, linked, tool(json!([linked]))]));
        expected["holdfast"] = json!({ "filesLeftOut": 2 });
        assert_eq!((left_out, found), (2, expected));
    }

    #[test]
    fn what_is_no_export_is_refused() {
        assert!(slim(&json!([1])).is_err());
        assert!(slim(&json!({ "messages": 7 })).is_err());
        assert_eq!(slim(&json!({ "messages": [] })).unwrap().0, 0);
    }
}
