//! Fields that keep browsers and upstreams safe: what every answer carries, what no
//! answer carries, and what a route changes.

use model::Switch;
use proxy::head::Manner;
use proxy::rate::Grant;
use proxy::{Additions, Routed};

use crate::journey::Journey;
use crate::serve::Gateway;
use crate::snapshot::Route;
use crate::step::identity::HEADER_REQUEST_ID;
use crate::step::limit;
use crate::template::{Into, Template};

/// Response fields of upstreams that only tell an attacker what runs there.
pub const DROPPED_FROM_RESPONSES: [&str; 4] =
    ["server", "x-powered-by", "x-aspnet-version", "x-aspnetmvc-version"];

/// Fields of every answer, unless the upstream set them itself.
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    always: Vec<(&'static str, String)>,
    over_tls: Vec<(&'static str, String)>,
    /// What an upstream's answer gets: over cleartext, over TLS.
    prepared: [Additions; 2],
}

impl SecurityHeaders {
    /// None: only what tells an attacker what runs there is taken away.
    pub fn none() -> Self {
        Self::of(Vec::new(), Vec::new())
    }

    /// `X-Content-Type-Options`, `X-Frame-Options`, `Referrer-Policy`, and over TLS
    /// `Strict-Transport-Security` with this max-age in seconds (0: not sent; over
    /// cleartext it has no meaning, RFC 6797 §7.2).
    pub fn new(hsts_seconds: u64, frame_options: &str, referrer_policy: &str) -> Self {
        let always = vec![
            ("x-content-type-options", "nosniff".to_owned()),
            ("x-frame-options", frame_options.to_owned()),
            ("referrer-policy", referrer_policy.to_owned()),
        ];
        let hsts = ("strict-transport-security", format!("max-age={hsts_seconds}"));
        Self::of(always, if hsts_seconds == 0 { Vec::new() } else { vec![hsts] })
    }

    fn of(always: Vec<(&'static str, String)>, over_tls: Vec<(&'static str, String)>) -> Self {
        let mut headers = Self { always, over_tls, prepared: Default::default() };
        headers.prepared = [false, true].map(|secure| {
            let mut prepared = Additions::default();
            DROPPED_FROM_RESPONSES.iter().for_each(|name| prepared.remove(name));
            headers.mark(secure, &mut prepared);
            prepared
        });
        headers
    }

    /// The fields of an answer.
    pub fn list(&self, secure: bool) -> impl Iterator<Item = (&'static str, &str)> {
        let over_tls = if secure { self.over_tls.as_slice() } else { &[] };
        self.always.iter().chain(over_tls).map(|(name, value)| (*name, value.as_str()))
    }

    /// Adds the fields to an answer that has none of its own, and where nothing was decided about them.
    pub fn mark(&self, secure: bool, response: &mut Additions) {
        if Switch::SecurityHeaders.is_off() {
            return;
        }
        for (name, value) in self.list(secure) {
            let _ = response.set_default(name, value.as_bytes());
        }
    }

    /// What an upstream's answer gets and loses, made before any request came.
    fn prepared(&self, secure: bool) -> &Additions {
        let [clear, over_tls] = &self.prepared;
        if secure { over_tls } else { clear }
    }
}

/// A route's changes to fields.
#[derive(Clone, Debug, Default)]
pub struct HeaderRules {
    /// Set, replacing what was there: lower-case name, value.
    pub set: Vec<(String, Template)>,
    /// Added beside what is there: lower-case name, value.
    pub add: Vec<(String, Template)>,
    /// Taken away: lower-case names.
    pub remove: Vec<String>,
}

impl HeaderRules {
    /// Writes the changes for one request. A value that no header can hold is left out.
    pub fn apply(&self, routed: &Routed, message: &mut Additions) {
        for name in &self.remove {
            message.remove(name);
        }
        let mut filled = Vec::new();
        for (list, manner) in [(&self.set, Manner::Replace), (&self.add, Manner::Beside)] {
            for (name, value) in list {
                filled.clear();
                value.fill(routed, Into::Header, &mut filled);
                let _ = message.push_as(manner, name, &filled);
            }
        }
    }
}

/// Everything that is added to the upstream's answer.
pub fn additions(
    gateway: &Gateway,
    journey: &Journey<'_>,
    route: &Route,
    routed: &Routed,
    grant: &Grant,
) -> Additions {
    let mut response = gateway.core().spare_fields();
    response.extend(gateway.snapshot().security.prepared(journey.is_secure()));
    route.response_headers.apply(routed, &mut response);
    if let Some(cors) = &route.cors {
        cors.mark(routed.head(), &mut response);
    }
    limit::mark(gateway.core(), route, grant, &mut response);
    let _ = response.push(HEADER_REQUEST_ID, &journey.id_text);
    response
}
