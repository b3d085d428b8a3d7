//! `identity:`: what upstreams are told about the principal.

use std::time::Duration;

/// What upstreams are told about the principal.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Whether `x-bastide-…` headers are sent.
    pub headers: bool,
    /// Whether a signed token is sent.
    pub token: bool,
    /// The token's `iss`.
    pub issuer: String,
    /// How long a token is valid.
    pub lifetime: Duration,
}
