//! Whose limit it is.

use std::hash::Hasher;
use std::net::IpAddr;

use model::PrincipalKind;

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A client's address. IPv6 counts by /64, since one subscriber holds at least
    /// that much; an IPv4 address mapped into IPv6 (RFC 4291 §2.5.5.2) counts as IPv4.
    Address(IpAddr),
    /// A principal of any kind.
    Principal(PrincipalKind, &'a str),
    /// An API key, by its id.
    ApiKey(&'a str),
    /// Everybody on a route together, by its name.
    Route(&'a str),
}

impl Subject<'_> {
    /// Feeds the subject, so that no two different ones feed the same bytes.
    pub(super) fn feed(&self, hasher: &mut impl Hasher) {
        match self {
            Self::Address(address) => match address.to_canonical() {
                IpAddr::V4(v4) => {
                    hasher.write_u8(4);
                    hasher.write_u32(v4.to_bits());
                }
                IpAddr::V6(v6) => {
                    hasher.write_u8(6);
                    hasher.write_u64((v6.to_bits() >> 64) as u64);
                }
            },
            Self::Principal(kind, id) => {
                hasher.write_u8(b'p');
                hasher.write(kind.name().as_bytes());
                hasher.write_u8(0);
                hasher.write(id.as_bytes());
            }
            Self::ApiKey(id) => {
                hasher.write_u8(b'k');
                hasher.write(id.as_bytes());
            }
            Self::Route(name) => {
                hasher.write_u8(b'r');
                hasher.write(name.as_bytes());
            }
        }
    }

    /// The neighbourhood whose shared cell is charged when the subject has none of its
    /// own: /16 of IPv4, /32 of IPv6. Subjects without an order are grouped by `hash`.
    pub(super) fn prefix(&self, hash: u64) -> u64 {
        match self {
            Self::Address(address) => match address.to_canonical() {
                IpAddr::V4(v4) => (4 << 32) | u64::from(v4.to_bits() >> 16),
                IpAddr::V6(v6) => (6 << 32) | (v6.to_bits() >> 96) as u64,
            },
            _ => hash >> 56,
        }
    }
}
