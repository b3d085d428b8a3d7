//! Suites: the product beside its peers and under attack, on loopback.
//!
//! [`differential`] sends the same bytes through Bastide, nginx, haproxy and varnish and
//! compares what arrives; [`floods`] attacks it while honest clients go on; [`crs`] runs the
//! Core Rule Set's own tests against the firewall, [`blocking`] judges them when it blocks;
//! [`sqlmap`] attacks through it. [`oidc`] runs certified clients against the identity provider.
//! [`spiffe`] runs clients of the Workload API, [`storm`] rotates their certificates under load.
//! [`store`] kills what writes to the store. [`timing`] measures refusals. [`servers`] starts
//! those that are compared.

mod blocking;
mod crs;
mod differential;
mod floods;
mod oidc;
mod schemathesis;
mod servers;
mod spiffe;
mod sqlmap;
mod store;
mod storm;
mod timing;

use crate::{command, test};
use anyhow::{Result, bail};
use std::process::Command;

pub(crate) use crs::{Places as CrsPlaces, Tally as CrsTally};

/// How a suite came out.
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    /// What could not be tried, and why.
    pub(crate) skipped: Vec<String>,
}

/// What to try.
#[derive(clap::Subcommand)]
pub(crate) enum Suite {
    /// The same raw messages through Bastide and its peers: no two readers may disagree
    #[command(
        after_help = "Examples:\n  cargo xtask suite differential\n  cargo xtask suite differential --cases 5000 --seed 7 --report disagreements.md"
    )]
    Differential(differential::Options),
    /// Floods of every kind beside honest clients: memory, processor, their 99th percentile
    #[command(
        after_help = "Examples:\n  cargo xtask suite floods\n  cargo xtask suite floods --only logins --logins 20000"
    )]
    Floods(floods::Options),
    /// The regression tests of the OWASP Core Rule Set through the gateway
    Crs(crs::Options),
    /// schemathesis against a route with an OpenAPI document: nothing that breaks it passes
    #[command(
        after_help = "Examples:\n  cargo xtask suite schemathesis\n  cargo xtask suite schemathesis --examples 1000"
    )]
    Schemathesis(schemathesis::Options),
    /// openid-client, authlib and Chromium through the flows of the identity provider
    Oidc(oidc::Options),
    /// The store, killed 1,000 times while it writes, on SQLite and on PostgreSQL
    Store(store::Options),
    /// Whether the time of a refusal says if there is such a person or client: Welch's t
    #[command(after_help = "Examples:\n  cargo xtask suite timing")]
    Timing,
    /// The crate `spiffe`'s live tests, PyPI's `spiffe` and Envoy against the Workload API
    Spiffe(spiffe::Options),
    /// Certificates of seconds under load, the control plane killed in between: no request fails
    Storm(storm::Options),
    /// sqlmap against an open search behind the firewall, and against the demo's
    Sqlmap(sqlmap::Options),
}

/// Runs it; an error when anything failed.
pub(crate) fn run(suite: &Suite) -> Result<()> {
    let counts = match suite {
        Suite::Differential(options) => differential::run(options)?,
        Suite::Floods(options) => floods::run(options)?,
        // Its tests are counted by thousands, those left out too.
        Suite::Crs(options) => return crs::run(options),
        Suite::Schemathesis(options) => schemathesis::run(options)?,
        Suite::Oidc(options) => oidc::run(options)?,
        Suite::Store(options) => store::run(options)?,
        Suite::Timing => timing::run()?,
        Suite::Spiffe(options) => spiffe::run(options)?,
        Suite::Storm(options) => storm::run(options)?,
        Suite::Sqlmap(options) => sqlmap::run(options)?,
    };
    counts.skipped.iter().for_each(|reason| println!("skipped: {reason}"));
    println!("{} passed, {} failed, {} skipped", counts.passed, counts.failed, counts.skipped.len());
    if counts.failed > 0 {
        bail!("{} came out wrong", counts.failed);
    }
    Ok(())
}

/// Runs tests of a crate and counts what the harness says.
fn counted(tests: &mut Command) -> Result<Counts> {
    let mut counts = Counts { passed: 0, failed: 0, skipped: Vec::new() };
    let well = command::run_seeing(tests, |line| {
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

/// The part of the differential suite that is bounded in time.
pub(crate) fn bounded_differential() -> Result<Counts> {
    differential::run(&differential::Options::bounded())
}

/// The part of schemathesis that is bounded in time.
pub(crate) fn bounded_schemathesis() -> Result<Counts> {
    schemathesis::run(&schemathesis::Options::bounded())
}

/// Every flow, the store in memory.
pub(crate) fn bounded_oidc() -> Result<Counts> {
    oidc::run(&oidc::Options::bounded())
}

/// The part of sqlmap's attack that is bounded in time.
pub(crate) fn bounded_sqlmap() -> Result<Counts> {
    sqlmap::run(&sqlmap::Options::bounded())
}

/// The part of the floods that is bounded in time, and judges no time.
pub(crate) fn bounded_floods() -> Result<Counts> {
    floods::run(&floods::Options::bounded())
}

/// The tests of the Core Rule Set, with the firewall detecting.
pub(crate) fn crs(places: &CrsPlaces) -> Result<CrsTally> {
    crs::measure(places, &crs::How { block: false, jobs: crs::JOBS, include: None, release: false })
}
