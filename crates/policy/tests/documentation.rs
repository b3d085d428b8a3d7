//! What docs/policy.md tells people to copy does load, and its table names what the
//! schema has.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod testbed;

use model::ClaimType;
use policy::{Fault, limits, schema_text};
use testbed::*;

const DOCUMENT: &str = include_str!("../../../docs/policy.md");

#[test]
fn every_example_loads_without_a_warning_about_names_or_types() {
    let mut vocabulary = vocabulary();
    vocabulary.claims.insert("tenant".into(), ClaimType::Text);
    let blocks: Vec<&str> =
        DOCUMENT.split("```cedar\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert_eq!(blocks.len(), 2);
    for block in blocks {
        match policy::load(vocabulary.clone(), &source(block), 1) {
            Ok(policies) => {
                let about_policies = |fault: &&Fault| fault.source_name.starts_with("shop.cedar");
                let warnings: Vec<&Fault> = policies.warnings().iter().filter(about_policies).collect();
                assert!(warnings.is_empty(), "{block}\n{warnings:?}");
            }
            Err(faults) => panic!("{block}\n{}", faults[0]),
        }
    }
}

#[test]
fn every_attribute_of_the_schema_is_in_the_table() {
    let table = DOCUMENT.split("## Attributes").nth(1).unwrap().split("## To copy").next().unwrap();
    let text = schema_text(&policy::Vocabulary::default());
    let names = text.lines().filter_map(|line| line.strip_prefix("  \"")?.split('"').next());
    let names: std::collections::BTreeSet<&str> = names.collect();
    assert!(names.len() > 20, "{names:?}");
    for name in names {
        assert!(table.contains(name), "docs/policy.md does not describe {name:?}");
    }
}

#[test]
fn the_printed_schema_is_cedars_own_syntax() {
    let text = schema_text(&vocabulary());
    let extensions = cedar_policy_core::extensions::Extensions::all_available();
    let read = cedar_policy_core::validator::ValidatorSchema::from_cedarschema_str(&text, extensions);
    assert!(read.is_ok(), "{text}");
    for expected in
        ["\"owner\"?: String", "\"x-tenant\"?: Set<String>", "\"level\"?: Long", "entity Role in [Role];"]
    {
        assert!(text.contains(expected), "{expected} is not in\n{text}");
    }
}

#[test]
fn the_limits_are_those_of_the_document() {
    assert_eq!(limits::SOURCE_BYTES_MAX, 1 << 20);
    for number in [limits::NESTING_MAX, limits::OPERATORS_MAX] {
        assert!(DOCUMENT.contains(&format!(" {number} ")), "{number}");
    }
    assert!(DOCUMENT.contains("10,000 policies") && limits::POLICIES_MAX == 10_000);
}
