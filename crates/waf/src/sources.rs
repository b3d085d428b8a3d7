//! Where rule files and the files they name come from: the caller reads, the crate asks.

use std::fmt;

/// Why a file could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFault(pub String);

impl fmt::Display for SourceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The files that a rule set may name. Paths are handed over already resolved by
/// [`resolve`]; what lies behind them is the caller's business.
pub trait Sources {
    /// The whole file.
    ///
    /// # Errors
    /// When there is no such file, or it cannot be read.
    fn read(&self, path: &str) -> Result<Vec<u8>, SourceFault>;

    /// The files that match a pattern of `*`, `?` and `[…]`, sorted by name.
    ///
    /// # Errors
    /// When the folder cannot be read.
    fn glob(&self, pattern: &str, from: &str) -> Result<Vec<String>, SourceFault>;
}

/// `path` as seen from the file `from`: an absolute path stays, a relative one starts
/// in the folder of `from`.
#[must_use]
pub fn resolve(from: &str, path: &str) -> String {
    if path.starts_with('/') {
        return path.to_owned();
    }
    match from.rsplit_once('/') {
        Some((folder, _)) => format!("{folder}/{path}"),
        None => path.to_owned(),
    }
}
