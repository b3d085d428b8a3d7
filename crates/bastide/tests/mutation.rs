//! Switching off any one protection turns a named row of the tour red. That all are green with
//! nothing switched off is seen by the test of the tour.
//!
//! Needs a binary with the feature `switch-off`, in which `BASTIDE_SWITCH_OFF` names a
//! step that the gateway then skips. `cargo xtask test` runs it; alone:
//! `cargo test -p bastide --features switch-off --test mutation`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "helpers of tests fail by panicking, and say what they skip"
)]

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;

use bastide::demo::tour::ROWS;
use model::Switch;
use serde_json::Value;

/// How many tours are made at a time, each of a shop of its own.
const SHOPS: usize = 3;

/// The rows that came out wrong with `switch` off, of the rows `only`.
fn red_rows(switch: Switch, only: &[&str]) -> BTreeSet<String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bastide"));
    command.args(["demo", "--tour", "--output", "json"]).env("BASTIDE_SWITCH_OFF", switch.name());
    command.args(only.iter().flat_map(|row| ["--only", row]));
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{switch:?}: no report: {}", String::from_utf8_lossy(&output.stderr));
    });
    let rows = report["rows"].as_array().unwrap();
    let red: BTreeSet<String> = rows
        .iter()
        .filter(|row| row["passed"] != true)
        .map(|row| row["row"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(output.status.success(), red.is_empty(), "the exit code does not follow the rows");
    red
}

/// Every switch that the rows name.
fn switches() -> BTreeSet<Switch> {
    ROWS.iter().flat_map(|row| row.switches).copied().collect()
}

/// What stays green without `switch` that should not.
fn unmoved(switch: Switch) -> Option<String> {
    let holding = ROWS.iter().filter(|row| row.switches.contains(&switch));
    let rows: Vec<&str> = holding.map(|row| row.name).collect();
    let red = red_rows(switch, &rows);
    let unmoved: Vec<_> = rows.into_iter().filter(|&row| !red.contains(row)).collect();
    (!unmoved.is_empty()).then(|| format!("{unmoved:?} stay green without {switch:?}"))
}

#[test]
fn each_switch_turns_the_rows_red_that_name_it() {
    let (left, wrong) = (Mutex::new(switches()), Mutex::new(Vec::<String>::new()));
    let next = || left.lock().unwrap().pop_first();
    // A shop waits more than it works.
    let work = || {
        while let Some(switch) = next() {
            let unmoved = unmoved(switch);
            wrong.lock().unwrap().extend(unmoved);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..SHOPS {
            scope.spawn(work);
        }
    });
    assert_eq!(wrong.into_inner().unwrap(), Vec::<String>::new());
}

#[test]
fn every_switch_of_the_gateway_is_named_by_a_row() {
    let known = BTreeSet::from(Switch::ALL);
    assert_eq!(switches(), known);
}
