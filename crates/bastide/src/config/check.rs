//! `bastide check FILE`: what a reload would say.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Configuration, Disk, Fault, Files, Severity, load};

/// What `bastide check` found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file that was checked.
    pub file: PathBuf,
    /// Whether a reload would take it.
    pub ok: bool,
    /// Everything that is wrong.
    pub faults: Vec<Fault>,
    /// What is allowed but unwise.
    pub warnings: Vec<Fault>,
    /// Number of listeners; these and the following are 0 when there are faults.
    pub listeners: usize,
    /// Number of services that are declared: not those that this process answers itself.
    pub services: usize,
    /// Number of routes.
    pub routes: usize,
    /// Number of policy files.
    pub policy_sources: usize,
}

/// Checks `path` as it lies on the disk.
pub fn check(path: &Path, environment: &dyn Fn(&str) -> Option<String>) -> Report {
    check_with(path, environment, &Disk)
}

/// Checks `path` among `files`.
pub fn check_with(path: &Path, environment: &dyn Fn(&str) -> Option<String>, files: &dyn Files) -> Report {
    match load(path, environment, files) {
        Ok(configuration) => Report::good(path, &configuration),
        Err(findings) => Report::bad(path, findings),
    }
}

impl Report {
    /// Of a configuration that would not be taken.
    pub fn bad(path: &Path, findings: Vec<Fault>) -> Self {
        let (faults, warnings) = findings.into_iter().partition(|f| f.severity == Severity::Fault);
        Self {
            file: path.to_owned(),
            ok: false,
            faults,
            warnings,
            listeners: 0,
            services: 0,
            routes: 0,
            policy_sources: 0,
        }
    }

    /// Of a configuration that would be taken.
    pub fn good(path: &Path, configuration: &Configuration) -> Self {
        Self {
            file: path.to_owned(),
            ok: true,
            faults: Vec::new(),
            warnings: configuration.warnings.clone(),
            listeners: configuration.listeners.len(),
            services: configuration.services.iter().filter(|service| !service.in_process).count(),
            routes: configuration.routes.len(),
            policy_sources: configuration.policies.sources.len(),
        }
    }

    /// The exit status that `bastide check` ends with: 0 or 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.ok)
    }

    /// The report as one JSON object.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in self.faults.iter().chain(&self.warnings) {
            writeln!(f, "{finding}")?;
        }
        let count =
            |findings: &[Fault], what| counted(findings.iter().map(|one| one.count).sum::<usize>(), what);
        let warnings = count(&self.warnings, "warning");
        if self.ok {
            write!(
                f,
                "{}: ok: {}, {}, {}, {}, {warnings}",
                self.file.display(),
                counted(self.listeners, "listener"),
                counted(self.routes, "route"),
                counted(self.services, "service"),
                counted(self.policy_sources, "policy file"),
            )
        } else {
            write!(f, "{}: refused: {}, {warnings}", self.file.display(), count(&self.faults, "fault"))
        }
    }
}

/// `1 rule`, `2 rules`.
pub(crate) fn counted<N: fmt::Display + PartialEq + From<u8>>(number: N, what: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {what}{plural}")
}
