//! Keywords of schemas. One that nobody knows says something to people alone, as JSON Schema has
//! it (2020-12 core §6.5); one that is nearly a known one was meant to hold something.

use std::collections::HashSet;

use serde_json::Value;

use crate::document::{Document, step};
use crate::fault::Fault;
use crate::walk::subschemas;

/// Keywords that OpenAPI and JSON Schema know.
const KEYWORDS: &[&str] = &[
    "$comment",
    "$defs",
    "$ref",
    "$schema",
    "additionalItems",
    "additionalProperties",
    "allOf",
    "anyOf",
    "const",
    "contains",
    "contentEncoding",
    "contentMediaType",
    "contentSchema",
    "default",
    "definitions",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "deprecated",
    "description",
    "discriminator",
    "else",
    "enum",
    "example",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "externalDocs",
    "format",
    "if",
    "items",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "not",
    "nullable",
    "oneOf",
    "pattern",
    "patternProperties",
    "prefixItems",
    "properties",
    "propertyNames",
    "readOnly",
    "required",
    "then",
    "title",
    "type",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "writeOnly",
    "xml",
];

/// Keywords that change what a `$ref` means. In an OpenAPI document they would hide a schema from
/// the checks.
pub(crate) const OF_REFERENCES: &[&str] =
    &["$id", "$anchor", "$dynamicRef", "$dynamicAnchor", "$recursiveRef", "$recursiveAnchor", "$vocabulary"];

/// Words that are near a keyword and in use for people's own notes.
const HONEST: &[&str] = &["cost", "retired", "when"];

/// Names that are this long may have two typing errors, shorter ones one.
const LONG: usize = 8;

/// The name that another was probably meant to be. Narrower than [`model::suggestion::nearest`]:
/// what is found here is refused.
pub(crate) fn near<'k>(written: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let folded = |name: &str| name.replace(['_', '-'], "").to_ascii_lowercase();
    let found = folded(written);
    let letters = |name: &str| {
        let mut letters: Vec<char> = name.chars().collect();
        letters.sort_unstable();
        letters
    };
    let distances = known.into_iter().filter_map(|name| {
        let other = folded(name);
        let distance = strsim::damerau_levenshtein(&found, &other);
        let fits = match name.len() {
            // Of `not` and `if`, every other short word is one letter away.
            ..4 => distance == 0 || (distance == 1 && letters(&found) == letters(&other)),
            4..LONG => distance <= 1,
            _ => distance <= 2,
        };
        fits.then_some((distance, name))
    });
    distances.min_by_key(|(distance, _)| *distance).map(|(_, name)| name)
}

/// The keyword that this one was probably meant to be.
fn meant(key: &str) -> Option<&'static str> {
    let known = |list: &[&str]| list.contains(&key);
    if known(KEYWORDS) || known(OF_REFERENCES) || known(HONEST) || key.starts_with("x-") {
        return None;
    }
    near(key, KEYWORDS.iter().chain(OF_REFERENCES).copied())
}

/// What is misspelt in one schema, those within it apart.
pub(crate) fn misspelt(document: &Document, at: &str, schema: &Value, faults: &mut Vec<Fault>) {
    for key in schema.as_object().into_iter().flat_map(serde_json::Map::keys) {
        if let Some(meant) = meant(key) {
            let message = format!("unknown keyword {key:?}");
            faults.push(document.advise(&step(at, key), message, format!("did you mean {meant:?}?")));
        }
    }
}

/// The same for a schema that is a document of its own, with all that it consists of and
/// refers to.
pub(crate) fn misspelt_alone(document: &Document) -> Vec<Fault> {
    let mut faults = Vec::new();
    let mut waiting = vec![String::new()];
    let mut done = HashSet::new();
    while let Some(at) = waiting.pop() {
        let Some(schema) = document.root.pointer(&at).filter(|_| done.insert(at.clone())) else { continue };
        misspelt(document, &at, schema, &mut faults);
        waiting.extend(subschemas(schema, &at).into_iter().map(|(below, _)| below));
        // What leads elsewhere, or to an anchor, is for the compiler to judge.
        let target = schema.get("$ref").and_then(Value::as_str);
        waiting.extend(target.and_then(|target| document.local(&at, target).ok()));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typing_errors_are_told_from_words() {
        for (written, keyword) in [
            ("tpye", "type"),
            ("tyoe", "type"),
            ("Type", "type"),
            ("requierd", "required"),
            ("propertes", "properties"),
            ("min_length", "minLength"),
            ("maxlenght", "maxLength"),
            ("patern", "pattern"),
            ("enmu", "enum"),
            ("nto", "not"),
            ("ref", "$ref"),
            ("additonalProperites", "additionalProperties"),
        ] {
            assert_eq!(meant(written), Some(keyword), "{written}");
        }
        for honest in KEYWORDS.iter().chain(HONEST) {
            assert_eq!(meant(honest), None, "{honest}");
        }
        for honest in [
            "x-tpye",
            "id",
            "note",
            "name",
            "unit",
            "units",
            "label",
            "order",
            "group",
            "widget",
            "precision",
            "constraints",
            "enumNames",
            "markdownDescription",
            "errorMessage",
            "maxSize",
            "minHeight",
            "tsType",
            "javaType",
        ] {
            assert_eq!(meant(honest), None, "{honest}");
        }
    }
}
