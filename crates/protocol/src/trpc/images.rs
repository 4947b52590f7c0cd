//! The `images` of a prompt: references to what was uploaded before (spec/session.md 2.4).

use super::fields::Fields;
use crate::id::ImageFile;
use crate::id::ImagePath;
use crate::id::InvalidId;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;

/// The most images of one prompt.
const IMAGES_MAX: usize = 5;

/// What a prompt shows. The images are the caller's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Images {
    /// Where they were uploaded to.
    pub path: ImagePath,
    /// 1 to 5, in the order in which the agent sees them.
    pub files: Vec<ImageFile>,
}

pub(super) fn images(fields: &mut Fields) -> Option<Images> {
    let value = fields.value("images")?;
    parse(value).map_err(|error| fields.issue("images", error.message)).ok()
}

fn parse(value: &Value) -> Result<Images, InvalidId> {
    const SHAPE: InvalidId = InvalidId { message: "Expected {path: <UUID>, files: [1 to 5 file names]}" };
    let path = value.get("path").and_then(Value::as_str).ok_or(SHAPE)?;
    let files = value.get("files").and_then(Value::as_array).ok_or(SHAPE)?;
    if !(1..=IMAGES_MAX).contains(&files.len()) {
        return Err(SHAPE);
    }
    let files: Result<_, _> = files.iter().map(|file| ImageFile::parse(file.as_str().ok_or(SHAPE)?)).collect();
    Ok(Images { path: ImagePath::parse(path)?, files: files? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const UUID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn read(value: Value) -> Result<Option<Images>, Vec<super::super::fields::Issue>> {
        let input = json!({ "images": value });
        let mut fields = Fields::new(&input);
        let images = images(&mut fields);
        fields.finish(Some(images))
    }

    #[test]
    fn one_to_five_files_of_one_path() {
        let file = format!("{UUID}.png");
        for count in [1, 5] {
            let images = read(json!({ "path": UUID, "files": vec![&file; count] })).unwrap().unwrap();
            assert_eq!((images.path.as_str(), images.files.len()), (UUID, count));
        }
        assert_eq!(read(Value::Null), Ok(None));
    }

    #[test]
    fn everything_else_is_told_what_would_be_right() {
        let file = format!("{UUID}.png");
        for (bad, expected) in [
            (json!([]), "Expected {path"),
            (json!({}), "Expected {path"),
            (json!({ "path": UUID }), "Expected {path"),
            (json!({ "path": UUID, "files": [] }), "Expected {path"),
            (json!({ "path": UUID, "files": vec![&file; 6] }), "Expected {path"),
            (json!({ "path": UUID, "files": [1] }), "Expected {path"),
            (json!({ "path": "../other", "files": [file] }), "Expected a UUID"),
            (json!({ "path": UUID, "files": ["cat.png"] }), "Expected <UUID>.png"),
            (json!({ "path": UUID, "files": [format!("{UUID}.svg")] }), "Expected <UUID>.png"),
        ] {
            let issues = read(bad.clone()).unwrap_err();
            assert!(issues[0].path == ["images"] && issues[0].message.starts_with(expected), "{bad} {issues:?}");
        }
    }
}
