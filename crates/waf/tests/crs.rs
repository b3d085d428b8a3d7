//! The regression tests of the Core Rule Set, in this process: every request that can be
//! shown to the engine without a server is, and the ids of its matches are judged as the
//! tests' own runner judges the log.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "tests"
)]

mod support;

use std::collections::BTreeMap;
use support::corpus::{Case, cases};
use waf::{Match, Options};

/// Tests whose outcome a server decides before any rule, so not shown to the engine here:
/// a length beside chunks, a bare carriage return in a field.
const BY_THE_SERVER: &[&str] = &["920181-1", "921140-1"];

fn log_line(found: &Match) -> String {
    format!(r#"[id "{}"] [msg "{}"] [data "{}"]"#, found.rule, found.message, found.log_data)
}

/// Why a case fails.
fn judge(case: &Case, matches: &[Match]) -> Option<String> {
    let logged: Vec<&Match> = matches.iter().filter(|found| found.log).collect();
    let ids: Vec<u64> = logged.iter().map(|found| found.rule).collect();
    let log = &case.output.log;
    let lines: Vec<String> = logged.iter().map(|found| log_line(found)).collect();
    let hits = |pattern: &str| {
        let pattern = regex::RegexBuilder::new(pattern).dot_matches_new_line(true).build().unwrap();
        lines.iter().any(|line| pattern.is_match(line))
    };
    if let Some(missing) = log.expect_ids.iter().find(|id| !ids.contains(id)) {
        return Some(format!("{missing} did not match; {ids:?} did"));
    }
    if let Some(wrong) = log.no_expect_ids.iter().find(|id| ids.contains(id)) {
        let found = logged.iter().find(|found| found.rule == *wrong).unwrap();
        return Some(format!("{wrong} matched {}: {}", found.variable, found.log_data));
    }
    if log.match_regex.as_deref().is_some_and(|pattern| !hits(pattern)) {
        return Some(format!("nothing in the log matches {:?}; {ids:?}", log.match_regex));
    }
    if log.no_match_regex.as_deref().is_some_and(hits) {
        return Some(format!("the log matches {:?}", log.no_match_regex));
    }
    None
}

#[test]
fn the_core_rule_set_passes_its_own_tests() {
    let Some(shared) = support::shared() else {
        eprintln!("skipped: no ../shared/crs beside the repository");
        return;
    };
    let set = support::core_rule_set(&Options::default(), &support::test_settings()).unwrap();
    let only = std::env::var("WAF_ONLY").ok();
    let only = only.as_deref();
    let (mut passed, mut failed) = (0, BTreeMap::<u64, Vec<String>>::new());
    for case in cases(&shared.join("crs/tests")) {
        if BY_THE_SERVER.contains(&case.id.as_str()) || only.is_some_and(|only| !case.id.starts_with(only)) {
            continue;
        }
        let (transaction, _) = support::run(&set, &case.raw());
        if only.is_some() {
            for found in transaction.matches() {
                println!("{}: {} {} {:?}", case.id, found.rule, found.variable, found.log_data);
            }
        }
        match judge(&case, transaction.matches()) {
            None => passed += 1,
            Some(why) => failed.entry(case.rule).or_default().push(format!("{}: {why}", case.id)),
        }
    }
    let count: usize = failed.values().map(Vec::len).sum();
    println!("{passed} passed, {count} failed");
    for (rule, cases) in &failed {
        println!("{rule}: {} failed", cases.len());
        cases.iter().take(6).for_each(|case| println!("  {case}"));
    }
    assert_eq!(count, 0, "{passed} passed, {count} failed");
}
