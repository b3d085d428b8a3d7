//! A JSON Schema for editors, written from the tables that the decoder uses: it knows
//! every key and its meaning, and the shape of words, numbers, durations and sizes. The
//! rest of what stands under a key is checked by `bastide check`.

use proxy::limits::TABLE;
use serde_json::{Map, Value, json};

use super::schema::{Key, SECTIONS, Section};

/// Sections that a key of another section shares.
const SHARED: &[(&str, &str)] = &[
    ("routes[].timeouts", "services.NAME.timeouts"),
    ("mesh.services.NAME.timeouts", "services.NAME.timeouts"),
    ("mesh.services.NAME.health", "services.NAME.health"),
    ("mesh.services.NAME.eject", "services.NAME.eject"),
    ("mesh.services.NAME.breaker", "services.NAME.breaker"),
    ("mesh.services.NAME.retry_budget", "services.NAME.retry_budget"),
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

/// The long form, and anything that is not a map when there is a short one. Maps in a list
/// that is a short form are long forms themselves.
fn forms(section: &Section) -> Vec<Value> {
    let mut forms = vec![object(section)];
    if section.short.is_empty() {
        return forms;
    }
    // The list is a form of the key, not of each of its items.
    if section.path.ends_with("[]") {
        forms.push(json!({ "not": { "type": ["object", "array"] }, "description": section.short }));
        return forms;
    }
    let item = match section.path {
        "services.NAME" => "services.NAME.endpoints[]",
        path => path,
    };
    let item = json!({ "anyOf": [{ "$ref": reference(item) }, { "not": { "type": "object" } }] });
    forms.push(json!({ "not": { "type": "object" }, "items": item, "description": section.short }));
    forms
}

fn reference(path: &str) -> Value {
    json!(format!("#/$defs/{}", path.replace('[', "%5B").replace(']', "%5D")))
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
    match shape(key.kind) {
        Some(shape) => json!({ "description": description, "anyOf": shape }),
        None => json!({ "description": description }),
    }
}

/// Kinds that are a closed set of words.
const WORDS: &[&str] = &[
    "true or false",
    "1.2 or 1.3",
    "301, 302, 303, 307 or 308",
    "DENY or SAMEORIGIN",
    "address, user, key or route",
    "block, detect or off",
    "enforce or report",
    "ewma, least_requests or random",
    "http1 or http2",
    "off, enforce or report",
    "optional or required",
    "policy, authenticated or anyone",
    "refuse or allow",
    "refuse or drop",
    "reject or partial",
    "second, minute, hour or day",
];

/// What a value of this kind looks like, where that can be said: one of these. A text with
/// `${…}` in it can be anything.
fn shape(kind: &str) -> Option<Vec<Value>> {
    let expanded = json!({ "type": "string", "pattern": r"\$\{" });
    if WORDS.contains(&kind) {
        let words = kind.split(", ").flat_map(|part| part.split(" or "));
        let typed = words.flat_map(|word| {
            // `1.3` and `"1.3"` are the same here, as are `true` and `"true"`.
            let typed = serde_json::from_str::<Value>(word).ok();
            std::iter::once(json!(word)).chain(typed)
        });
        return Some(vec![json!({ "enum": typed.collect::<Vec<_>>() }), expanded]);
    }
    if let Some((_, word)) = kind.strip_suffix('`').and_then(|kind| kind.rsplit_once(", or `")) {
        // One word besides what is checked elsewhere: editors offer it.
        return Some(vec![json!({ "const": word }), json!({ "not": { "type": "object" } })]);
    }
    if let Some(words) = kind.strip_suffix(", a list of these, or none") {
        let words: Vec<&str> = words.split(", ").chain(["none"]).collect();
        let item = json!({ "anyOf": [{ "enum": words }, expanded] });
        return Some(vec![json!({ "enum": words }), json!({ "type": "array", "items": item }), expanded]);
    }
    if let Some((least, most)) = range(kind) {
        let number = json!({ "type": "integer", "minimum": least, "maximum": most });
        return Some(vec![number, json!({ "type": "string", "pattern": "^[0-9]+$" }), expanded]);
    }
    let pattern = match kind.split([' ', ';']).next() {
        Some("duration") => "^[0-9]+(ms|s|m|h|d)$",
        Some("size") => "^[0-9]+(B|KiB|MiB|GiB|TiB)?$",
        _ => return None,
    };
    let mut forms = vec![json!({ "type": "string", "pattern": pattern }), expanded];
    if kind.starts_with("size") {
        forms.push(json!({ "type": "integer", "minimum": 0 }));
    }
    Some(forms)
}

/// `1 to 65536`.
fn range(kind: &str) -> Option<(u64, u64)> {
    let (least, most) = kind.split_once(" to ")?;
    Some((least.parse().ok()?, most.parse().ok()?))
}
