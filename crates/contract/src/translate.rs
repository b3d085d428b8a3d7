//! Schemas of OpenAPI as JSON Schema: what the two mean differently is written out, and
//! what cannot be held is refused.
//!
//! OpenAPI 3.0 schemas become draft 4 (`nullable` is written out as a type), 3.1 schemas
//! are draft 2020-12. In both, `format: int32` and `int64` become bounds, and a property
//! that is `readOnly` may not stand in a request nor `writeOnly` in a response, where
//! it is not required either (OpenAPI 3.0.4 §4.7.24).

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::document::{Document, step};
use crate::fault::Fault;
use crate::keywords::{OF_REFERENCES, misspelt};
use crate::walk::subschemas;

/// What schemas are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OpenAPI 3.0.
    OpenApi30,
    /// OpenAPI 3.1.
    OpenApi31,
}

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// To the service.
    Request,
    /// From it.
    Response,
}

/// Everything in a schema that cannot be held.
pub(crate) fn faults(document: &Document, at: &str, dialect: Dialect, faults: &mut Vec<Fault>) {
    let Some(schema) = document.root.pointer(at) else { return };
    let keys = schema.as_object().into_iter().flat_map(serde_json::Map::keys);
    for key in keys.filter(|key| OF_REFERENCES.contains(&key.as_str())) {
        let message = format!("{key} is not supported in an OpenAPI document");
        faults.push(document.advise(&step(at, key), message, "write $ref: '#/components/schemas/…'"));
    }
    misspelt(document, at, schema, faults);
    if dialect == Dialect::OpenApi30 && schema.get("type").is_some_and(Value::is_array) {
        let message = "a list of types is OpenAPI 3.1";
        faults.push(document.advise(&step(at, "type"), message, "write one type, and nullable: true"));
    }
    if schema.get("$ref").is_some() {
        if let Err(fault) = document.follow(at) {
            faults.push(fault);
        }
        if dialect == Dialect::OpenApi30 {
            return;
        }
    }
    for (below, _) in subschemas(schema, at) {
        self::faults(document, &below, dialect, faults);
    }
}

/// Longest chain of schemas that judge the same value.
const CHAIN_MAX: usize = 64;

/// Refuses schemas that come back to themselves without looking deeper into the value:
/// to judge one would never end.
pub(crate) fn circles(document: &Document, at: &str, done: &mut HashSet<String>, faults: &mut Vec<Fault>) {
    let mut waiting = vec![at.to_owned()];
    while let Some(at) = waiting.pop() {
        circle(document, &at, &mut Vec::new(), done, &mut waiting, faults);
    }
}

fn circle(
    document: &Document,
    at: &str,
    within: &mut Vec<String>,
    done: &mut HashSet<String>,
    waiting: &mut Vec<String>,
    faults: &mut Vec<Fault>,
) {
    if within.iter().any(|known| known == at) {
        faults.push(
            document.fault(at, "this schema comes back to itself without looking deeper into the value"),
        );
        return;
    }
    if within.len() >= CHAIN_MAX {
        faults.push(document.fault(at, format!("more than {CHAIN_MAX} schemas judge the same value")));
        return;
    }
    if !done.insert(at.to_owned()) {
        return;
    }
    let Some(schema) = document.root.pointer(at) else { return };
    within.push(at.to_owned());
    if let Some(target) = schema.get("$ref").and_then(Value::as_str)
        && let Ok(target) = document.local(at, target)
    {
        circle(document, &target, within, done, waiting, faults);
    }
    for (below, in_place) in subschemas(schema, at) {
        if in_place {
            circle(document, &below, within, done, waiting, faults);
        } else {
            waiting.push(below);
        }
    }
    within.pop();
}

/// Writes out one schema of `target`, which began as a copy of the document.
pub(crate) fn translate(document: &Document, target: &mut Value, at: &str, dialect: Dialect, way: Direction) {
    let Some(original) = document.root.pointer(at) else { return };
    for (below, _) in subschemas(original, at) {
        translate(document, target, &below, dialect, way);
    }
    let Some(Value::Object(schema)) = target.pointer_mut(at) else { return };
    if dialect == Dialect::OpenApi30 && original.get("$ref").is_some() {
        return;
    }
    if let Some(Value::Object(properties)) = original.get("properties") {
        let hidden = |name: &str| is_hidden(document, &step(&format!("{at}/properties"), name), way);
        let hidden: Vec<&String> = properties.keys().filter(|name| hidden(name)).collect();
        if let Some(Value::Array(required)) = schema.get_mut("required") {
            required.retain(|name| !hidden.iter().any(|gone| name.as_str() == Some(gone)));
            if required.is_empty() {
                schema.remove("required");
            }
        }
        if let Some(Value::Object(copies)) = schema.get_mut("properties") {
            for name in hidden {
                copies.insert(name.clone(), json!({ "not": {} }));
            }
        }
    }
    if dialect == Dialect::OpenApi30
        && schema.get("nullable") == Some(&Value::Bool(true))
        && let Some(Value::String(kind)) = schema.get("type")
    {
        let kinds = json!([kind, "null"]);
        schema.insert("type".to_owned(), kinds);
    }
    let bounds = match schema.get("format").and_then(Value::as_str) {
        Some("int32") => Some(json!({ "minimum": i32::MIN, "maximum": i32::MAX })),
        Some("int64") => Some(json!({ "minimum": i64::MIN, "maximum": i64::MAX })),
        _ => None,
    };
    if let Some(bounds) = bounds {
        match schema.get_mut("allOf") {
            Some(Value::Array(all)) => all.push(bounds),
            _ => {
                schema.insert("allOf".to_owned(), json!([bounds]));
            }
        }
    }
}

/// Whether a property does not go this way.
fn is_hidden(document: &Document, at: &str, way: Direction) -> bool {
    let keyword = match way {
        Direction::Request => "readOnly",
        Direction::Response => "writeOnly",
    };
    let says = |schema: &Value| schema.get(keyword) == Some(&Value::Bool(true));
    document.root.pointer(at).is_some_and(says) || document.follow(at).is_ok_and(|(schema, _)| says(schema))
}
