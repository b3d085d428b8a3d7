//! The store, killed while it writes: `crates/store/tests/promises/kills.rs`, as often as
//! it takes to trust it.

use super::{Counts, counted};
use crate::{command, workspace};
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

/// Runs the tests. One after the other: each has the disk to itself.
pub(super) fn run(options: &Options) -> Result<Counts> {
    let mut tests = command::cargo(&workspace::root()?);
    tests.args(["test", "--locked", "--release", "-p", "store", "--test", "promises", "--"]);
    tests.args(["kills", "--nocapture", "--test-threads=1"]);
    tests.env("BASTIDE_STORE_KILLS", options.kills.to_string());
    counted(&mut tests)
}
