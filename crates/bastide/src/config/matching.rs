//! `match:`: which requests a route takes.

use http::Method;

/// Which requests a route takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    /// Host.
    pub host: HostMatch,
    /// Path pattern, starts with `/`: literal segments, `{name}` for one segment, `**`
    /// as the last segment for any rest.
    pub path: String,
    /// Methods; empty: any.
    pub methods: Vec<Method>,
    /// Headers that must be there with exactly this value: lower-case name, value.
    pub headers: Vec<(String, String)>,
}

/// Which hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HostMatch {
    /// Any.
    Any,
    /// Exactly this one, lower case, without port.
    Exact(String),
    /// `*.` and this: exactly one more label in front. Lower case.
    Wildcard(String),
}
