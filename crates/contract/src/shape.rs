//! What a schema says about the kind of its values: enough to read texts as values.

use serde_json::Value;

use crate::document::{Document, step};
use crate::form::reads_as;

/// Deepest that a shape is looked for.
const DEPTH_MAX: usize = 8;

/// Kinds of values, as a set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    pub(crate) const NULL: Self = Self(1);
    pub(crate) const BOOLEAN: Self = Self(2);
    pub(crate) const INTEGER: Self = Self(4);
    pub(crate) const NUMBER: Self = Self(8);
    pub(crate) const STRING: Self = Self(16);
    pub(crate) const ARRAY: Self = Self(32);
    pub(crate) const OBJECT: Self = Self(64);

    pub(crate) const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether a value that is no list and no map can be meant.
    pub(crate) const fn has_primitive(self) -> bool {
        self.0 == 0 || self.0 & 31 != 0
    }

    fn named(name: &str) -> Self {
        match name {
            "null" => Self::NULL,
            "boolean" => Self::BOOLEAN,
            "integer" => Self::INTEGER,
            "number" => Self::NUMBER,
            "string" => Self::STRING,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::default(),
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(number) if number.is_f64() => Self::NUMBER,
            Value::Number(_) => Self::INTEGER,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }
}

/// What a schema says about the kind of its values. An empty set of kinds: anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Shape {
    pub(crate) kinds: Kinds,
    /// Of the items of a list.
    pub(crate) items: Option<Box<Shape>>,
    /// Of the properties of a map.
    pub(crate) properties: Vec<(String, Shape)>,
    /// Of other properties; `None` when there can be none.
    pub(crate) additional: Option<Box<Shape>>,
    /// Whether it is bytes that no schema can look into.
    pub(crate) binary: bool,
}

impl Shape {
    /// The shape of the schema at a place.
    pub(crate) fn of(document: &Document, at: &str) -> Self {
        shape(document, at, DEPTH_MAX)
    }

    pub(crate) fn item(&self) -> Self {
        self.items.as_deref().cloned().unwrap_or_default()
    }

    pub(crate) fn property(&self, name: &str) -> Option<&Self> {
        self.properties.iter().find(|(known, _)| known == name).map(|(_, shape)| shape)
    }

    /// Whether some reader of forms takes another name for that of one of its properties.
    pub(crate) fn is_mistaken(&self, name: &str) -> bool {
        self.properties.iter().any(|(declared, _)| reads_as(name, declared))
    }

    /// The shape of a property, declared or not.
    pub(crate) fn property_or_other(&self, name: &str) -> Self {
        self.property(name).or(self.additional.as_deref()).cloned().unwrap_or_default()
    }

    fn merge(&mut self, other: Self) {
        for (name, shape) in other.properties {
            if self.property(&name).is_none() {
                self.properties.push((name, shape));
            }
        }
        self.items = self.items.take().or(other.items);
        self.additional = self.additional.take().or(other.additional);
        self.binary |= other.binary;
    }
}

fn shape(document: &Document, at: &str, left: usize) -> Shape {
    let anything = || Shape { additional: Some(Box::default()), ..Shape::default() };
    let (Some(left), Ok((schema, at))) = (left.checked_sub(1), document.follow(at)) else {
        return anything();
    };
    let Value::Object(_) = schema else { return anything() };
    let below = |keyword: &str| shape(document, &step(&at, keyword), left);
    let mut found = Shape {
        kinds: kinds(schema),
        items: schema.get("items").map(|_| Box::new(below("items"))),
        properties: Vec::new(),
        additional: match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => None,
            Some(Value::Object(_)) => Some(Box::new(below("additionalProperties"))),
            _ => Some(Box::default()),
        },
        binary: schema.get("format").and_then(Value::as_str) == Some("binary"),
    };
    if let Some(Value::Object(properties)) = schema.get("properties") {
        let place = format!("{at}/properties");
        found.properties = properties
            .keys()
            .map(|name| (name.clone(), shape(document, &step(&place, name), left)))
            .collect();
        if found.kinds.is_empty() {
            found.kinds = Kinds::OBJECT;
        }
    }
    if schema.get("nullable") == Some(&Value::Bool(true)) && !found.kinds.is_empty() {
        found.kinds = found.kinds.and(Kinds::NULL);
    }
    for (keyword, all) in [("allOf", true), ("anyOf", false), ("oneOf", false)] {
        let Some(Value::Array(list)) = schema.get(keyword) else { continue };
        let mut union = Kinds::default();
        for index in 0..list.len() {
            let part = shape(document, &format!("{at}/{keyword}/{index}"), left);
            match all {
                true if found.kinds.is_empty() => found.kinds = part.kinds,
                true => {}
                false => union = union.and(part.kinds),
            }
            found.merge(part);
        }
        if found.kinds.is_empty() {
            found.kinds = union;
        }
    }
    found
}

fn kinds(schema: &Value) -> Kinds {
    match schema.get("type") {
        Some(Value::String(name)) => Kinds::named(name),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .fold(Kinds::default(), |kinds, name| kinds.and(Kinds::named(name))),
        _ => match (schema.get("const"), schema.get("enum")) {
            (Some(value), _) => Kinds::of(value),
            (None, Some(Value::Array(values))) => {
                values.iter().fold(Kinds::default(), |kinds, value| kinds.and(Kinds::of(value)))
            }
            _ => Kinds::default(),
        },
    }
}
