//! What can go wrong outside of a client's request.
//!
//! What is wrong with a request is a refusal, and becomes an answer.

/// Why a realm could not be opened, or could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The settings contradict themselves or a specification.
    #[error("realm {realm:?}: {why}")]
    Settings {
        /// Which realm.
        realm: String,
        /// What was expected and what was found.
        why: String,
    },
    /// A client, user or other record that was given cannot be kept.
    #[error("{what}: {why}")]
    Record {
        /// Which one.
        what: String,
        /// What was expected and what was found.
        why: String,
    },
    /// Somebody else has shown that the e-mail address of a user is theirs.
    #[error("{what}: email: another user has shown that this address is theirs")]
    Owned {
        /// Which user.
        what: String,
    },
    /// The store refused or failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A record in the store does not read back as what it should be.
    #[error("stored {kind}: {source}")]
    Content {
        /// Of which kind.
        kind: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A key could not be made, read or used.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// Somebody else changed the same record at each attempt.
    #[error("{0} was changed by others at each attempt")]
    Contended(&'static str),
    /// The generator of random numbers failed.
    #[error("the system's random number generator failed")]
    Random,
    /// A password could not be hashed.
    #[error("a password could not be hashed: {0}")]
    Password(String),
    /// The realm has no mail server.
    #[error("this realm has no mail server: set `mail`")]
    NoMail,
    /// A page could not be made.
    #[error("a page could not be made: {0}")]
    Page(#[from] askama::Error),
}
