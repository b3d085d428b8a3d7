//! What can go wrong, as decisions that a caller can take.

use std::path::PathBuf;

use crate::record::Version;

/// Why something was not stored or not read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A record is not as the caller expected; nothing of the transaction was done. Read
    /// again and decide again.
    #[error("operation {operation}: expected another version of the record, found {}", found_text(*.found))]
    Conflict {
        /// Which operation of the transaction, counted from 0.
        operation: usize,
        /// The version that stands there; `None`: no such record.
        found: Option<Version>,
    },
    /// The call asks for more than a bound allows; nothing was done.
    #[error("expected at most {most} {what}, found {found}")]
    TooLarge {
        /// What there is too much of, with its unit.
        what: &'static str,
        /// How much was found.
        found: usize,
        /// How much there can be.
        most: usize,
    },
    /// The call makes no sense; nothing was done.
    #[error("{0}")]
    Usage(&'static str),
    /// A value is not what the caller's type expects.
    #[error("the value of the record is not what was expected: {0}")]
    Decode(serde_json::Error),
    /// No room is left on the device; nothing was done. Reading goes on, in PostgreSQL as far as
    /// no page has to be written for it.
    #[error("no space is left for the database: {0}")]
    Full(String),
    /// The database cannot be reached or is busy; nothing was done. Try again.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The connection broke while a transaction was being committed, and whether it was
    /// cannot be found out. Read again before trying again.
    #[error("it is unknown whether the transaction was committed: {0}")]
    Unknown(String),
    /// What is stored was damaged or changed by somebody else than the store, or the
    /// keyring does not belong to it. Restore a backup.
    #[error("stored data is damaged: {0}")]
    Corrupt(String),
    /// The unseal key is not the one of this store.
    #[error("the unseal key is not the one of this store")]
    WrongKey,
    /// The unseal key, or a share of it, cannot be read.
    #[error("{place}: {why}")]
    Key {
        /// Which file, variable or share.
        place: String,
        /// What was expected, what was found, and what to do.
        why: String,
    },
    /// The store was never initialised.
    #[error("there is no store yet: make one with `bastide init`")]
    Uninitialised,
    /// The store exists already.
    #[error("there is a store already; it was not changed")]
    Initialised,
    /// A newer version has changed the tables.
    #[error("the tables have format {found}, this version knows up to {known}: run the newer version")]
    Format {
        /// The format that was found.
        found: u32,
        /// The newest that is known.
        known: u32,
    },
    /// A setting, such as the address of the database, cannot be used.
    #[error("{0}")]
    Settings(String),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The cryptographic library refused; it does not say why.
    #[error("{0} failed in the cryptographic library")]
    Cryptography(&'static str),
    /// The store is closing.
    #[error("the store is closed")]
    Closed,
}

fn found_text(found: Option<Version>) -> String {
    found.map_or_else(|| "none".to_owned(), |version| format!("version {version}"))
}
