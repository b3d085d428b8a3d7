//! Whose limit it is.

use std::hash::Hasher;
use std::net::IpAddr;

use model::{ClientNetwork, PrincipalKind};

/// Whose limit it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// A client's address; it counts for its [`ClientNetwork`].
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
            Self::Address(address) => match ClientNetwork::of(*address) {
                ClientNetwork::V4(address) => {
                    hasher.write_u8(4);
                    hasher.write_u32(address.to_bits());
                }
                ClientNetwork::V6(upper) => {
                    hasher.write_u8(6);
                    hasher.write_u64(upper);
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
            Self::Address(address) => match ClientNetwork::of(*address) {
                ClientNetwork::V4(address) => (4 << 32) | u64::from(address.to_bits() >> 16),
                ClientNetwork::V6(upper) => (6 << 32) | (upper >> 32),
            },
            _ => hash >> 56,
        }
    }
}
