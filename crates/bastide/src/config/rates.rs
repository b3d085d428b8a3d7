//! `limit:`: how many requests, for whom.

use std::time::Duration;

/// How many requests, for whom: `100/minute per user burst 20`.
#[derive(Clone, Debug, PartialEq)]
pub struct RateLimit {
    /// Requests per period, at least 1.
    pub requests: u32,
    /// The period: a second, a minute, an hour or a day.
    pub period: Duration,
    /// Requests beyond the rate that may come at once.
    pub burst: u32,
    /// What is counted apart.
    pub by: LimitBy,
}

/// What a limit counts apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LimitBy {
    /// The client's address; counted before authentication.
    Address,
    /// The principal.
    Principal,
    /// The credential: the API key; for other credentials the principal.
    Key,
    /// Nothing: all requests of the route together.
    Route,
}
