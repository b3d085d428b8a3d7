//! Open advisories of the RustSec database against Cargo.lock.

use super::{Findings, rules::Check};
use crate::{clock::Date, command};
use anyhow::{Context, Result};
use rustsec::{Database, Lockfile, Report, advisory::Informational, report::Settings};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

/// Where a current copy is had.
const DATABASE: &str = "https://github.com/RustSec/advisory-db";
/// A machine without a network must not wait for one.
const CLONE_SECONDS_MAX: &str = "120";
/// A copy whose newest advisory is older than this is called stale.
const STALE_AFTER_DAYS: i64 = 30;

/// Vulnerabilities, unsound and unmaintained crates are faults, notices are notes.
///
/// # Errors
/// A database or lock file that cannot be read.
pub(super) fn check(folder: &Path, lockfile: &str, today: Date) -> Result<Findings> {
    let database = Database::open(folder)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("reading the advisory database in {}", folder.display()))?;
    let lockfile = Lockfile::from_str(lockfile).context("reading Cargo.lock")?;
    let settings = Settings {
        informational_warnings: vec![
            Informational::Unmaintained,
            Informational::Unsound,
            Informational::Notice,
        ],
        ..Settings::default()
    };
    let report = Report::generate(&database, &lockfile, &settings);

    let mut findings = Findings::default();
    for found in &report.vulnerabilities.list {
        let fixed: Vec<_> = found.versions.patched().iter().map(ToString::to_string).collect();
        let remedy = if fixed.is_empty() {
            "no fixed release".to_owned()
        } else {
            format!("fixed in {}", fixed.join(", "))
        };
        let text = format!(
            "{} {} has {}: {} ({remedy})",
            found.package.name, found.package.version, found.advisory.id, found.advisory.title
        );
        findings.fault(Check::Advisory, found.advisory.id.as_str(), text);
    }
    for warning in report.warnings.values().flatten() {
        let Some(advisory) = &warning.advisory else { continue };
        let kind = advisory.informational.as_ref().map_or("notice", Informational::as_str);
        let text = format!(
            "{} {} is {kind} ({}): {}",
            warning.package.name, warning.package.version, advisory.id, advisory.title
        );
        if kind == "notice" {
            findings.notes.push(text);
        } else {
            findings.fault(Check::Advisory, advisory.id.as_str(), text);
        }
    }
    if let Some(newest) =
        database.iter().filter_map(|advisory| Date::parse(advisory.metadata.date.as_str())).max()
    {
        let age_days = today.days() - newest.days();
        if age_days > STALE_AFTER_DAYS {
            findings.notes.push(format!("the advisory database is stale: its newest entry is of {newest}; `cargo xtask deps --online` fetches a current one"));
        }
    }
    Ok(findings)
}

/// Fetches the current database into `folder`, or says why that did not work.
pub(super) fn clone(folder: &Path) -> Result<PathBuf, String> {
    if folder.exists() {
        std::fs::remove_dir_all(folder)
            .map_err(|error| format!("could not clear {}: {error}", folder.display()))?;
    }
    let fetched = command::read(
        Command::new("timeout")
            .env("GIT_TERMINAL_PROMPT", "0")
            .args([CLONE_SECONDS_MAX, "git"])
            .args(["-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=15"])
            .args(["clone", "--quiet", "--depth", "1", DATABASE])
            .arg(folder),
    );
    fetched.map(|_| folder.to_path_buf()).map_err(|error| {
        let reason = format!("{error:#}");
        let reason = reason.lines().last().unwrap_or("").trim();
        format!("{DATABASE} cannot be cloned ({reason}); lay a copy at ../shared/advisory-db or name one with --advisory-db")
    })
}
