//! JSON as only one reader could read it: a key stands once in an object, the text is
//! UTF-8 without a byte order mark, nothing follows the value. Before a whole body the mark
//! may stand: who reads such a body ignores it (RFC 8259 §8.1).

use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use crate::exact;

/// Deepest nesting of arrays and objects in a body.
pub const DEPTH_MAX: u8 = 64;

/// Why a text is not JSON that everybody reads alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NotJson {
    /// A key stands twice in an object.
    DuplicateKey,
    /// Nested deeper than [`DEPTH_MAX`].
    TooDeep,
    /// A number is not what a double holds.
    Inexact,
    /// No JSON.
    Syntax,
}

/// How numbers are read that are no integers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// Refused when a double does not hold what is written.
    Exact,
    /// As the double that comes near.
    Rounded,
}

impl NotJson {
    /// What stands in a violation in the place of a schema keyword.
    pub(crate) fn keyword(&self) -> &'static str {
        match self {
            Self::DuplicateKey => "duplicate key",
            Self::TooDeep => "nesting",
            Self::Inexact => "precision",
            Self::Syntax => "JSON",
        }
    }
}

/// Reads a body that is one JSON value.
///
/// # Errors
/// As [`read`].
pub(crate) fn read_body(text: &[u8], numbers: Numbers) -> Result<Value, (NotJson, usize, usize)> {
    read(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text), numbers)
}

/// Reads one JSON value.
///
/// # Errors
/// See [`NotJson`]; line and column from 1.
pub(crate) fn read(text: &[u8], numbers: Numbers) -> Result<Value, (NotJson, usize, usize)> {
    let doubles = match numbers {
        Numbers::Exact => exact::doubles(text).map(Some).map_err(|at| place(text, at))?,
        Numbers::Rounded => None,
    };
    let doubles = doubles.map(|doubles| RefCell::new(doubles.into_iter()));
    let why = Cell::new(None);
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let seed = Strict { why: &why, doubles: doubles.as_ref(), depth: DEPTH_MAX };
    let read = seed.deserialize(&mut deserializer).and_then(|value| deserializer.end().map(|()| value));
    read.map_err(|error| (why.take().unwrap_or(NotJson::Syntax), error.line(), error.column()))
}

/// A number that is not exact, and where: line and column from 1.
fn place(text: &[u8], at: usize) -> (NotJson, usize, usize) {
    let before = text.get(..at).unwrap_or_default();
    let line = before.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
    (NotJson::Inexact, line, column)
}

#[derive(Clone, Copy)]
struct Strict<'w> {
    why: &'w Cell<Option<NotJson>>,
    /// The doubles that are still to come; `None`: as they are read.
    doubles: Option<&'w RefCell<std::vec::IntoIter<f64>>>,
    /// Levels that are left.
    depth: u8,
}

impl Strict<'_> {
    fn refuse<E: Error>(self, why: NotJson) -> E {
        let error = E::custom(why.keyword());
        self.why.set(Some(why));
        error
    }

    fn deeper<E: Error>(self) -> Result<Self, E> {
        match self.depth.checked_sub(1) {
            Some(depth) => Ok(Self { depth, ..self }),
            None => Err(self.refuse(NotJson::TooDeep)),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        let value = match self.doubles {
            // The reader may be a unit off in the last place, the other reading is not.
            Some(doubles) => {
                let next = doubles.borrow_mut().next();
                let near = |next: &f64| (next - value).abs() <= value.abs() * 1e-9 + f64::MIN_POSITIVE;
                next.filter(near).ok_or_else(|| self.refuse(NotJson::Inexact))?
            }
            None => value,
        };
        Number::from_f64(value).map(Value::Number).ok_or_else(|| self.refuse(NotJson::Syntax))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::from(value))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(below)? {
            items.push(item);
        }
        // The least room of a list is that of four values.
        items.shrink_to_fit();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let below = self.deeper()?;
        let mut object = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            if object.contains_key(&key) {
                return Err(self.refuse(NotJson::DuplicateKey));
            }
            object.insert(key, access.next_value_seed(below)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(text: &str) -> Option<NotJson> {
        read(text.as_bytes(), Numbers::Exact).err().map(|(why, ..)| why)
    }

    #[test]
    fn a_key_stands_once() {
        assert_eq!(why(r#"{"a":1,"a":2}"#), Some(NotJson::DuplicateKey));
        assert_eq!(why(r#"[{"b":{"a":1,"\u0061":2}}]"#), Some(NotJson::DuplicateKey));
        assert_eq!(why(r#"{"a":1,"A":2,"b":{"a":3}}"#), None);
    }

    #[test]
    fn nesting_has_a_limit() {
        let nested = |depth: u8| "[".repeat(depth.into()) + &"]".repeat(depth.into());
        assert_eq!(why(&nested(DEPTH_MAX)), None);
        assert_eq!(why(&nested(DEPTH_MAX + 1)), Some(NotJson::TooDeep));
    }

    #[test]
    fn one_byte_order_mark_may_stand_before_a_body() {
        let why = |text: &str| read_body(text.as_bytes(), Numbers::Exact).err().map(|(why, ..)| why);
        assert_eq!(why("\u{feff}{\"a\":1}"), None);
        assert_eq!(why("\u{feff}{\"a\":1,\"a\":2}"), Some(NotJson::DuplicateKey));
        for wrong in
            ["\u{feff}", "\u{feff}\u{feff}{}", " \u{feff}{}", "{\u{feff}}", "{}\u{feff}", "\u{fffe}{}"]
        {
            assert_eq!(why(wrong), Some(NotJson::Syntax), "{wrong:?}");
        }
    }

    #[test]
    fn only_json_is_json() {
        for wrong in
            ["", " ", "{", "{}x", "\u{feff}{}", "01", "NaN", "1e999", "'a'", "[1,]", "{a:1}", "\"\\ud800\""]
        {
            assert_eq!(why(wrong), Some(NotJson::Syntax), "{wrong:?}");
        }
        assert!(read(b"\"\xff\"", Numbers::Exact).is_err());
        for good in ["0", " {} ", "-1.5e3", "\"\\ud83d\\ude00\"", "null"] {
            assert_eq!(why(good), None, "{good:?}");
        }
    }
}
