//! `cargo xtask test`: every check, as named steps, each with its time.
//!
//! [`STEPS`] is the list. A step that cannot run says why and counts as skipped; a step
//! that goes wrong does not stop the others unless `--fail-fast` is given.

mod steps;
pub(crate) mod tools;

pub(crate) use steps::test_result;

use crate::{clock::Stopwatch, metadata::Metadata, workspace};
use anyhow::{Result, bail};
use std::path::PathBuf;
use std::time::Duration;

/// Which steps, and against what.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run this step only (repeat for several)
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Print the steps and what each holds, and run nothing
    #[arg(long)]
    list: bool,
    /// Stop at the first step that fails
    #[arg(long)]
    fail_fast: bool,
    #[command(flatten)]
    dependencies: crate::deps::Options,
}

/// What a step may look at.
struct Context {
    root: PathBuf,
    metadata: Metadata,
    dependencies: crate::deps::Options,
}

/// How a step ended. An error means it could not even be tried, and counts as failed.
struct Tally {
    passed: usize,
    failed: usize,
    /// What was not checked, and why.
    skipped: Option<String>,
}

struct Step {
    name: &'static str,
    holds: &'static str,
    run: fn(&Context) -> Result<Tally>,
}

/// In this order: what is quick and what compiles least first.
const STEPS: &[Step] = &[
    Step {
        name: "tools",
        holds: "the programs that tests talk to are there (installed by apt as root)",
        run: steps::tools,
    },
    Step { name: "format", holds: "cargo fmt has nothing to change", run: steps::format },
    Step {
        name: "floors",
        holds: "imports between crates go down only; pure crates are pure",
        run: steps::floors,
    },
    Step {
        name: "house",
        holds: "file length, no paths of one machine, links in documents",
        run: steps::house,
    },
    Step {
        name: "dependencies",
        holds: "no open advisory, licence, banned crate or foreign source",
        run: steps::dependencies,
    },
    Step { name: "clippy", holds: "no warning in any target", run: steps::clippy },
    Step { name: "tests", holds: "unit and integration tests of every crate", run: steps::tests },
    Step {
        name: "doctests",
        holds: "examples in the documentation, and what must not compile",
        run: steps::doctests,
    },
    Step { name: "fuzz", holds: "the fuzzers' stable smoke tests (fuzz_smoke…)", run: steps::fuzz },
    Step { name: "system", holds: "whole-system tests with the real binary", run: steps::system },
    Step {
        name: "differential",
        holds: "no two readers disagree about what passes, beside nginx, haproxy, varnish (bounded)",
        run: steps::differential,
    },
    Step {
        name: "floods",
        holds: "floods are cut and refused in bounded memory while honest requests are answered (bounded)",
        run: steps::floods,
    },
    Step {
        name: "schemathesis",
        holds: "nothing that breaks its API document passes a validated route (bounded; oracle: openapi-core)",
        run: steps::schemathesis,
    },
    Step {
        name: "oidc",
        holds: "clients that others wrote run the flows of the identity provider (npm openid-client, PyPI authlib, Chromium)",
        run: steps::oidc,
    },
    Step {
        name: "switch-off",
        holds: "switching off any one step of the way turns a test red",
        run: steps::switch_off,
    },
    Step { name: "demo", holds: "bastide demo --tour comes out as it must", run: steps::demo },
    Step { name: "crs", holds: "the Core Rule Set's own tests pass through the gateway", run: steps::crs },
    Step {
        name: "sqlmap",
        holds: "sqlmap finds nothing through the firewall, and what is open without it (bounded)",
        run: steps::sqlmap,
    },
    Step { name: "docs", holds: "generated documents are current", run: steps::docs },
];

/// Runs the steps and prints a summary; the last line is `N passed, N failed`.
pub(crate) fn run(options: &Options) -> Result<()> {
    if options.list {
        for step in STEPS {
            println!("{:<14}{}", step.name, step.holds);
        }
        return Ok(());
    }
    if let Some(unknown) = options.only.iter().find(|name| STEPS.iter().all(|step| step.name != **name)) {
        let names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        bail!("no step `{unknown}`; there are: {}", names.join(", "));
    }
    let root = workspace::root()?;
    let context =
        Context { metadata: Metadata::read(&root)?, root, dependencies: options.dependencies.clone() };
    let mut done = Vec::new();
    for step in STEPS
        .iter()
        .filter(|step| options.only.is_empty() || options.only.iter().any(|name| name == step.name))
    {
        println!("\n=== {}: {}", step.name, step.holds);
        let watch = Stopwatch::start();
        let tally = (step.run)(&context).unwrap_or_else(|error| {
            println!("{}: {error:#}", step.name);
            Tally { passed: 0, failed: 1, skipped: None }
        });
        let time = watch.elapsed();
        println!("=== {}: {}, {:.1} s", step.name, tally.verdict(), time.as_secs_f64());
        let failed = tally.failed > 0;
        done.push((step.name, tally, time));
        if failed && options.fail_fast {
            break;
        }
    }
    summary(&done)
}

fn summary(done: &[(&str, Tally, Duration)]) -> Result<()> {
    println!("\n{:<14}{:<9}{:>8}{:>8}{:>10}", "step", "verdict", "passed", "failed", "seconds");
    for (name, tally, time) in done {
        println!(
            "{name:<14}{:<9}{:>8}{:>8}{:>10.1}",
            tally.verdict(),
            tally.passed,
            tally.failed,
            time.as_secs_f64()
        );
    }
    for (name, tally, _) in done {
        if let Some(reason) = &tally.skipped {
            println!("skipped in {name}: {reason}");
        }
    }
    let total: Duration = done.iter().map(|(_, _, time)| *time).sum();
    println!("{} minutes {} seconds in all", total.as_secs() / 60, total.as_secs() % 60);
    let red: Vec<_> = done.iter().filter(|(_, tally, _)| tally.failed > 0).map(|(name, ..)| *name).collect();
    let (passed, failed) =
        done.iter().fold((0, 0), |(p, f), (_, tally, _)| (p + tally.passed, f + tally.failed));
    if red.is_empty() {
        println!("{passed} passed, {failed} failed");
        return Ok(());
    }
    println!(
        "red: {}; run one alone with `cargo xtask test --only {}`",
        red.join(", "),
        red.first().unwrap_or(&"")
    );
    println!("{passed} passed, {failed} failed");
    bail!("{} of {} steps are red", red.len(), done.len())
}

impl Tally {
    fn passed() -> Self {
        Self { passed: 1, failed: 0, skipped: None }
    }

    fn skipped(reason: impl Into<String>) -> Self {
        Self { passed: 0, failed: 0, skipped: Some(reason.into()) }
    }

    fn verdict(&self) -> &'static str {
        match self {
            Self { failed: 1.., .. } => "FAILED",
            Self { passed: 0, .. } => "skipped",
            Self { skipped: Some(_), .. } => "partly",
            Self { .. } => "passed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_step_is_an_error_and_a_skipped_one_is_not() {
        let done = |failed: usize| [("a", Tally { passed: 1, failed, skipped: None }, Duration::ZERO)];
        assert!(summary(&done(0)).is_ok());
        assert!(summary(&done(1)).is_err());
        assert!(summary(&[("a", Tally::skipped("not here"), Duration::ZERO)]).is_ok());
    }

    #[test]
    fn verdicts_tell_skipped_from_passed() {
        assert_eq!(Tally::skipped("x").verdict(), "skipped");
        assert_eq!(Tally::passed().verdict(), "passed");
        assert_eq!(Tally { skipped: Some("x".into()), ..Tally::passed() }.verdict(), "partly");
        assert_eq!(Tally { failed: 1, ..Tally::passed() }.verdict(), "FAILED");
    }

    #[test]
    fn steps_have_names_of_their_own() {
        let mut names: Vec<_> = STEPS.iter().map(|step| step.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), STEPS.len());
    }
}
