//! Texts as values: what a parameter's schema says decides how its text is read.

use serde_json::Value;

use crate::json::{self, Numbers};
use crate::shape::{Kinds, Shape};

/// How a text is read that could be several things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Prefer {
    /// A number or truth value where the schema knows one.
    Typed,
    /// A text where the schema knows one.
    Text,
}

/// A text as a value. What the schema has no kind for stays a text, which then breaks it.
pub(crate) fn primitive(text: String, shape: &Shape, prefer: Prefer) -> Value {
    let kinds = shape.kinds;
    if kinds.is_empty() || (prefer == Prefer::Text && kinds.has(Kinds::STRING)) {
        return Value::String(text);
    }
    if kinds.has(Kinds::INTEGER.and(Kinds::NUMBER))
        && if kinds.has(Kinds::NUMBER) { is_number(&text) } else { is_integer(&text) }
        && let Ok(value @ Value::Number(_)) = json::read(text.as_bytes(), Numbers::Exact)
    {
        return value;
    }
    match text.as_str() {
        "true" if kinds.has(Kinds::BOOLEAN) => Value::Bool(true),
        "false" if kinds.has(Kinds::BOOLEAN) => Value::Bool(false),
        "null" if kinds.has(Kinds::NULL) && !kinds.has(Kinds::STRING) => Value::Null,
        _ => Value::String(text),
    }
}

/// An integer as every reader reads it: `1e1`, `3.0` and `-0` are integers to JSON Schema, and
/// something else to `parseInt`.
fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    match digits.strip_prefix('0') {
        Some(rest) => rest.is_empty() && digits.len() == text.len(),
        None => !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

/// A number as JSON writes it: no sign but minus, no leading zeros, no spaces.
fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && text.ends_with(|last: char| last.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str, kinds: Kinds) -> Value {
        primitive(text.to_owned(), &Shape { kinds, ..Shape::default() }, Prefer::Typed)
    }

    #[test]
    fn a_text_is_what_the_schema_knows_or_stays_a_text() {
        for (text, kinds, value) in [
            ("5", Kinds::INTEGER, json!(5)),
            ("-5", Kinds::INTEGER, json!(-5)),
            ("5", Kinds::STRING, json!("5")),
            ("5", Kinds::default(), json!("5")),
            ("05", Kinds::INTEGER, json!("05")),
            ("+5", Kinds::INTEGER, json!("+5")),
            (" 5", Kinds::INTEGER, json!(" 5")),
            ("5 ", Kinds::INTEGER, json!("5 ")),
            ("0x5", Kinds::INTEGER, json!("0x5")),
            ("0", Kinds::INTEGER, json!(0)),
            ("-10", Kinds::INTEGER, json!(-10)),
            ("1000e-2", Kinds::INTEGER, json!("1000e-2")),
            ("1e1", Kinds::INTEGER, json!("1e1")),
            ("0.3e1", Kinds::INTEGER, json!("0.3e1")),
            ("3.0", Kinds::INTEGER, json!("3.0")),
            ("-0", Kinds::INTEGER, json!("-0")),
            ("-", Kinds::INTEGER, json!("-")),
            ("3.0", Kinds::NUMBER.and(Kinds::INTEGER), json!(3.0)),
            ("5.00000000000000001", Kinds::NUMBER, json!("5.00000000000000001")),
            ("1e3", Kinds::NUMBER, json!(1000.0)),
            ("NaN", Kinds::NUMBER, json!("NaN")),
            ("true", Kinds::BOOLEAN, json!(true)),
            ("True", Kinds::BOOLEAN, json!("True")),
            ("1", Kinds::BOOLEAN, json!("1")),
            ("null", Kinds::NULL.and(Kinds::INTEGER), json!(null)),
            ("null", Kinds::NULL.and(Kinds::STRING), json!("null")),
            ("", Kinds::INTEGER, json!("")),
        ] {
            assert_eq!(read(text, kinds), value, "{text:?}");
        }
    }
}
