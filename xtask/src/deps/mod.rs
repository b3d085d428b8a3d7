//! What the workspace is built from: open advisories, licences, banned crates, sources.
//!
//! The rules stand in `dependencies.toml` at the workspace's root. A deviation needs a
//! reason and a last day; past that day the check is red again.

mod advisories;
mod graph;
mod rules;

use crate::{clock, workspace};
use anyhow::{Context, Result, bail};
use graph::Crate;
use rules::{Check, Rules};
use std::path::{Path, PathBuf};

/// What to check against.
#[derive(clap::Args, Clone, Default)]
#[group(skip)]
pub(crate) struct Options {
    /// Folder with a copy of the RustSec advisory database [default: ../shared/advisory-db, else a clone]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) advisory_db: Option<PathBuf>,
    /// Clone the current advisory database even when a copy lies at hand
    #[arg(long)]
    pub(crate) online: bool,
}

/// What a check found: faults turn it red, notes are worth knowing.
#[derive(Default)]
pub(crate) struct Findings {
    /// Each with what it is about, so that an exception can name it.
    faults: Vec<Fault>,
    notes: Vec<String>,
}

/// A rule that is not kept.
struct Fault {
    check: Check,
    /// What an exception names: an advisory's id or a crate's name.
    subject: String,
    text: String,
}

/// How it ended when nothing was wrong.
pub(crate) enum Outcome {
    /// Everything was checked.
    Complete,
    /// The rest was checked; this was not, and why.
    Partial(String),
}

/// Checks and prints; red when a fault is left that no exception covers.
pub(crate) fn run(options: &Options) -> Result<()> {
    check(options).map(|_| ())
}

/// As [`run`], and says whether something had to be skipped.
pub(crate) fn check(options: &Options) -> Result<Outcome> {
    let root = workspace::root()?;
    let path = root.join("dependencies.toml");
    let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let rules = Rules::parse(&text).with_context(|| format!("in {}", path.display()))?;
    let crates = graph::read(&root)?;
    let lockfile = std::fs::read_to_string(root.join("Cargo.lock")).context("reading Cargo.lock")?;

    let mut findings = judge(&rules, &crates);
    let outcome = match database(&root, options)? {
        Ok(folder) => {
            println!("advisories: {}", folder.display());
            findings.extend(advisories::check(&folder, &lockfile, clock::today())?);
            Outcome::Complete
        }
        Err(reason) => {
            println!("advisories: skipped: {reason}");
            Outcome::Partial(format!("advisories: {reason}"))
        }
    };
    let left = rules.except(findings, clock::today());
    for note in &left.notes {
        println!("note: {note}");
    }
    for fault in &left.faults {
        println!("{}: {}", fault.check.name(), fault.text);
    }
    match left.faults.len() {
        0 => println!("dependencies: {} crates, nothing against dependencies.toml", crates.len()),
        count => bail!(
            "{count} faults in the dependencies; update or replace the crate, or add an [[exception]] with a reason \
             and a last day to dependencies.toml"
        ),
    }
    Ok(outcome)
}

impl Findings {
    fn fault(&mut self, check: Check, subject: &str, text: String) {
        self.faults.push(Fault { check, subject: subject.to_owned(), text });
    }

    fn extend(&mut self, other: Self) {
        self.faults.extend(other.faults);
        self.notes.extend(other.notes);
    }
}

/// Licences, bans and sources of the crates of the graph.
fn judge(rules: &Rules, crates: &[Crate]) -> Findings {
    let mut findings = Findings::default();
    for part in crates {
        if let Some(reason) = rules.banned(&part.name) {
            findings.fault(
                Check::Ban,
                &part.name,
                format!(
                    "{} is banned: {reason}; see who needs it with `cargo tree -i {}`",
                    part.title(),
                    part.name
                ),
            );
        }
        if let Err(reason) = rules.licence(part.licence.as_deref()) {
            findings.fault(Check::Licence, &part.name, format!("{}: {reason}", part.title()));
        }
        if let Some(source) = part.foreign_source() {
            findings.fault(
                Check::Source,
                &part.name,
                format!("{} comes from {source}: expected the registry or this workspace", part.title()),
            );
        }
    }
    let mut names: Vec<_> = crates.iter().map(|part| part.name.as_str()).collect();
    names.sort_unstable();
    let mut twice: Vec<_> = names
        .windows(2)
        .filter_map(|pair| matches!(pair, [a, b] if a == b).then(|| pair.first().copied())?)
        .collect();
    twice.dedup();
    if !twice.is_empty() {
        findings.notes.push(format!("in several versions: {}", twice.join(", ")));
    }
    findings
}

/// The folder with the advisories, or why there is none.
fn database(root: &Path, options: &Options) -> Result<Result<PathBuf, String>> {
    if let Some(folder) = &options.advisory_db {
        if !folder.join("crates").is_dir() {
            bail!(
                "--advisory-db {}: expected a copy of the RustSec database (a folder with `crates/`)",
                folder.display()
            );
        }
        return Ok(Ok(folder.clone()));
    }
    let beside = root.join("../shared/advisory-db");
    if beside.join("crates").is_dir() && !options.online {
        return Ok(Ok(beside));
    }
    let cloned = advisories::clone(&workspace::target()?.join("advisory-db"));
    match cloned {
        Err(reason) if options.online => bail!("--online: {reason}"),
        other => Ok(other),
    }
}

#[cfg(test)]
mod tests;
