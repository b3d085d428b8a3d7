//! Configurations of other gateways, translated.
//!
//! INVARIANT: what an imported route lacks of its protection closes the route. A setting
//! that protects and that has no counterpart here is never left out of an open route: the
//! route is written down together with a `forbid` policy that names the reason.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

pub mod keycloak;
pub mod kong;
mod yaml;

/// What became of a part of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Not translated, and therefore nobody gets in.
    Closed,
    /// Not translated; nothing that protects depends on it.
    Dropped,
    /// Translated; it behaves differently, as said.
    Changed,
    /// Translated.
    Translated,
}

impl Outcome {
    /// The word for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Dropped => "not translated",
            Self::Changed => "changed",
            Self::Translated => "translated",
        }
    }
}

/// What became of one thing, and where it stands in the source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Finding {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What it is: `plugin cors of route "orders"`.
    pub what: String,
    /// What became of it.
    pub outcome: Outcome,
    /// How, or why not.
    pub note: String,
}

/// A file that belongs to the configuration.
#[derive(Clone)]
pub struct SideFile {
    /// Relative to the folder of the configuration.
    pub path: PathBuf,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// A translated configuration.
pub struct Imported {
    /// `bastide.yaml` and what it names. All are made readable for their owner alone.
    pub files: Vec<SideFile>,
    /// What became of what, in the order of the source.
    pub findings: Vec<Finding>,
    /// What is left to do by hand, as commands or sentences.
    pub next_steps: Vec<String>,
}

impl Imported {
    /// With what is left to do said of the files as they are written to this folder.
    pub fn written_to(mut self, out: &std::path::Path) -> Self {
        let main = PathBuf::from("bastide.yaml");
        let has_main = self.files.iter().any(|file| file.path == main);
        for step in &mut self.next_steps {
            for file in &self.files {
                let within = file.path.display().to_string();
                *step = step.replace(&within, &out.join(&file.path).display().to_string());
            }
            if has_main && step.starts_with("bastide ") {
                step.push_str(&format!(" --config {}", out.join(&main).display()));
            }
        }
        self
    }

    /// Whether a route or a client is closed for something that was not translated.
    pub fn is_closed(&self) -> bool {
        self.findings.iter().any(|finding| finding.outcome == Outcome::Closed)
    }
}

/// Why nothing could be translated: line, column, what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.message)
    }
}
