//! Names of workloads.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest SPIFFE ID in bytes (SPIFFE-ID §2.3).
pub const SPIFFE_ID_BYTES_MAX: usize = 2048;
/// Longest trust domain in bytes (SPIFFE-ID §2.1).
pub const TRUST_DOMAIN_BYTES_MAX: usize = 255;

/// A workload's name, `spiffe://trust-domain/path` (SPIFFE-ID §2). Always valid and
/// in canonical form; compared byte by byte.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: String,
    path_start: usize,
}

/// Why a text is not a SPIFFE ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSpiffeId {
    /// The scheme must be `spiffe://` in lower case.
    #[error("a SPIFFE ID starts with spiffe://")]
    Scheme,
    /// Over one of the two length limits.
    #[error("a SPIFFE ID has at most 2048 bytes, its trust domain at most 255")]
    Length,
    /// Empty, or a character outside `a-z 0-9 . - _` (no port, no user).
    #[error("a trust domain has lower-case letters, digits, dots, dashes and underscores")]
    TrustDomain,
    /// An empty or dot segment, a trailing slash, or a character outside
    /// `A-Z a-z 0-9 . - _` (no query, fragment or percent-encoding).
    #[error("a SPIFFE path has non-empty segments of letters, digits, dots, dashes and underscores")]
    Path,
}

impl SpiffeId {
    /// The trust domain, for example `shop.example`.
    pub fn trust_domain(&self) -> &str {
        self.text.get("spiffe://".len()..self.path_start).unwrap_or_default()
    }

    /// The path with its leading slash, or empty for the trust domain itself.
    pub fn path(&self) -> &str {
        self.text.get(self.path_start..).unwrap_or_default()
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidSpiffeId;

    fn from_str(text: &str) -> Result<Self, InvalidSpiffeId> {
        if text.len() > SPIFFE_ID_BYTES_MAX {
            return Err(InvalidSpiffeId::Length);
        }
        let rest = text.strip_prefix("spiffe://").ok_or(InvalidSpiffeId::Scheme)?;
        let (domain, path) = match rest.find('/') {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        if domain.len() > TRUST_DOMAIN_BYTES_MAX {
            return Err(InvalidSpiffeId::Length);
        }
        let domain_byte = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if domain.is_empty() || !domain.bytes().all(domain_byte) {
            return Err(InvalidSpiffeId::TrustDomain);
        }
        let segment_ok = |segment: &str| {
            !matches!(segment, "" | "." | "..")
                && segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
        };
        if !path.is_empty() && !path.split('/').skip(1).all(segment_ok) {
            return Err(InvalidSpiffeId::Path);
        }
        Ok(Self { text: text.to_owned(), path_start: "spiffe://".len() + domain.len() })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.text, f)
    }
}

impl Serialize for SpiffeId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for SpiffeId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_honest_names() {
        for honest in
            ["spiffe://shop.example", "spiffe://shop.example/orders", "spiffe://a_b-c.1/ns/x/sa/Y.z"]
        {
            let id: SpiffeId = honest.parse().unwrap();
            assert_eq!(format!("spiffe://{}{}", id.trust_domain(), id.path()), honest);
        }
    }

    #[test]
    fn refuses_each_class_by_its_name() {
        let long_domain = format!("spiffe://{}", "a".repeat(TRUST_DOMAIN_BYTES_MAX + 1));
        let long = format!("spiffe://a/{}", "b".repeat(SPIFFE_ID_BYTES_MAX));
        let table = [
            ("https://shop.example/x", InvalidSpiffeId::Scheme),
            ("SPIFFE://shop.example/x", InvalidSpiffeId::Scheme),
            ("spiffe:///x", InvalidSpiffeId::TrustDomain),
            ("spiffe://Shop.example/x", InvalidSpiffeId::TrustDomain),
            ("spiffe://shop:443/x", InvalidSpiffeId::TrustDomain),
            ("spiffe://me@shop/x", InvalidSpiffeId::TrustDomain),
            ("spiffe://shop/", InvalidSpiffeId::Path),
            ("spiffe://shop/a//b", InvalidSpiffeId::Path),
            ("spiffe://shop/a/../b", InvalidSpiffeId::Path),
            ("spiffe://shop/a?x", InvalidSpiffeId::Path),
            ("spiffe://shop/a%20b", InvalidSpiffeId::Path),
            (long_domain.as_str(), InvalidSpiffeId::Length),
            (long.as_str(), InvalidSpiffeId::Length),
        ];
        for (text, reason) in table {
            assert_eq!(text.parse::<SpiffeId>(), Err(reason), "{text}");
        }
    }

    #[test]
    fn length_limits_hold_at_the_limit() {
        let domain = "a".repeat(TRUST_DOMAIN_BYTES_MAX);
        assert!(format!("spiffe://{domain}").parse::<SpiffeId>().is_ok());
        let path = "b".repeat(SPIFFE_ID_BYTES_MAX - "spiffe://a/".len());
        assert!(format!("spiffe://a/{path}").parse::<SpiffeId>().is_ok());
    }
}
