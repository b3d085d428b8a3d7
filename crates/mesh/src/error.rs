//! What can go wrong in the mesh.

/// Why an identity could not be made, kept or shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The store could not be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A key or certificate could not be made or used.
    #[error(transparent)]
    Keys(#[from] keys::Error),
    /// What is kept is not what was written.
    #[error("the kept authorities cannot be used: {0}")]
    Record(String),
    /// A bundle is none.
    #[error("the bundle of {trust_domain:?} is refused: {why}")]
    Bundle {
        /// Whose it was to be.
        trust_domain: String,
        /// What was expected and what was found.
        why: String,
    },
    /// A JWT-SVID is refused.
    #[error("the JWT-SVID is refused: {0}")]
    Token(String),
    /// The authority is not in a state for this.
    #[error("{0}")]
    Authority(String),
    /// There is no authority of this id.
    #[error("there is no authority {0:?}")]
    UnknownAuthority(String),
    /// It is revoked, or cannot be.
    #[error("{0}")]
    Revoked(String),
    /// A workload cannot be registered so.
    #[error("{0}")]
    Registered(String),
    /// No authority can sign now.
    #[error("no authority signs now: {0}")]
    NoAuthority(&'static str),
    /// So many are good that there are no more for now.
    #[error("{0}")]
    Exhausted(String),
    /// No document can be obtained.
    #[error("cannot obtain an SVID: {0}")]
    Unavailable(String),
    /// Other processes changed the same record each time.
    #[error("the authorities were changed by others at the same time; try again")]
    Busy,
    /// A socket could not be used.
    #[error("{place}: {source}")]
    Socket {
        /// Which.
        place: String,
        /// What the system said.
        source: std::io::Error,
    },
}
