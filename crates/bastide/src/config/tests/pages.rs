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
/// that are dangerous, refused, or need what an example cannot carry.
#[test]
fn the_examples_load_and_show_the_keys() {
    let environment = |name: &str| (name == "TENANT_TOKEN").then(|| "token".to_owned());
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
                || ["acme", "certificates", "cert", "key", "jwks_file", "include", "ca", "crl"].contains(&key.name)
                // Settings of a Core Rule Set, which is not part of this repository.
                || ["paranoia", "paranoia_detection", "thresholds"].contains(&key.name)
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
