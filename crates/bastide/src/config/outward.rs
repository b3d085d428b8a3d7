//! What leads out to a collector: how far it may go, whom it trusts, what it shows there.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use model::Secret;

use super::decoder::{Decoder, Table};
use super::node::{Node, Value};
use super::values::{self, Unfit};
use super::{authentication, schema};

/// Fields that frame a message or name its target: never anybody's to set.
const FRAMING: [&str; 7] =
    ["host", "content-length", "content-type", "transfer-encoding", "connection", "te", "upgrade"];
/// Largest number of further fields.
const HEADERS_MAX: usize = 32;

/// A value that is shown to nobody but the one whom it is for.
#[derive(Clone)]
pub struct Hidden(Arc<Secret<String>>);

impl Hidden {
    fn new(text: &str) -> Self {
        Self(Arc::new(Secret::new(text.to_owned())))
    }

    /// The value itself.
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl PartialEq for Hidden {
    fn eq(&self, other: &Self) -> bool {
        self.0.matches(other.expose().as_bytes())
    }
}

/// How far something that is sent out may go.
#[derive(Clone, Debug, PartialEq)]
pub struct Outward {
    /// Whether loopback and private addresses may be reached.
    pub allow_private_addresses: bool,
    /// The authorities that are trusted; the public ones when `None`.
    pub ca: Option<PathBuf>,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// Further fields: lower-case name, value.
    pub headers: Vec<(String, Hidden)>,
}

pub(super) const ALLOW_PRIVATE: schema::Key = schema::key(
    "allow_private_addresses",
    "true or false",
    "false",
    "Allows loopback and private addresses; on loopback also without TLS.",
);
pub(super) const DANGER_PLAIN: schema::Key = schema::key(
    "danger_plain_http",
    "true or false",
    "false",
    "With `allow_private_addresses`: also allows other machines without TLS. Anybody on the network path can read it, credentials included.",
);
pub(super) const CA: schema::Key =
    schema::key("ca", "path", "the public authorities", "PEM file with the trusted authorities.");
pub(super) const TIMEOUT: schema::Key =
    schema::key("timeout", "duration from 100ms to 1m", "10s", "How long one attempt may take.");
pub(super) const HEADERS: schema::Key = schema::key(
    "headers",
    "map of header name to text",
    "none",
    "Further header fields, for example with a credential: `authorization: Bearer ${TOKEN}`. Never shown.",
);

impl Decoder<'_> {
    /// What a table says about calls outward.
    pub(super) fn outward(&mut self, table: &Table<'_>) -> Outward {
        let flag = |decoder: &mut Self, key| table.get(key).and_then(|node| decoder.boolean(node));
        Outward {
            allow_private_addresses: flag(self, "allow_private_addresses").unwrap_or(false),
            ca: table.get("ca").and_then(|node| self.authorities(node)),
            timeout: table
                .get("timeout")
                .and_then(|node| self.span(node, 100, 60_000))
                .unwrap_or(Duration::from_secs(10)),
            headers: table.get("headers").map_or_else(Vec::new, |node| self.hidden_headers(node)),
        }
    }

    /// A duration within bounds, in milliseconds.
    pub(super) fn span(&mut self, node: &Node, least_ms: u64, most_ms: u64) -> Option<Duration> {
        let duration = self.value(node, values::duration)?;
        let fits = (u128::from(least_ms)..=u128::from(most_ms)).contains(&duration.as_millis());
        if !fits {
            self.expected(node, &format!("a duration from {least_ms}ms to {}s", most_ms / 1000));
        }
        fits.then_some(duration)
    }

    /// Where something is sent by HTTP: `https://`, or `http://` where nobody is on the
    /// way. No path after it ends in a slash.
    pub(super) fn outward_url(
        &mut self,
        node: &Node,
        table: &Table<'_>,
        outward: &Outward,
    ) -> Option<String> {
        let url = self.value(node, url)?;
        let Some(rest) = url.strip_prefix("http://") else { return Some(url) };
        let plain = self.plain(table);
        self.safe_without_tls(node, rest.split('/').next().unwrap_or_default(), plain, outward).then_some(url)
    }

    /// Whether `danger_plain_http` is set.
    pub(super) fn plain(&mut self, table: &Table<'_>) -> bool {
        self.danger(table, "danger_plain_http", "what is sent can be read on its way")
    }

    /// Whether nobody can be on the way to `authority`, or that was allowed.
    pub(super) fn safe_without_tls(
        &mut self,
        node: &Node,
        authority: &str,
        plain: bool,
        outward: &Outward,
    ) -> bool {
        let loopback = is_loopback(authority);
        let safe = outward.allow_private_addresses && (plain || loopback);
        if !safe {
            let suggestion = if loopback {
                "allow_private_addresses: true, for a collector on this machine"
            } else {
                "use TLS"
            };
            self.advise(node.at, "what is sent could be read on its way", suggestion);
        }
        safe
    }

    fn hidden_headers(&mut self, node: &Node) -> Vec<(String, Hidden)> {
        let entries = self.named(node, "a map of header name to text");
        if entries.len() > HEADERS_MAX {
            self.expected(node, &format!("at most {HEADERS_MAX} header fields"));
        }
        let mut headers = Vec::new();
        for (name, value) in entries {
            match values::header_name(&name.text) {
                Ok(lower) if FRAMING.contains(&lower.as_str()) => {
                    self.fault(name.at, format!("{lower} is set by what is sent"));
                }
                Ok(lower) => {
                    if let Some(value) = self.hidden(value) {
                        headers.push((lower, value));
                    }
                }
                Err(unfit) => self.fault(name.at, format!("expected {}", unfit.expected)),
            }
        }
        headers
    }

    /// A text that is shown to nobody.
    pub(super) fn hidden(&mut self, node: &Node) -> Option<Hidden> {
        let text = match &node.value {
            Value::Scalar(scalar) => scalar.text.as_str(),
            Value::Broken => return None,
            _ => {
                self.fault(node.at, "expected a text");
                return None;
            }
        };
        // Faults about it do not show it, whether it was expanded or not.
        if text.is_empty() || values::header_value(text).is_err() {
            self.fault(node.at, "expected printable ASCII without spaces around it (the value is not shown)");
            return None;
        }
        Some(Hidden::new(text))
    }
}

/// The host of `host:port` or `[v6]:port`.
pub(super) fn host_of(authority: &str) -> &str {
    let name = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'))
        .map_or(authority, |(name, _)| name);
    name.trim_matches(['[', ']'])
}

/// Whether `host` or `host:port` is this machine.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = host_of(authority);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// A URL without the slash at its end.
fn url(text: &str) -> Result<String, Unfit> {
    const EXPECTED: &str = "a URL such as https://collector.example.org:4318";
    let url = authentication::url(text).map_err(|unfit| Unfit { expected: EXPECTED, ..unfit })?;
    Ok(url.trim_end_matches('/').to_owned())
}
