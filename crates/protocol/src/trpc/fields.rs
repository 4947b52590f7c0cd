//! Reads the fields of a JSON object and collects everything that is wrong with them.

use crate::id::InvalidId;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Map;
use serde_json::Value;

/// One thing that is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issue {
    /// `invalid_type`, `custom` …
    pub code: String,
    /// Where: names of fields, outermost first.
    pub path: Vec<String>,
    /// What is wrong, and what would be right.
    pub message: String,
}

/// The object under inspection, and what was found.
pub struct Fields<'a> {
    object: Option<&'a Map<String, Value>>,
    issues: Vec<Issue>,
}

impl<'a> Fields<'a> {
    /// Begins. Anything but an object is an issue of its own.
    pub fn new(input: &'a Value) -> Self {
        let mut fields = Self { object: input.as_object(), issues: Vec::new() };
        if fields.object.is_none() {
            fields.issues.push(Issue {
                code: "invalid_type".into(),
                path: vec![],
                message: "Expected a JSON object".into(),
            });
        }
        fields
    }

    /// Notes what is wrong with a field.
    pub fn issue(&mut self, field: &str, message: impl Into<String>) {
        self.issues.push(Issue { code: "custom".into(), path: vec![field.to_owned()], message: message.into() });
    }

    /// Ends: the value if nothing was wrong.
    pub fn finish<T>(self, value: Option<T>) -> Result<T, Vec<Issue>> {
        match value {
            Some(value) if self.issues.is_empty() => Ok(value),
            _ => Err(self.issues),
        }
    }

    /// The field, unless it is absent or null.
    pub fn value(&self, field: &str) -> Option<&'a Value> {
        self.object?.get(field).filter(|value| !value.is_null())
    }

    /// An optional text.
    pub fn text(&mut self, field: &str) -> Option<&'a str> {
        let value = self.value(field)?;
        if value.as_str().is_none() {
            self.issue(field, "Expected a string");
        }
        value.as_str()
    }

    /// An optional text that `parse` accepts.
    pub fn parsed<T>(&mut self, field: &str, parse: impl Fn(&str) -> Result<T, InvalidId>) -> Option<T> {
        let text = self.text(field)?;
        parse(text).map_err(|error| self.issue(field, error.message)).ok()
    }

    /// A required text that `parse` accepts.
    pub fn required<T>(&mut self, field: &str, parse: impl Fn(&str) -> Result<T, InvalidId>) -> Option<T> {
        if self.value(field).is_none() && self.object.is_some() {
            self.issue(field, "Required");
        }
        self.parsed(field, parse)
    }

    /// An optional flag.
    pub fn flag(&mut self, field: &str) -> Option<bool> {
        let value = self.value(field)?;
        if value.as_bool().is_none() {
            self.issue(field, "Expected true or false");
        }
        value.as_bool()
    }

    /// An optional list of texts, of at most `items` with at most `chars` characters each.
    pub fn texts(&mut self, field: &str, items: usize, chars: usize) -> Vec<String> {
        let Some(value) = self.value(field) else { return vec![] };
        let texts: Option<Vec<String>> =
            value.as_array().and_then(|list| list.iter().map(|item| item.as_str().map(str::to_owned)).collect());
        match texts {
            Some(texts) if texts.len() <= items && texts.iter().all(|text| text.chars().count() <= chars) => texts,
            _ => {
                self.issue(field, format!("Expected at most {items} strings of at most {chars} characters"));
                vec![]
            }
        }
    }
}
