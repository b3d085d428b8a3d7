//! The store, killed while it writes: `crates/store/tests/promises/kills.rs`, as often as
//! it takes to trust it.

use super::Counts;
use crate::{command, test, workspace};
use anyhow::Result;

const EXAMPLES: &str = "Examples:
  cargo xtask suite store                   1,000 kills on SQLite, 1,000 on PostgreSQL
  cargo xtask suite store --kills 100";

/// How often.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Options {
    /// How often the writing process is killed, on each database
    #[arg(long, default_value_t = 1_000)]
    kills: u32,
}

/// Runs the tests and counts them. One after the other: each has the disk to itself.
pub(super) fn run(options: &Options) -> Result<Counts> {
    let mut counts = Counts { passed: 0, failed: 0, skipped: Vec::new() };
    let mut tests = command::cargo(&workspace::root()?);
    tests.args(["test", "--locked", "--release", "-p", "store", "--test", "promises", "--"]);
    tests.args(["kills", "--nocapture", "--test-threads=1"]);
    tests.env("BASTIDE_STORE_KILLS", options.kills.to_string());
    let well = command::run_seeing(&mut tests, |line| {
        if let Some(reason) = line.split_once("skipped: ").map(|(_, reason)| reason) {
            counts.skipped.push(reason.to_owned());
        }
        if let Some((passed, failed)) = test::test_result(line) {
            counts.passed += passed;
            counts.failed += failed;
        }
    })?;
    // It did not build, or the harness died before it could say what failed.
    if !well && counts.failed == 0 {
        counts.failed = 1;
    }
    // A test that was skipped passes in the harness' eyes.
    counts.passed = counts.passed.saturating_sub(counts.skipped.len());
    Ok(counts)
}
