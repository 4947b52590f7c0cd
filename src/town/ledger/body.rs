//! Bodies and queries, read field by field: the first that is not as it should be is named.

use crate::http;
use crate::town::error::TownError;
use protocol::id::InvalidId;
use serde_json::Map;
use serde_json::Value;

/// The most entries of a list of ids or texts in a body.
const LIST_MAX: usize = 5_000;

/// A JSON object that somebody sent.
pub struct Body(Map<String, Value>);

impl Body {
    /// Reads a body.
    pub fn parse(bytes: &[u8]) -> Result<Self, TownError> {
        match http::parse(bytes) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            _ => Err(TownError::invalid("", "Expected a JSON object")),
        }
    }

    /// Reads a body that may be missing.
    pub fn optional(bytes: &[u8]) -> Result<Self, TownError> {
        if bytes.is_empty() { Ok(Self(Map::new())) } else { Self::parse(bytes) }
    }

    /// All of it.
    pub fn fields(self) -> Map<String, Value> {
        self.0
    }

    /// A field as it is; null is absent.
    pub fn value(&self, field: &str) -> Option<&Value> {
        self.0.get(field).filter(|value| !value.is_null())
    }

    /// Whether a field is there, be it null.
    pub fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// A text that may be missing.
    pub fn text_or_none(&self, field: &'static str) -> Result<Option<String>, TownError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(TownError::invalid(field, "Expected a text")),
        }
    }

    /// A text of at least one character.
    pub fn text(&self, field: &'static str) -> Result<String, TownError> {
        self.text_or_none(field)?
            .filter(|text| !text.is_empty())
            .ok_or_else(|| TownError::invalid(field, "Expected a text of at least 1 character"))
    }

    /// A text of 1 to `max` characters, without the spaces around it.
    pub fn short_text(&self, field: &'static str, max: usize) -> Result<String, TownError> {
        let text = self.text_or_none(field)?.unwrap_or_default().trim().to_owned();
        if (1..=max).contains(&text.chars().count()) {
            Ok(text)
        } else {
            Err(TownError::invalid(field, format!("Expected a text of 1 to {max} characters")))
        }
    }

    /// An identifier that may be missing.
    pub fn id_or_none<T>(
        &self,
        field: &'static str,
        parse: fn(&str) -> Result<T, InvalidId>,
    ) -> Result<Option<T>, TownError> {
        let text = self.text_or_none(field)?;
        text.map(|text| parse(&text).map_err(|error| TownError::invalid(field, error.message))).transpose()
    }

    /// An identifier.
    pub fn id<T>(&self, field: &'static str, parse: fn(&str) -> Result<T, InvalidId>) -> Result<T, TownError> {
        self.id_or_none(field, parse)?.ok_or_else(|| TownError::invalid(field, "Expected an id"))
    }

    /// Identifiers; an absent list is empty.
    pub fn ids<T>(&self, field: &'static str, parse: fn(&str) -> Result<T, InvalidId>) -> Result<Vec<T>, TownError> {
        let ids = self.texts(field)?;
        ids.iter().map(|id| parse(id).map_err(|error| TownError::invalid(field, error.message))).collect()
    }

    /// A word of a set that may be missing.
    pub fn word_or_none<T>(
        &self,
        field: &'static str,
        parse: fn(&str) -> Option<T>,
        words: &[&str],
    ) -> Result<Option<T>, TownError> {
        let Some(word) = self.text_or_none(field)? else { return Ok(None) };
        match parse(&word) {
            Some(known) => Ok(Some(known)),
            None => Err(TownError::invalid(field, format!("Expected one of: {}", words.join(", ")))),
        }
    }

    /// A word of a set.
    pub fn word<T>(&self, field: &'static str, parse: fn(&str) -> Option<T>, words: &[&str]) -> Result<T, TownError> {
        let missing = || TownError::invalid(field, format!("Expected one of: {}", words.join(", ")));
        self.word_or_none(field, parse, words)?.ok_or_else(missing)
    }

    /// A list, with at most [`LIST_MAX`] entries; an absent one is empty.
    pub fn list(&self, field: &'static str) -> Result<&[Value], TownError> {
        match self.value(field) {
            None => Ok(&[]),
            Some(Value::Array(list)) if list.len() <= LIST_MAX => Ok(list),
            Some(_) => Err(TownError::invalid(field, format!("Expected a list of at most {LIST_MAX} entries"))),
        }
    }

    /// Texts; an absent list is empty.
    pub fn texts(&self, field: &'static str) -> Result<Vec<String>, TownError> {
        let wrong = || TownError::invalid(field, "Expected a list of texts");
        self.list(field)?.iter().map(|entry| entry.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
    }

    /// Objects; an absent list is empty.
    pub fn objects(&self, field: &'static str) -> Result<Vec<Body>, TownError> {
        let wrong = || TownError::invalid(field, "Expected a list of objects");
        self.list(field)?.iter().map(|entry| entry.as_object().cloned().map(Body).ok_or_else(wrong)).collect()
    }

    /// An object; an absent one is empty.
    pub fn object(&self, field: &'static str) -> Result<Map<String, Value>, TownError> {
        match self.value(field) {
            None => Ok(Map::new()),
            Some(Value::Object(fields)) => Ok(fields.clone()),
            Some(_) => Err(TownError::invalid(field, "Expected an object")),
        }
    }

    /// Yes or no; may be missing.
    pub fn flag(&self, field: &'static str) -> Result<Option<bool>, TownError> {
        match self.value(field) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(TownError::invalid(field, "Expected true or false")),
        }
    }
}

/// What stands behind the `?` of a path.
pub struct Query(pub Vec<(String, String)>);

impl Query {
    /// A parameter.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// A number that is not negative.
    pub fn number(&self, name: &str, default: i64, refusal: &'static str) -> Result<i64, TownError> {
        match self.get(name).map(str::parse::<i64>) {
            None => Ok(default),
            Some(Ok(number)) if number >= 0 => Ok(number),
            Some(_) => Err(TownError::BadRequest(refusal)),
        }
    }

    /// A word of a set.
    pub fn word<T>(
        &self,
        name: &str,
        parse: fn(&str) -> Option<T>,
        refusal: &'static str,
    ) -> Result<Option<T>, TownError> {
        self.get(name).map(|word| parse(word).ok_or(TownError::BadRequest(refusal))).transpose()
    }

    /// An identifier.
    pub fn id<T>(&self, name: &str, parse: fn(&str) -> Result<T, InvalidId>) -> Result<Option<T>, TownError> {
        Ok(self.get(name).map(parse).transpose()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use protocol::id::BeadId;
    use protocol::town::bead::Priority;
    use serde_json::json;

    fn body(value: Value) -> Body {
        Body::parse(value.to_string().as_bytes()).unwrap()
    }

    /// The field and the message of a refusal.
    fn issue<T>(result: Result<T, TownError>) -> (&'static str, String) {
        match result.map(drop) {
            Err(TownError::Invalid { field, message }) => (field, message),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_body_is_an_object_and_only_an_optional_one_may_be_missing() {
        for bad in ["", "[]", "null", "{", "7"] {
            assert_eq!(issue(Body::parse(bad.as_bytes())), ("", "Expected a JSON object".into()), "{bad}");
        }
        assert!(Body::optional(b"").is_ok() && Body::optional(b"[]").is_err());
    }

    #[test]
    fn null_is_absent_and_what_has_another_type_is_named() {
        let body = body(json!({"a": null, "n": 7, "e": "", "w": "low", "x": "lowest", "l": ["b", 7]}));
        assert_eq!(body.text_or_none("a").unwrap(), None);
        assert!(body.has("a") && body.value("a").is_none());
        assert_eq!(issue(body.text("n")), ("n", "Expected a text".into()));
        assert_eq!(issue(body.text("e")).0, "e");
        assert_eq!(body.word("w", Priority::parse, Priority::WORDS).unwrap(), Priority::Low);
        let words = "Expected one of: low, medium, high, critical";
        assert_eq!(issue(body.word("x", Priority::parse, Priority::WORDS)), ("x", words.into()));
        assert_eq!(issue(body.texts("l")), ("l", "Expected a list of texts".into()));
        assert_eq!(issue(body.id("e", BeadId::parse)).0, "e");
        assert_eq!(issue(body.flag("n")), ("n", "Expected true or false".into()));
        assert!(body.object("missing").unwrap().is_empty() && body.list("missing").unwrap().is_empty());
    }

    #[test]
    fn short_texts_are_trimmed_before_they_are_counted() {
        let body = body(json!({"t": "  12345 ", "e": "   "}));
        assert_eq!(body.short_text("t", 5).unwrap(), "12345");
        assert_eq!(issue(body.short_text("t", 4)), ("t", "Expected a text of 1 to 4 characters".into()));
        assert_eq!(issue(body.short_text("e", 4)).0, "e");
    }

    #[test]
    fn numbers_of_a_query_are_not_negative() {
        let query = Query(vec![("limit".into(), "7".into()), ("offset".into(), "-1".into()), ("x".into(), "y".into())]);
        assert_eq!(query.number("limit", 100, "no").unwrap(), 7);
        assert_eq!(query.number("none", 100, "no").unwrap(), 100);
        for bad in ["offset", "x"] {
            assert_eq!(query.number(bad, 1, "no").unwrap_err().to_string(), "no");
        }
    }
}
