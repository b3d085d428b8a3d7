//! Fields that keep browsers and upstreams safe: what every answer carries, what no
//! answer carries.

use proxy::Additions;

/// Fields of every answer over TLS and cleartext alike, with conservative values. An
/// upstream's own value of the same name is replaced only where ours is stricter by
/// definition.
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    list: Vec<(String, String)>,
    secure_only: Vec<(String, String)>,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        Self {
            list: vec![
                pair("x-content-type-options", "nosniff"),
                pair("x-frame-options", "DENY"),
                pair("referrer-policy", "strict-origin-when-cross-origin"),
                pair("cross-origin-opener-policy", "same-origin"),
            ],
            secure_only: vec![pair("strict-transport-security", "max-age=31536000")],
        }
    }
}

impl SecurityHeaders {
    /// No fields at all, for `security_headers: false`.
    pub fn none() -> Self {
        Self { list: Vec::new(), secure_only: Vec::new() }
    }

    /// Adds the fields to an answer. `Strict-Transport-Security` is meaningless over
    /// cleartext (RFC 6797 §7.2) and left out there.
    pub fn mark(&self, secure: bool, response: &mut Additions) {
        let secure_only = if secure { self.secure_only.as_slice() } else { &[] };
        for (name, value) in self.list.iter().chain(secure_only) {
            if !response.has(name.as_bytes()) {
                let _ = response.push(name, value.as_bytes());
            }
        }
    }
}

/// Response fields of upstreams that only tell an attacker what runs there.
pub const DROPPED_FROM_RESPONSES: [&str; 4] = ["server", "x-powered-by", "x-aspnet-version", "x-aspnetmvc-version"];
