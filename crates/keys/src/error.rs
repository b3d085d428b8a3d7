//! What can go wrong outside of a request: configuration, files, key sets.
//!
//! What is wrong with a client's credential is a [`crate::Refusal`].

use std::path::PathBuf;

/// Why keys could not be loaded, made, fetched or kept.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A JSON Web Key cannot be used.
    #[error("key {key_id}: {why}")]
    Key {
        /// Its `kid`, or its place in the set.
        key_id: String,
        /// What was expected and what was found.
        why: String,
    },
    /// A set of keys as a whole cannot be used.
    #[error("key set: {0}")]
    KeySet(String),
    /// An issuer's settings contradict each other or another issuer's.
    #[error("issuer {issuer:?}: {why}")]
    Issuer {
        /// The issuer as configured.
        issuer: String,
        /// What was expected and what was found.
        why: String,
    },
    /// A document could not be fetched. The old keys stay in use.
    #[error("fetching {url}: {why}")]
    Fetch {
        /// From where.
        url: String,
        /// What happened.
        why: String,
    },
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file holds something else than expected, or others may read a secret.
    #[error("{}: {why}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What was expected, what was found, and what to do.
        why: String,
    },
    /// An API key, certificate or token was asked for that cannot be made.
    #[error("{0}")]
    Request(String),
    /// The cryptographic library refused; it does not say why.
    #[error("{0} failed in the cryptographic library")]
    Cryptography(&'static str),
}
