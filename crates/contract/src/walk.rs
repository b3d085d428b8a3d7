//! Where schemas stand in an OpenAPI document, and where further schemas stand in one.

use serde_json::Value;

use crate::document::step;

/// Methods of a path item, as it writes them.
pub(crate) const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

/// Pointers to every schema that an OpenAPI document holds, subschemas apart.
pub(crate) fn schemas(root: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut walk = Walk { root, found: &mut found };
    walk.each("/components/schemas", |walk, at| walk.found.push(at));
    walk.each("/components/parameters", Walk::parameter);
    walk.each("/components/headers", Walk::parameter);
    walk.each("/components/requestBodies", Walk::content_of);
    walk.each("/components/responses", Walk::response);
    walk.each("/components/pathItems", Walk::path_item);
    walk.each("/paths", Walk::path_item);
    found
}

struct Walk<'d> {
    root: &'d Value,
    found: &'d mut Vec<String>,
}

impl Walk<'_> {
    /// Every entry of the map or list at a place, references apart.
    fn each(&mut self, at: &str, visit: impl Fn(&mut Self, String)) {
        let keys: Vec<String> = match self.root.pointer(at) {
            Some(Value::Object(map)) => map.keys().map(|key| step(at, key)).collect(),
            Some(Value::Array(list)) => (0..list.len()).map(|index| format!("{at}/{index}")).collect(),
            _ => Vec::new(),
        };
        for below in keys {
            if self
                .root
                .pointer(&below)
                .is_some_and(|value| value.get("$ref").is_none() || at.ends_with("/schemas"))
            {
                visit(self, below);
            }
        }
    }

    fn path_item(&mut self, at: String) {
        self.each(&format!("{at}/parameters"), Self::parameter);
        for method in METHODS {
            let operation = format!("{at}/{method}");
            self.each(&format!("{operation}/parameters"), Self::parameter);
            self.content_of(format!("{operation}/requestBody"));
            self.each(&format!("{operation}/responses"), Self::response);
        }
    }

    fn parameter(&mut self, at: String) {
        self.schema(format!("{at}/schema"));
        self.content_of(at);
    }

    fn response(&mut self, at: String) {
        self.each(&format!("{at}/headers"), Self::parameter);
        self.content_of(at);
    }

    fn content_of(&mut self, at: String) {
        self.each(&format!("{at}/content"), |walk, media| walk.schema(format!("{media}/schema")));
    }

    fn schema(&mut self, at: String) {
        if self.root.pointer(&at).is_some() {
            self.found.push(at);
        }
    }
}

/// How a keyword holds further schemas.
#[derive(Clone, Copy)]
enum Holds {
    One,
    List,
    Named,
}

/// Keywords that hold schemas, and whether these judge the same value.
const APPLICATORS: &[(&str, Holds, bool)] = &[
    ("allOf", Holds::List, true),
    ("anyOf", Holds::List, true),
    ("oneOf", Holds::List, true),
    ("not", Holds::One, true),
    ("if", Holds::One, true),
    ("then", Holds::One, true),
    ("else", Holds::One, true),
    ("dependentSchemas", Holds::Named, true),
    // Lists of names stand there too, which hold no schema.
    ("dependencies", Holds::Named, true),
    ("properties", Holds::Named, false),
    ("patternProperties", Holds::Named, false),
    ("additionalProperties", Holds::One, false),
    ("propertyNames", Holds::One, false),
    ("unevaluatedProperties", Holds::One, false),
    ("items", Holds::One, false),
    ("additionalItems", Holds::One, false),
    ("prefixItems", Holds::List, false),
    ("unevaluatedItems", Holds::One, false),
    ("contains", Holds::One, false),
    ("$defs", Holds::Named, false),
    ("definitions", Holds::Named, false),
];

/// The schemas directly in a schema: their pointers, and whether they judge the same
/// value as it.
pub(crate) fn subschemas(schema: &Value, at: &str) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    for (keyword, holds, in_place) in APPLICATORS {
        let below = format!("{at}/{keyword}");
        match (schema.get(keyword), holds) {
            (Some(Value::Object(map)), Holds::Named) => {
                found.extend(map.keys().map(|key| (step(&below, key), *in_place)));
            }
            (Some(Value::Array(list)), _) => {
                found.extend((0..list.len()).map(|index| (format!("{below}/{index}"), *in_place)));
            }
            (Some(Value::Object(_) | Value::Bool(_)), Holds::One) => found.push((below, *in_place)),
            _ => {}
        }
    }
    found
}
