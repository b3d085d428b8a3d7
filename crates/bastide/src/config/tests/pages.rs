//! The reference page and the examples.

use std::path::Path;

use super::super::schema::SECTIONS;
use super::super::{Disk, json_schema, load, reference};

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn the_reference_page_is_what_the_tables_say() {
    let page = std::fs::read_to_string(repository().join("docs/configuration.md")).unwrap_or_default();
    assert!(
        page == reference(),
        "docs/configuration.md is not what the tables say: run \
         `cargo xtask docs`"
    );
}

#[test]
fn the_schema_is_what_the_tables_say() {
    let page = std::fs::read_to_string(repository().join("docs/bastide.schema.json")).unwrap_or_default();
    assert!(
        page == json_schema(),
        "docs/bastide.schema.json is not what the tables say: run `cargo xtask docs`"
    );
    let schema: serde_json::Value = serde_json::from_str(&page).unwrap();
    let at = |pointer: &str| schema.pointer(pointer).unwrap_or_else(|| panic!("no {pointer}"));
    assert_eq!(at("/additionalProperties"), false);
    assert!(at("/properties/routes/description").is_string());
    let route = at("/$defs/routes[]/anyOf/0");
    assert_eq!(route["additionalProperties"], false);
    assert!(route["properties"]["match"]["description"].is_string());
    assert_eq!(at("/properties/listen/anyOf/0/items/$ref"), "#/$defs/listen%5B%5D");
    assert_eq!(at("/$defs/services.NAME/anyOf/0/properties/timeouts/$ref"), "#/$defs/services.NAME.timeouts");
}

/// Every example of `docs/examples` loads, and together they show every key but those
/// that are dangerous, warned of, refused, or need what an example cannot carry.
#[test]
fn the_examples_load_and_show_the_keys() {
    let environment = |name: &str| match name {
        "TENANT_TOKEN" | "MAIL_PASSWORD" => Some("token".to_owned()),
        "ORDERS_SECRET" => Some("a-secret-that-everybody-knows-0123456789".to_owned()),
        "ACME_HMAC_KEY" => Some("zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4".to_owned()),
        _ => None,
    };
    let mut all = String::new();
    let mut count = 0;
    for entry in std::fs::read_dir(repository().join("docs/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let loaded = load(&path, &environment, &Disk);
        let findings = loaded.map_or_else(|findings| findings, |configuration| configuration.warnings);
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert_eq!(said, [""; 0], "{}", path.display());
        all.push_str(&std::fs::read_to_string(&path).unwrap());
        count += 1;
    }
    assert!(count >= 3);
    for section in SECTIONS {
        for key in section.keys {
            let spared = key.name.starts_with("danger_")
                || ["certificates", "cert", "key", "jwks_file", "include", "ca", "crl", "trust", "private_key"].contains(&key.name)
                // It is a warning, and examples have none.
                || key.name == "plain_text"
                // Settings of a Core Rule Set, which is not part of this repository.
                || ["paranoia", "paranoia_detection", "thresholds", "content_types"].contains(&key.name)
                || section.path == "waf.thresholds";
            assert!(
                spared || all.contains(&format!("{}:", key.name)),
                "no example shows {}.{}",
                section.path,
                key.name
            );
        }
    }
}

/// Every example of `docs/examples`, as an editor sees it: YAML typed as YAML types it.
fn examples() -> Vec<(String, serde_json::Value)> {
    let entries = std::fs::read_dir(repository().join("docs/examples")).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    let read = |path: std::path::PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        (path.display().to_string(), serde_saphyr::from_str(&text).unwrap())
    };
    files.map(read).collect()
}

#[test]
fn the_examples_are_valid_by_the_schema() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let examples = examples();
    assert!(examples.len() >= 3);
    for (name, example) in &examples {
        let said: Vec<String> =
            validator.iter_errors(example).map(|e| format!("{}: {e}", e.instance_path())).collect();
        assert_eq!(said, [""; 0], "{name}");
    }
}

/// Whatever key of whatever map is misspelt, wherever it stands, the schema sees it; and
/// values of a closed kind that are something else.
#[test]
fn mutated_examples_are_not_valid_by_the_schema() {
    let schema: serde_json::Value = serde_json::from_str(&json_schema()).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut tried = 0;
    for (name, example) in examples() {
        for pointer in keys_of_ours("", &example) {
            let (parent, key) = pointer.rsplit_once('/').unwrap();
            let mut mutated = example.clone();
            let map = mutated.pointer_mut(parent).unwrap().as_object_mut().unwrap();
            let value = map.remove(&key.replace("~1", "/")).unwrap();
            map.insert(format!("{key}x"), value);
            assert!(!validator.is_valid(&mutated), "{name}: {pointer}x");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
    let good = serde_json::json!({
        "listen": { "address": "127.0.0.1:1", "tls": { "local": true, "min_version": 1.3 } },
        "workers": 2,
        "services": { "a": { "endpoints": "http://a", "balance": "ewma", "retries": "${RETRIES}" } },
        "routes": [
            { "match": "/**", "to": "a", "allow": "anyone", "body_max": "1MiB", "authenticate": "none" },
            { "match": "/b", "to": "a", "authenticate": [ "jwt", "${PROOF}" ] },
        ],
    });
    assert!(validator.is_valid(&good));
    for (pointer, wrong) in [
        ("/workers", serde_json::json!(0)),
        ("/workers", serde_json::json!("many")),
        ("/listen/tls/min_version", serde_json::json!("1.1")),
        ("/services/a/balance", serde_json::json!("round_robin")),
        ("/services/a/retries", serde_json::json!(6)),
        ("/routes/0/allow", serde_json::json!("everybody")),
        ("/routes/0/authenticate", serde_json::json!("jtw")),
        ("/routes/0/authenticate", serde_json::json!(["jwt", "mlts"])),
        ("/routes/0/body_max", serde_json::json!("1MB")),
        ("/listen", serde_json::json!({ "adress": "127.0.0.1:1" })),
        ("/services", serde_json::json!([])),
    ] {
        let mut mutated = good.clone();
        *mutated.pointer_mut(pointer).unwrap() = wrong.clone();
        assert!(!validator.is_valid(&mutated), "{pointer}: {wrong}");
    }
}

/// Pointers to keys that the language defines, below `value`: not the user's own names.
fn keys_of_ours(pointer: &str, value: &serde_json::Value) -> Vec<String> {
    let own_names = [
        "/services",
        "/roles",
        "/claims",
        "/set",
        "/add",
        "/headers",
        "/query",
        "/key",
        "/resource",
        "/realms",
        "/scopes",
        "/resources",
        "/clients",
        "/workloads",
        "/federates",
    ];
    match value {
        serde_json::Value::Object(entries) => {
            // `headers` of a route is ours, that of a match or a split is the user's.
            let ours = !own_names.iter().any(|end| pointer.ends_with(end))
                || (pointer.starts_with("/routes/") && pointer.matches('/').count() == 3);
            entries
                .iter()
                .flat_map(|(key, value)| {
                    let here = format!("{pointer}/{}", key.replace('/', "~1"));
                    let below = keys_of_ours(&here, value);
                    ours.then_some(here).into_iter().chain(below)
                })
                .collect()
        }
        serde_json::Value::Array(items) => items
            .iter()
            .enumerate()
            .flat_map(|(number, item)| keys_of_ours(&format!("{pointer}/{number}"), item))
            .collect(),
        _ => Vec::new(),
    }
}
