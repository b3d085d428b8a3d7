//! How much a record tells at most.

use serde_json::Value;

use super::super::testing::{firewall, inspection};
use super::super::{Head, Mode};
use super::*;

/// The record of a request for `target` under these rules.
async fn record(rules: &str, target: &str) -> Value {
    let mut inspection = inspection(&firewall(rules), Mode::Block);
    let raw = format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n");
    inspection.request_headers(&Head::refused(raw.as_bytes())).await.unwrap();
    inspection.request_body_end().await.unwrap();
    inspection.end(Timestamp::from_unix_seconds(2)).await;
    let mut out = Vec::new();
    inspection.append_record(&mut out);
    serde_json::from_slice(&out).unwrap()
}

#[tokio::test]
async fn so_many_rules_are_listed_and_the_rest_is_counted() {
    let rules = |count: usize| -> String {
        let rule = |id| format!("SecRule ARGS:q \"@streq a\" \"id:{id},phase:1,pass,log\"\n");
        (1..=count).map(rule).collect()
    };
    let full = record(&rules(RULES_MAX), "/?q=a").await;
    assert_eq!((full["rules"].as_array().unwrap().len(), &full["further"]), (RULES_MAX, &Value::Null));
    let over = record(&rules(RULES_MAX + 1), "/?q=a").await;
    assert_eq!((over["rules"].as_array().unwrap().len(), over["further"].as_u64()), (RULES_MAX, Some(1)));
    assert_eq!(over["rules"][RULES_MAX - 1]["id"], RULES_MAX);
}

/// Each byte of it takes six in a record, which listed megabytes of it.
#[tokio::test]
async fn rules_with_long_data_are_listed_as_far_as_there_is_room() {
    let rule = |id| {
        format!(
            "SecRule ARGS:q \"@unconditionalMatch\" \"id:{id},phase:1,pass,log,logdata:'%{{MATCHED_VAR}}'\"\n"
        )
    };
    let rules: String = (1..=RULES_MAX).map(rule).collect();
    let bytes = |found: &Value| found["rules"].to_string().len() - 1;
    let whole = record(&rule(1), &format!("/?q={}", "%01".repeat(TEXT_BYTES_MAX))).await;
    let one = bytes(&whole);
    assert!(one > 6 * TEXT_BYTES_MAX && whole["further"].is_null());
    let cut = record(&rules, &format!("/?q={}", "%01".repeat(TEXT_BYTES_MAX))).await;
    let listed = cut["rules"].as_array().unwrap().len();
    assert!(bytes(&cut) <= RULES_BYTES_MAX && bytes(&cut) + one + 8 > RULES_BYTES_MAX, "{listed}");
    assert_eq!(cut["further"], RULES_MAX - listed);
    assert!(cut.to_string().len() <= audit::record::FIREWALL_BYTES_MAX);
}

#[tokio::test]
async fn matches_of_one_rule_are_counted_with_the_rest() {
    let rule = "SecRule ARGS \"@unconditionalMatch\" \"id:1,phase:1,pass,log\"\n";
    let query = |count: usize| (0..count).map(|n| format!("a{n}=1&")).collect::<String>();
    let listed = record(rule, &format!("/?{}", query(8))).await;
    assert_eq!((listed["rules"].as_array().unwrap().len(), &listed["further"]), (8, &Value::Null));
    let over = record(rule, &format!("/?{}", query(11))).await;
    assert_eq!((over["rules"].as_array().unwrap().len(), over["further"].as_u64()), (8, Some(3)));
}

#[tokio::test]
async fn each_text_is_cut_at_a_whole_character() {
    let rule = "SecRule ARGS:q \"@beginsWith a\" \"id:1,phase:1,pass,log,logdata:'%{MATCHED_VAR}'\"\n";
    // The last of them begins one byte before the limit.
    for (sent, kept) in [
        ("a".repeat(TEXT_BYTES_MAX), TEXT_BYTES_MAX),
        ("a".repeat(TEXT_BYTES_MAX + 1), TEXT_BYTES_MAX),
        ("a".repeat(TEXT_BYTES_MAX - 1) + "é", TEXT_BYTES_MAX - 1),
    ] {
        let found = record(rule, &format!("/?q={sent}")).await;
        assert_eq!(found["rules"][0]["data"].as_str().unwrap(), &sent[..kept]);
    }
}

#[tokio::test]
async fn so_many_tags_of_a_rule_are_told() {
    for (tags, told) in [(TAGS_MAX, TAGS_MAX), (TAGS_MAX + 1, TAGS_MAX)] {
        let tags: String = (0..tags).map(|number| format!(",tag:'t{number}'")).collect();
        let rule = format!("SecRule ARGS:q \"@streq a\" \"id:1,phase:1,pass,log{tags}\"\n");
        let found = record(&rule, "/?q=a").await;
        assert_eq!(found["rules"][0]["tags"].as_array().unwrap().len(), told);
    }
}
