//! A JSON Schema for editors, written from the tables that the decoder uses: it knows
//! every key and its meaning. What stands under a key is checked by `bastide check`.

use proxy::limits::TABLE;
use serde_json::{Map, Value, json};

use super::schema::{Key, SECTIONS, Section};

/// Sections that a key of another section shares.
const SHARED: &[(&str, &str)] = &[
    ("routes[].timeouts", "services.NAME.timeouts"),
    ("routes[].addresses", "addresses"),
    ("routes[].waf", "waf"),
    ("listen[].waf", "waf"),
    ("routes[].headers.response", "routes[].headers.request"),
    ("services.NAME.tls.client", "listen[].tls.certificates[]"),
];

/// `docs/bastide.schema.json` (JSON Schema, draft 2020-12).
pub fn json_schema() -> String {
    let mut whole = Map::new();
    whole.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    whole.insert("title".to_owned(), json!("Bastide configuration"));
    let mut definitions = Map::new();
    for section in SECTIONS {
        if section.path.is_empty() {
            if let Value::Object(top) = object(section) {
                whole.extend(top);
            }
        } else {
            definitions.insert(section.path.to_owned(), json!({ "anyOf": forms(section) }));
        }
    }
    let limits = TABLE.iter().map(|row| (row.name.to_owned(), json!({ "description": row.doc.trim() })));
    let limits: Map<String, Value> = limits.collect();
    definitions.insert(
        "limits".to_owned(),
        json!({ "type": "object", "properties": limits, "additionalProperties": false }),
    );
    whole.insert("$defs".to_owned(), Value::Object(definitions));
    let mut text = serde_json::to_string_pretty(&whole).unwrap_or_default();
    text.push('\n');
    text
}

/// The long form, and anything that is not a map when there is a short one.
fn forms(section: &Section) -> Vec<Value> {
    let mut forms = vec![object(section)];
    if !section.short.is_empty() {
        forms.push(json!({ "not": { "type": "object" }, "description": section.short }));
    }
    forms
}

fn object(section: &Section) -> Value {
    let properties: Map<String, Value> =
        section.keys.iter().map(|key| (key.name.to_owned(), property(section, key))).collect();
    json!({
        "type": "object",
        "description": section.about,
        "properties": properties,
        "additionalProperties": false,
    })
}

fn property(section: &Section, key: &Key) -> Value {
    let default =
        if key.default.is_empty() { "required".to_owned() } else { format!("default: {}", key.default) };
    let description = format!("{} ({}; {default})", key.about, key.kind);
    let path = match section.path {
        "" => key.name.to_owned(),
        path => format!("{path}.{}", key.name),
    };
    let path = SHARED.iter().find(|(from, _)| *from == path).map_or(path.as_str(), |(_, to)| *to);
    let known = |path: &str| path == "limits" || SECTIONS.iter().any(|section| section.path == path);
    let reference = |path: &str| json!(format!("#/$defs/{}", path.replace('[', "%5B").replace(']', "%5D")));
    if known(&format!("{path}[]")) {
        let list = reference(&format!("{path}[]"));
        return json!({ "description": description, "anyOf": [
            { "type": "array", "items": { "$ref": list } },
            { "$ref": list },
        ] });
    }
    if known(&format!("{path}.NAME")) {
        let entry = reference(&format!("{path}.NAME"));
        return json!({ "description": description, "type": "object", "additionalProperties": { "$ref": entry } });
    }
    if known(path) {
        // A list of the section's maps is a short form of these two.
        return json!({ "description": description, "$ref": reference(path) });
    }
    json!({ "description": description })
}
