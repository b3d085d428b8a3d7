//! A document as JSON, whether it was written in YAML or JSON, and where in its text
//! everything stands.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::Spanned;
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use crate::fault::Fault;
use crate::json;
use crate::syntax::syntax_fault;

/// Largest document, in bytes.
pub const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// Deepest nesting of a document.
pub const DEPTH_MAX: usize = 48;
/// Longest chain of `$ref`s that is followed.
const REFERENCES_MAX: usize = 32;
/// Most events that YAML aliases may repeat.
const ALIAS_EVENTS_MAX: usize = 100_000;

/// A document that was read.
#[derive(Debug)]
pub(crate) struct Document {
    pub(crate) root: Value,
    /// Line and column by JSON pointer; empty when only the value could be read.
    places: HashMap<String, (u32, u32)>,
}

impl Document {
    /// Reads YAML or JSON.
    ///
    /// # Errors
    /// It is neither, a key stands twice, or a limit is passed.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, Fault> {
        let whole = |line, column, message: String| Fault {
            line,
            column,
            pointer: String::new(),
            message,
            suggestion: None,
        };
        if bytes.len() > DOCUMENT_BYTES_MAX {
            let message =
                format!("the document has {} bytes, the limit is {DOCUMENT_BYTES_MAX}", bytes.len());
            return Err(whole(0, 0, message));
        }
        let text =
            std::str::from_utf8(bytes).map_err(|_| whole(0, 0, "the document is not UTF-8 text".into()))?;
        let yaml = parse(text);
        if text.trim_start().starts_with('{') {
            let root = json::read(bytes, json::Numbers::Rounded).map_err(|(why, line, column)| {
                let place = |number| u32::try_from(number).unwrap_or(0);
                let what = match why {
                    json::NotJson::DuplicateKey => "a key stands twice in one object".to_owned(),
                    json::NotJson::TooDeep => format!("nested deeper than {}", json::DEPTH_MAX),
                    json::NotJson::Inexact => "a number is not what a double holds".to_owned(),
                    json::NotJson::Syntax => "this is not JSON".to_owned(),
                };
                whole(place(line), place(column), what)
            })?;
            let places = yaml.map(|raw| raw.settle().1).unwrap_or_default();
            return Ok(Self { root, places });
        }
        let (root, places) = yaml.map_err(|(line, column, what)| whole(line, column, what))?.settle();
        Ok(Self { root, places })
    }

    /// A fault at a place; the place is looked for as deep as it exists.
    pub(crate) fn fault(&self, pointer: &str, message: impl Into<String>) -> Fault {
        let mut at = pointer;
        let (line, column) = loop {
            if let Some(place) = self.places.get(at) {
                break *place;
            }
            match at.rfind('/') {
                Some(slash) => at = at.get(..slash).unwrap_or_default(),
                None => break (0, 0),
            }
        };
        Fault { line, column, pointer: pointer.to_owned(), message: message.into(), suggestion: None }
    }

    /// The same with what to do about it.
    pub(crate) fn advise(&self, pointer: &str, message: impl Into<String>, what: impl Into<String>) -> Fault {
        Fault { suggestion: Some(what.into()), ..self.fault(pointer, message) }
    }

    /// Follows `$ref` from a place to what is meant, and where that stands.
    ///
    /// # Errors
    /// It names another document, nothing, or goes in a circle.
    pub(crate) fn follow(&self, pointer: &str) -> Result<(&Value, String), Fault> {
        let mut at = pointer.to_owned();
        for _ in 0..REFERENCES_MAX {
            let Some(value) = self.root.pointer(&at) else {
                return Err(self.fault(pointer, format!("$ref names {at:?}, which is not in this document")));
            };
            let Some(target) = value.get("$ref").and_then(Value::as_str) else { return Ok((value, at)) };
            at = self.local(&at, target)?;
        }
        Err(self.fault(pointer, format!("more than {REFERENCES_MAX} $ref in a row")))
    }

    /// The pointer that a local `$ref` holds.
    ///
    /// # Errors
    /// It names another document.
    pub(crate) fn local(&self, at: &str, target: &str) -> Result<String, Fault> {
        let local = target.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let local = local.and_then(|rest| crate::percent::decode(rest.as_bytes(), false));
        local.ok_or_else(|| {
            let message = format!("$ref {target:?} leads out of this document");
            self.advise(at, message, "nothing is fetched: bundle all into one document, and write #/…")
        })
    }
}

/// A pointer with one more step (RFC 6901 §3).
pub(crate) fn step(pointer: &str, key: &str) -> String {
    format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"))
}

fn parse(text: &str) -> Result<Spanned<Raw>, (u32, u32, String)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_documents: 1, max_nodes: 4_000_000, max_events: 8_000_000 },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIAS_EVENTS_MAX,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options::<Spanned<Raw>>(text, options)
        .map_err(|error| syntax_fault(&error, text))
}

fn number(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(0)
}

enum Raw {
    Plain(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

type Places = HashMap<String, (u32, u32)>;

trait Settle {
    fn settle(self) -> (Value, Places);
}

impl Settle for Spanned<Raw> {
    fn settle(self) -> (Value, Places) {
        let mut places = Places::new();
        let value = settle(self, String::new(), &mut places);
        (value, places)
    }
}

fn settle(raw: Spanned<Raw>, pointer: String, places: &mut Places) -> Value {
    let at = (number(raw.referenced.line()), number(raw.referenced.column()));
    places.entry(pointer.clone()).or_insert(at);
    match raw.value {
        Raw::Plain(value) => value,
        Raw::List(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(index, item)| settle(item, format!("{pointer}/{index}"), places)).collect()
        }
        Raw::Map(entries) => {
            let mut object = Map::new();
            for (key, value) in entries {
                let below = step(&pointer, &key.value);
                // A fault about a key points at the key.
                places
                    .insert(below.clone(), (number(key.referenced.line()), number(key.referenced.column())));
                object.insert(key.value, settle(value, below, places));
            }
            Value::Object(object)
        }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text, a number, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::from(value)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(Number::from_f64(value).map_or(Value::Null, Value::Number)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::from(value)))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::String(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = access.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}
