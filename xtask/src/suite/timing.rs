//! Whether the time that a refusal takes says why: `crates/identity/tests/provider/timing.rs`,
//! the part that is a matter of statistics.

use super::{Counts, counted};
use crate::{command, workspace};
use anyhow::Result;

/// Runs the tests, optimised as what ships is, and one after the other.
pub(super) fn run() -> Result<Counts> {
    let mut tests = command::cargo(&workspace::root()?);
    tests.args(["test", "--locked", "--release", "-p", "identity", "--test", "provider", "--"]);
    tests.args(["timing::", "--ignored", "--nocapture", "--test-threads=1"]);
    counted(&mut tests)
}
