//! Strict base64url and strict JSON: one text, one meaning.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// DER as PEM (RFC 7468 §2), 64 characters to the line.
pub fn encode_pem(label: &str, der: &[u8]) -> String {
    let text = encode_base64(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
        pem.push_str(line);
        pem.push('\n');
        rest = more;
    }
    pem.push_str(&format!("-----END {label}-----\n"));
    pem
}

/// Base64url without padding (RFC 7515 §2). Refuses padding, white space, the
/// standard alphabet and bits that would be thrown away.
pub fn decode_base64url(text: &[u8]) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

/// Base64 with padding (RFC 4648 §4).
pub fn encode_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// The same, read strictly.
pub fn decode_base64(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Base64url without padding.
pub fn encode_base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The same, behind what is there.
pub(crate) fn push_base64url(text: &mut String, bytes: &[u8]) {
    URL_SAFE_NO_PAD.encode_string(bytes, text);
}

/// A JSON object in which no object, at any depth, has two members of one name
/// (RFC 7515 §4, RFC 7519 §4), nested at most 128 deep (`serde_json`'s limit), with
/// nothing behind it.
///
/// # Errors
/// What is wrong with the text, and where.
pub fn parse_object(text: &[u8]) -> Result<Map<String, Value>, serde_json::Error> {
    let mut parser = serde_json::Deserializer::from_slice(text);
    let value = Strict.deserialize(&mut parser)?;
    parser.end()?;
    match value {
        Value::Object(members) => Ok(members),
        _ => Err(serde_json::Error::custom("expected an object")),
    }
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without duplicate members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number out of range"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(Strict)?;
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("two members are named {name:?}")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// The text that a claim is.
///
/// # Errors
/// It is missing or something else: says so.
pub fn text_of<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<&'a str, String> {
    claims.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` is missing or not a text"))
}

/// A value from outside, made safe for a log line: escaped, at most 64 characters.
pub fn quote(text: &str) -> String {
    let mut quoted: String = text.chars().take(64).collect::<String>().escape_debug().collect();
    if text.chars().nth(64).is_some() {
        quoted.push('…');
    }
    quoted
}

/// Lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64url_has_one_spelling_for_each_value() {
        assert_eq!(decode_base64url(b"Zm9v"), Some(b"foo".to_vec()));
        assert_eq!(decode_base64url(b"Zm8"), Some(b"fo".to_vec()));
        assert_eq!(decode_base64url(b""), Some(Vec::new()));
        // Padding, unused bits set, standard alphabet, white space, impossible length.
        for wrong in ["Zm8=", "Zm9", "-_+/", "Zm 9v", "Zm9v\n", "Z", "Zm9v?"] {
            assert_eq!(decode_base64url(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn json_with_two_meanings_is_refused() {
        for honest in [r#"{"a":1,"b":{"a":[1.5,-2,null,true,"x"]}}"#, "{}", " {\"a\" : \"\\u0061\"}\n"] {
            assert!(parse_object(honest.as_bytes()).is_ok(), "{honest}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(200), "]".repeat(200));
        for wrong in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":2}}"#,
            r#"[{"a":1}]"#,
            r#"{"a":1}{}"#,
            r#"{"a":1} x"#,
            r#"{"a":1e999}"#,
            r#"{"a":NaN}"#,
            r#"{"a":"\ud800"}"#,
            "",
            deep.as_str(),
        ] {
            assert!(parse_object(wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(parse_object(b"{\"a\":\"\xff\"}").is_err());
    }

    #[test]
    fn quoted_text_cannot_break_a_log_line() {
        assert_eq!(quote("a\nb\0\u{202e}"), "a\\nb\\0\\u{202e}");
        assert_eq!(quote(&"x".repeat(64)).chars().count(), 64);
        assert_eq!(quote(&"x".repeat(65)).chars().count(), 65);
        assert!(quote(&"x".repeat(65)).ends_with('…'));
    }
}
