//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Whether a finding stops the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The configuration is refused.
    Fault,
    /// The configuration is taken; somebody should look.
    Warning,
}

/// One thing that is wrong, and where: `bastide.yaml:14:9: unknown service "oders"
/// (did you mean "orders"?)`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Fault or warning.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// The column in characters, from 1; 0 when the whole file is meant.
    pub column: u32,
    /// What was expected and what was found.
    pub message: String,
    /// What to do, when that is known.
    pub suggestion: Option<String>,
    /// How many findings it stands for: more than one where it says how many are not listed.
    #[serde(skip)]
    pub count: usize,
}

impl Fault {
    /// A fault without a position in the file.
    pub fn whole_file(file: &Path, message: String) -> Self {
        Self {
            severity: Severity::Fault,
            file: file.to_owned(),
            line: 0,
            column: 0,
            message,
            suggestion: None,
            count: 1,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if self.severity == Severity::Warning {
            f.write_str(" warning:")?;
        }
        write!(f, " {}", self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, " ({suggestion})"),
            None => Ok(()),
        }
    }
}
