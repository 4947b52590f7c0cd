//! `HOLDFAST_LIMITS`: numbers for tests and demonstrations instead of the published ones.
//!
//! One form for the whole system, a section for each part: `{"session":{…},"container":{…},"town":{…},"sandbox":{…},"sandbox_town":{…}}`.
//! The Worker reads the first three and hands the text on to its containers as it is; `sandboxd session` reads `sandbox`, `sandboxd town` reads
//! `sandbox_town`, whose values are whole numbers over 0. What cannot work is refused by the part that would use it, and production has no overrides.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::collections::BTreeMap;
use std::num::NonZeroU64;

/// The variable.
pub const VARIABLE: &str = "HOLDFAST_LIMITS";

/// The sections: a misspelt one would silently change nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Section {
    /// Containers' lives: the Worker's.
    Container,
    /// `sandboxd session`.
    Sandbox,
    /// `sandboxd town`.
    SandboxTown,
    /// Session objects: the Worker's.
    Session,
    /// Town objects: the Worker's.
    Town,
}

/// The limits that `section` sets, the others as published; `var` reads the environment. The error says what is wrong.
pub fn limits<T: Default + DeserializeOwned>(
    section: Section,
    var: impl Fn(&str) -> Option<String>,
) -> Result<T, String> {
    let given = var(VARIABLE).filter(|_| var("ENVIRONMENT").as_deref() != Some("production"));
    let Some(text) = given.filter(|text| !text.is_empty()) else { return Ok(T::default()) };
    // What the other sections hold is for others to judge: a town's has a list among its numbers.
    let mut sections: BTreeMap<Section, BTreeMap<String, Value>> =
        serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let own = sections.remove(&section).into_iter().flatten().collect();
    let numbers: BTreeMap<String, NonZeroU64> =
        serde_json::from_value(Value::Object(own)).map_err(|error| error.to_string())?;
    let numbers = numbers.into_iter().map(|(name, number)| (name, Value::from(number.get()))).collect();
    serde_json::from_value(Value::Object(numbers)).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Limits {
        pause_ms: i64,
        bytes_max: usize,
    }

    impl Default for Limits {
        fn default() -> Self {
            Self { pause_ms: 1_000, bytes_max: 64 }
        }
    }

    fn read(text: &str, environment: &str) -> Result<Limits, String> {
        limits(Section::Sandbox, |name| match name {
            VARIABLE => Some(text.to_owned()),
            "ENVIRONMENT" => Some(environment.to_owned()),
            _ => None,
        })
    }

    #[test]
    fn a_section_sets_some_numbers_and_production_none() {
        let text =
            r#"{"sandbox":{"pause_ms":7},"session":{"hung_ms":60000},"town":{"dispatch_cooldown_ms":[1,2,3,4,5]}}"#;
        assert_eq!(read(text, "development"), Ok(Limits { pause_ms: 7, ..Limits::default() }));
        assert_eq!(read(text, "production"), Ok(Limits::default()));
        assert_eq!(read(r#"{"sandbox_town":{"pause_ms":7}}"#, "").unwrap(), Limits::default());
        assert_eq!(read("", "").unwrap(), Limits::default());
    }

    #[test]
    fn what_cannot_work_is_refused_and_named() {
        for (bad, words) in [
            ("fast", "expected"),
            (r#"{"pause_ms":7}"#, "unknown variant `pause_ms`"),
            (r#"{"sandbocks":{"pause_ms":7}}"#, "unknown variant `sandbocks`"),
            (r#"{"sandbox":{"paws_ms":7}}"#, "unknown field `paws_ms`"),
            (r#"{"sandbox":{"pause_ms":0}}"#, "nonzero"),
            (r#"{"sandbox":{"pause_ms":-1}}"#, "nonzero"),
            (r#"{"sandbox":{"pause_ms":"7"}}"#, "nonzero"),
        ] {
            let error = read(bad, "").unwrap_err();
            assert!(error.contains(words), "{bad}: {error}");
        }
    }
}
