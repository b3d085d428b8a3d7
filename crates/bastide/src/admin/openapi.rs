//! The OpenAPI 3.1 document of the operations, made from their table.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::operation::{OPERATIONS, Operation, Query};
use super::problem::Details;
use super::serve::parameters;

/// Where schemas stand in a document.
const SCHEMAS: &str = "#/components/schemas";

/// The document.
pub fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = format!("{SCHEMAS}/").into();
        settings.meta_schema = None;
    });
    let mut generator = settings.into_generator();
    let problem = generator.subschema_for::<Details>();
    let mut paths = Map::new();
    for operation in OPERATIONS {
        let described = describe(operation, &mut generator);
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        if let Some(path) = path.as_object_mut() {
            path.insert(operation.method.as_str().to_ascii_lowercase(), described);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bastide administration",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
            "description": "Served on the socket `admin.sock` in the state folder and on routes \
                `to: administration`. Every call is decided by the Cedar policies (`Route::\"administration:…\"`) \
                and has a place in the audit log before anything is done.",
        },
        "security": [ { "bearer": [] }, { "apiKey": [] }, { "certificate": [] } ],
        "paths": paths,
        "components": {
            "schemas": generator.take_definitions(true),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
                "apiKey": { "type": "apiKey", "in": "header", "name": "X-API-Key" },
                "certificate": { "type": "mutualTLS" },
            },
            "responses": {
                "Problem": {
                    "description": "It was not done (RFC 9457).",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        },
    })
}

fn describe(operation: &Operation, generator: &mut SchemaGenerator) -> Value {
    let mut given: Vec<Value> = parameters(operation.path).into_iter().map(in_path).collect();
    given.extend(operation.queries.iter().map(in_query));
    if operation.conditional {
        given.push(field(
            "If-Match",
            "Only when it is as this `ETag` says; `*`: only when it is there.",
            r#"^(\*|"[0-9]+")$"#,
        ));
        if operation.method == axum::http::Method::PUT {
            given.push(field("If-None-Match", "`*`: only when it is not there yet.", r"^\*$"));
        }
    }
    let (status, body) = operation.gives;
    let mut done = json!({ "description": "Done." });
    if let Some(schema) = body.map(|describe| describe(generator)).or_else(|| any(status)) {
        insert(&mut done, "content", json!({ "application/json": { "schema": schema } }));
    }
    if operation.conditional || operation.method == axum::http::Method::GET {
        let about = "The version, for `If-Match`, of what has one.";
        insert(
            &mut done,
            "headers",
            json!({ "ETag": { "description": about, "schema": { "type": "string" } } }),
        );
    }
    let mut described = json!({
        "operationId": operation.name,
        "summary": operation.about,
        "tags": [operation.area.name()],
        "responses": {
            status.to_string(): done,
            "4XX": { "$ref": "#/components/responses/Problem" },
            "5XX": { "$ref": "#/components/responses/Problem" },
        },
    });
    if !given.is_empty() {
        insert(&mut described, "parameters", Value::Array(given));
    }
    if let Some(takes) = operation.takes {
        let content = json!({ "application/json": { "schema": takes(generator) } });
        insert(&mut described, "requestBody", json!({ "required": true, "content": content }));
    }
    described
}

/// The document itself is of no type of ours.
fn any(status: u16) -> Option<schemars::Schema> {
    (status != 204).then(|| schemars::json_schema!({ "type": "object" }))
}

fn insert(object: &mut Value, name: &str, value: Value) {
    if let Some(object) = object.as_object_mut() {
        object.insert(name.to_owned(), value);
    }
}

fn in_path(name: &str) -> Value {
    json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "minLength": 1 } })
}

fn in_query(query: &Query) -> Value {
    let schema = match query.name {
        "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 1000, "default": 100 }),
        _ => json!({ "type": query.kind }),
    };
    json!({ "name": query.name, "in": "query", "description": query.about, "schema": schema })
}

fn field(name: &str, about: &str, pattern: &str) -> Value {
    json!({
        "name": name, "in": "header", "description": about,
        "schema": { "type": "string", "pattern": pattern },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_document_is_what_the_table_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
        let shipped = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(shipped, format!("{:#}\n", document()), "run `cargo xtask docs`");
    }

    #[test]
    fn every_reference_leads_somewhere_and_every_schema_is_one() {
        let document = document();
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 50);
        for reference in references {
            let place = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(place).is_some(), "{reference}");
        }
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            let mut whole = schema.clone();
            whole["components"] = document["components"].clone();
            jsonschema::validator_for(&whole).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
    }

    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
                members.values().for_each(|value| collect(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
}
