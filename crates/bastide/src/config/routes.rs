//! `routes:`: what may be reached and under which conditions.

use std::fmt;
use std::time::Duration;

use super::{Addresses, Match, RateLimit, Timeouts};

/// One route.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its name, unique: what policies, audit and metrics call it.
    pub name: String,
    /// Which requests it takes.
    pub matches: Match,
    /// Where they go: the position in [`super::Configuration::services`].
    pub service: usize,
    /// Proofs of identity that are looked for, in this order. Empty: none
    /// (`authenticate: none`), everybody is anonymous here.
    pub authenticate: Vec<Proof>,
    /// Who decides.
    pub allow: Allow,
    /// Rate limits, all of which must grant.
    pub limits: Vec<RateLimit>,
    /// Requests at the same time over all cores.
    pub concurrency: Option<u32>,
    /// Address lists, besides the global ones.
    pub addresses: Addresses,
    /// Cross-origin rules; `None`: no cross-origin headers at all.
    pub cors: Option<Cors>,
    /// Whether `%2F` stays in a path segment and goes on as it came.
    pub encoded_slashes: bool,
    /// Protocols that `Upgrade` may ask for, lower case.
    pub upgrades: Vec<String>,
    /// Taken off the path before it goes upstream. Starts with `/`, no `/` at the end.
    pub strip_prefix: Option<String>,
    /// Changes to the request's headers.
    pub request_headers: HeaderRules,
    /// Changes to the response's headers.
    pub response_headers: HeaderRules,
    /// Largest request body in bytes; `None`: the global limit.
    pub body_max: Option<u64>,
    /// The service's timeouts with the route's own put over them.
    pub timeouts: Timeouts,
}

/// A proof of identity that a route looks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// A bearer token (RFC 6750).
    Jwt,
    /// An API key.
    ApiKey,
    /// A TLS client certificate.
    Certificate,
}

/// Who decides about a route's requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allow {
    /// The policies.
    Policy,
    /// Everybody who proved an identity.
    Authenticated,
    /// Everybody.
    Anyone,
}

/// Cross-origin rules (Fetch §3.2).
#[derive(Clone, Debug, PartialEq)]
pub struct Cors {
    /// Origins that may read answers.
    pub origins: Origins,
    /// Methods beyond the simple ones, upper case.
    pub methods: Vec<String>,
    /// Request headers beyond the simple ones, lower case.
    pub headers: Vec<String>,
    /// Response headers that pages may read, lower case.
    pub expose: Vec<String>,
    /// Whether cookies and client certificates count.
    pub credentials: bool,
    /// How long a browser may remember a preflight.
    pub max_age: Duration,
}

/// Which origins.
#[derive(Clone, Debug, PartialEq)]
pub enum Origins {
    /// `*`; never together with credentials.
    Any,
    /// These, as browsers write them: `https://app.example.org`.
    List(Vec<String>),
}

/// Changes to headers. `Debug` shows names only: values can hold secrets.
#[derive(Clone, Default, PartialEq)]
pub struct HeaderRules {
    /// Set, replacing what was there: lower-case name, value.
    pub set: Vec<(String, String)>,
    /// Taken away: lower-case names.
    pub remove: Vec<String>,
}

impl fmt::Debug for HeaderRules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.set.iter().map(|(name, _)| name.as_str()).collect();
        f.debug_struct("HeaderRules").field("set", &names).field("remove", &self.remove).finish()
    }
}

/// Response headers that every answer gets unless the upstream set them.
#[derive(Clone, Debug, PartialEq)]
pub struct SecurityHeaders {
    /// `Strict-Transport-Security` max-age on TLS listeners (RFC 6797 §6.1.1); zero:
    /// not sent.
    pub hsts: Duration,
    /// `X-Frame-Options`.
    pub frame_options: String,
    /// `Referrer-Policy`.
    pub referrer_policy: String,
}
