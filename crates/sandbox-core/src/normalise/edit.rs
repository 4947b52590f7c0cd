//! Changing a few members of a JSON object while the rest stays as it was written, in its order.

use serde::Deserialize;
use serde::Deserializer;
use serde::Serialize;
use serde::Serializer;
use serde::de::MapAccess;
use serde::de::Visitor;
use serde_json::value::RawValue;
use serde_json::value::to_raw_value;
use std::borrow::Cow;
use std::fmt;

/// What becomes of one member.
pub(super) enum Edit {
    Drop,
    Keep,
    Set(Box<RawValue>),
}

impl Edit {
    /// The new value, or keep the old one.
    pub(super) fn set_if(value: Option<Box<RawValue>>) -> Self {
        value.map_or(Edit::Keep, Edit::Set)
    }
}

/// Edits the members of an object. `None`: nothing was changed, or it is no object.
pub(super) fn edit_object(raw: &RawValue, mut edit: impl FnMut(&str, &RawValue) -> Edit) -> Option<Box<RawValue>> {
    let members: Members = serde_json::from_str(raw.get()).ok()?;
    let mut changed = false;
    let mut edited = Vec::with_capacity(members.0.len());
    for (key, value) in members.0 {
        match edit(&key, &value) {
            Edit::Drop => changed = true,
            Edit::Keep => edited.push((key, value)),
            Edit::Set(new) => {
                changed = true;
                edited.push((key, Cow::Owned(new)));
            }
        }
    }
    if changed { to_raw_value(&Members(edited)).ok() } else { None }
}

/// Edits the elements of an array. `None`: nothing was changed, or it is no array.
pub(super) fn edit_array(
    raw: &RawValue,
    mut edit: impl FnMut(&RawValue) -> Option<Box<RawValue>>,
) -> Option<Box<RawValue>> {
    let elements: Vec<&RawValue> = serde_json::from_str(raw.get()).ok()?;
    let mut changed = false;
    let edited: Vec<Cow<'_, RawValue>> = elements
        .into_iter()
        .map(|element| match edit(element) {
            Some(new) => {
                changed = true;
                Cow::Owned(new)
            }
            None => Cow::Borrowed(element),
        })
        .collect();
    if changed { to_raw_value(&edited).ok() } else { None }
}

/// The members of an object, in their order.
struct Members<'a>(Vec<(Cow<'a, str>, Cow<'a, RawValue>)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MembersVisitor;

        impl<'de> Visitor<'de> for MembersVisitor {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Key(key), value)) = map.next_entry::<Key<'de>, &'de RawValue>()? {
                    members.push((key, Cow::Borrowed(value)));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(MembersVisitor)
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// A key, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).unwrap()
    }

    #[test]
    fn only_what_is_named_changes_and_the_order_stays() {
        let object = raw(r#"{"z": 1.50, "a\n":[ ],"b":"x", "c":null}"#);
        let edited = edit_object(&object, |key, _| match key {
            "b" => Edit::Set(raw("7")),
            "c" => Edit::Drop,
            _ => Edit::Keep,
        });
        assert_eq!(edited.unwrap().get(), r#"{"z":1.50,"a\n":[ ],"b":7}"#);
    }

    #[test]
    fn what_is_not_changed_is_not_rebuilt() {
        assert!(edit_object(&raw(r#"{"a":1}"#), |_, _| Edit::Keep).is_none());
        assert!(edit_object(&raw("[1]"), |_, _| Edit::Drop).is_none());
        assert!(edit_array(&raw("[1,2]"), |_| None).is_none());
        assert!(edit_array(&raw("{}"), |_| Some(raw("1"))).is_none());
    }

    #[test]
    fn elements_are_edited_one_by_one() {
        let edited = edit_array(&raw("[1, 2, 3]"), |value| (value.get() == "2").then(|| raw("{}")));
        assert_eq!(edited.unwrap().get(), "[1,{},3]");
    }
}
