//! Changing a few members of a JSON object while the rest stays as it was written, in its order.

use crate::json;

/// What becomes of one member.
pub(super) enum Edit {
    Drop,
    Keep,
    /// This JSON takes its value's place.
    Set(String),
}

impl Edit {
    /// The new value, or keep the old one.
    pub(super) fn set_if(value: Option<String>) -> Self {
        value.map_or(Edit::Keep, Edit::Set)
    }
}

/// Edits the members of an object. `None`: nothing was changed, or it is no object.
pub(super) fn edit_object(raw: &str, mut edit: impl FnMut(&str, &str) -> Edit) -> Option<String> {
    let mut members = Vec::new();
    let mut changed = false;
    json::object(raw, |key, value| {
        let value = value.raw()?;
        let edited = edit(key, value);
        changed |= !matches!(edited, Edit::Keep);
        members.push((key, value, edited));
        Ok(())
    })
    .ok()?;
    if !changed {
        return None;
    }
    let mut text = String::with_capacity(raw.len());
    for (key, value, edited) in &members {
        let value = match edited {
            Edit::Drop => continue,
            Edit::Keep => value,
            Edit::Set(new) => new.as_str(),
        };
        text.push_str(if text.is_empty() { "{\"" } else { ",\"" });
        text.push_str(key);
        text.push_str("\":");
        text.push_str(value);
    }
    text.push_str(if text.is_empty() { "{}" } else { "}" });
    Some(text)
}

/// Edits the elements of an array. `None`: nothing was changed, or it is no array.
pub(super) fn edit_array(raw: &str, mut edit: impl FnMut(&str) -> Option<String>) -> Option<String> {
    let mut elements = Vec::new();
    json::array(raw, |element| elements.push((element, edit(element)))).ok()?;
    if elements.iter().all(|(_, edited)| edited.is_none()) {
        return None;
    }
    let elements: Vec<&str> = elements.iter().map(|(element, edited)| edited.as_deref().unwrap_or(element)).collect();
    Some(format!("[{}]", elements.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_named_changes_and_the_order_stays() {
        let object = r#"{"z": 1.50, "a\n":[ ],"b":"x", "c":null}"#;
        let edited = edit_object(object, |key, _| match key {
            "b" => Edit::Set("7".to_owned()),
            "c" => Edit::Drop,
            _ => Edit::Keep,
        });
        assert_eq!(edited.unwrap(), r#"{"z":1.50,"a\n":[ ],"b":7}"#);
    }

    #[test]
    fn what_is_not_changed_is_not_rebuilt() {
        assert!(edit_object(r#"{"a":1}"#, |_, _| Edit::Keep).is_none());
        assert!(edit_object("[1]", |_, _| Edit::Drop).is_none());
        assert!(edit_array("[1,2]", |_| None).is_none());
        assert!(edit_array("{}", |_| Some("1".to_owned())).is_none());
    }

    #[test]
    fn an_object_may_lose_all_its_members() {
        assert_eq!(edit_object(r#"{"a":1}"#, |_, _| Edit::Drop).unwrap(), "{}");
    }

    #[test]
    fn elements_are_edited_one_by_one() {
        let edited = edit_array("[1, 2, 3]", |value| (value == "2").then(|| "{}".to_owned()));
        assert_eq!(edited.unwrap(), "[1,{},3]");
    }
}
