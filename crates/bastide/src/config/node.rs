//! YAML as a tree in which every key and every value knows where it was written.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};
use serde_saphyr::{Location, Spanned};

/// Largest configuration file, in bytes.
pub(crate) const FILE_BYTES_MAX: usize = 16 << 20;
/// Deepest nesting of lists and maps.
const DEPTH_MAX: usize = 32;
/// Most events that aliases may repeat: a guard against alias bombs.
const ALIAS_EVENTS_MAX: usize = 100_000;

/// Where something was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct At {
    /// Number of the file.
    pub(crate) file: u32,
    /// Line, from 1.
    pub(crate) line: u32,
    /// Column in characters, from 1.
    pub(crate) column: u32,
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// Where.
    pub(crate) at: At,
    /// What.
    pub(crate) value: Value,
}

/// A value. Scalars stay text: what they mean is decided by the key that they stand
/// under, so `1.2`, `"1.2"` and `${VERSION}` are the same thing.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    /// Nothing was written.
    Nothing,
    /// A text that could not be expanded. The fault is recorded; no other follows.
    Broken,
    /// A text.
    Scalar(Scalar),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file, duplicates included.
    Map(Vec<(Name, Node)>),
}

/// A text, and how it looked before `${…}` was expanded.
#[derive(Clone, Debug)]
pub(crate) struct Scalar {
    /// The text.
    pub(crate) text: String,
    /// Before expansion, when that differs. Faults show this: the expanded text can
    /// be a secret.
    pub(crate) written: Option<String>,
}

/// A key of a map.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    /// File, line and column of the key.
    pub(crate) at: At,
    /// The key, unquoted.
    pub(crate) text: String,
}

/// Why a text is not a YAML document: line, column, what.
pub(crate) type SyntaxFault = (u32, u32, String);

/// Parses one document.
///
/// # Errors
/// The text is not one YAML document, or goes past a limit.
pub(crate) fn parse(file: u32, source: &str) -> Result<Node, SyntaxFault> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_depth: DEPTH_MAX, max_documents: 1, max_nodes: 4_000_000, max_events: 8_000_000 },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: ALIAS_EVENTS_MAX,
            max_replay_stack_depth: 16,
        },
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    match serde_saphyr::from_str_with_options::<Spanned<Raw>>(source, options) {
        Ok(raw) => Ok(raw.settle(file, source)),
        Err(error) => Err(contract::syntax_fault(&error, source)),
    }
}

fn position(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// What the parser delivers, before positions are attached to a file.
enum Raw {
    Nothing,
    Text(String),
    /// A plain scalar that YAML takes for a number or truth value: how it was written
    /// is in the source, this is only what stands in when that cannot be found.
    Typed(String),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

trait Settle {
    fn settle(self, file: u32, source: &str) -> Node;
}

impl Settle for Spanned<Raw> {
    fn settle(self, file: u32, source: &str) -> Node {
        let value = match self.value {
            Raw::Nothing => Value::Nothing,
            Raw::Text(text) => Value::Scalar(Scalar { text, written: None }),
            Raw::Typed(text) => {
                let text = written(source, self.defined).unwrap_or(text);
                Value::Scalar(Scalar { text, written: None })
            }
            Raw::List(items) => {
                Value::List(items.into_iter().map(|item| item.settle(file, source)).collect())
            }
            Raw::Map(entries) => {
                let entries = entries.into_iter().map(|(key, value)| {
                    (Name { at: at(file, key.referenced), text: key.value }, value.settle(file, source))
                });
                Value::Map(entries.collect())
            }
        };
        Node { at: at(file, self.referenced), value }
    }
}

fn at(file: u32, location: Location) -> At {
    At { file, line: position(location.line()).max(1), column: position(location.column()).max(1) }
}

/// How a typed plain scalar was written: `1.20` and not `1.2`. Only a piece of the
/// source that looks like a number or a truth value counts.
fn written(source: &str, location: Location) -> Option<String> {
    let start = usize::try_from(location.span().byte_offset()?).ok()?;
    let length = usize::try_from(location.span().byte_len()?).ok()?;
    let text = source.get(start..start.checked_add(length)?)?.trim();
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._".contains(&b));
    plain.then(|| text.to_owned())
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
        f.write_str("a text, a list or a map")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Nothing)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Typed(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Text(value))
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

impl Node {
    /// What kind of thing it is, for faults.
    pub(crate) fn kind(&self) -> &'static str {
        match &self.value {
            Value::Nothing => "nothing",
            Value::Broken | Value::Scalar(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a map",
        }
    }

    /// The text, when it is one.
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Scalar(scalar) => Some(&scalar.text),
            _ => None,
        }
    }

    /// How it is shown in faults: as it was written, never expanded, never long.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Scalar(scalar) => {
                let text = scalar.written.as_ref().unwrap_or(&scalar.text);
                let short: String = text.chars().take(80).collect();
                let dots = if short.len() < text.len() { "…" } else { "" };
                format!("{:?}", format!("{short}{dots}"))
            }
            _ => self.kind().to_owned(),
        }
    }

    /// Whether it is a text in which something was expanded.
    pub(crate) fn expanded(&self) -> bool {
        matches!(&self.value, Value::Scalar(scalar) if scalar.written.is_some())
    }

    /// What stands under a key of a map.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let Value::Map(entries) = &self.value else { return None };
        entries.iter().find(|(name, _)| name.text == key).map(|(_, node)| node)
    }

    /// Whether it is a map with this key.
    pub(crate) fn has(&self, key: &str) -> bool {
        matches!(&self.value, Value::Map(entries) if entries.iter().any(|(name, _)| name.text == key))
    }

    /// Itself as a list: the items of a list, or the one thing that it is.
    pub(crate) fn items(&self) -> &[Node] {
        match &self.value {
            Value::List(items) => items,
            Value::Nothing => &[],
            Value::Broken | Value::Scalar(_) | Value::Map(_) => std::slice::from_ref(self),
        }
    }
}
