use super::walker::string_stop;
use super::*;
use proptest::prelude::*;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

fn members(text: &str) -> Result<Vec<(&str, &str)>, Invalid> {
    let mut found = Vec::new();
    object(text, |key, value| {
        found.push((key, value.raw()?));
        Ok(())
    })?;
    Ok(found)
}

/// Whether `text` is one value, by walking it as an element.
fn is_value(text: &str) -> bool {
    let mut elements = 0;
    array(&format!("[{text}]"), |_| elements += 1).is_ok() && elements == 1
}

#[test]
fn members_are_handed_out_as_they_are_written() {
    let text = r#" { "a" : 1.50 ,"b\n":{"c":[ ]}, "d":"}\"" } "#;
    assert_eq!(members(text).unwrap(), [("a", "1.50"), ("b\\n", r#"{"c":[ ]}"#), ("d", r#""}\"""#)]);
    assert_eq!(members("{}").unwrap(), []);
}

#[test]
fn a_value_is_walked_or_skipped() {
    let mut found = Vec::new();
    object(r#"{"skipped":{"x":[{}]},"walked":{"y":2},"other":[3]}"#, |key, value| {
        if key != "skipped" {
            let raw = value.walk(|key, value| {
                found.push((key, value.raw()?));
                Ok(())
            })?;
            found.push((key, raw));
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(found, [("y", "2"), ("walked", r#"{"y":2}"#), ("other", "[3]")]);
}

#[test]
fn strings_are_read_with_their_escapes() {
    assert_eq!(text(r#""abc""#).as_deref(), Some("abc"));
    assert_eq!(text(r#""a\n\u00e9""#).as_deref(), Some("a\né"));
    assert_eq!((text("7"), text("\"")), (None, None));
}

#[test]
fn what_a_parser_refuses_is_refused() {
    for text in [
        "",
        "{",
        "}",
        "{]",
        "[}",
        "[1,]",
        "[,1]",
        "{\"a\"}",
        "{\"a\":}",
        "{a:1}",
        "{\"a\":1,}",
        "01",
        "1.",
        ".5",
        "-",
        "+1",
        "1e",
        "tru",
        "nul",
        "\"",
        "\"\\x\"",
        "\"\\u12g4\"",
        "\"\u{1}\"",
        "\"a\nb\"",
        "1 2",
        "[1 2]",
        "'a'",
        "NaN",
    ] {
        assert!(serde_json::from_str::<&RawValue>(text).is_err(), "{text}");
        assert!(!is_value(text), "{text}");
    }
    assert!(members("[]").is_err() && members("{} x").is_err() && array("{}", |_| {}).is_err());
}

#[test]
fn the_end_of_a_string_is_found_wherever_it_is() {
    for length in 0..80 {
        for stop in ['"', '\\'] {
            let text = format!("{}{stop}\"\\", "é".repeat(length / 2) + &"x".repeat(length % 2));
            assert_eq!(string_stop(text.as_bytes()), text.find(stop), "{text}");
        }
        assert_eq!(string_stop("x".repeat(length).as_bytes()), None);
    }
}

#[test]
fn nesting_has_a_bound() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(is_value(&nested(100)) && !is_value(&nested(1_000)));
}

fn any_text() -> impl Strategy<Value = String> {
    // Near JSON: pieces of it in any order.
    let pieces =
        ["{", "}", "[", "]", ",", ":", "\"a\"", "\"\\n\"", "\"", "\\", "1", "-0.5e+7", "true", "null", " ", "é"];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn what_is_taken_is_what_a_parser_takes(text in any_text()) {
        prop_assert_eq!(is_value(&text), serde_json::from_str::<&RawValue>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn members_are_those_that_a_parser_finds(value in prop::collection::btree_map("[a-z]{0,3}", any::<Option<f32>>(), 0..5)) {
        let text = serde_json::to_string(&value).unwrap();
        let parsed: BTreeMap<&str, &RawValue> = serde_json::from_str(&text).unwrap();
        let expected: Vec<(&str, &str)> = parsed.iter().map(|(key, value)| (*key, value.get())).collect();
        prop_assert_eq!(members(&text).unwrap(), expected);
    }
}
