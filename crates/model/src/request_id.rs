//! The name of one request.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A request's identifier: 128 bits, printed as 32 lower-case hexadecimal digits.
/// The first 48 bits are milliseconds since the epoch, so that ids sort by time (as
/// in UUID version 7, RFC 9562 §5.7); the rest is random.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(u128);

impl RequestId {
    /// From the time of arrival in milliseconds and 80 random bits (the upper 48 bits
    /// of `random` are ignored).
    pub const fn new(unix_millis: u64, random: u128) -> Self {
        Self(((unix_millis as u128) << 80) | (random & ((1 << 80) - 1)))
    }

    /// When the request arrived, milliseconds since the epoch.
    pub const fn unix_millis(self) -> u64 {
        (self.0 >> 80) as u64
    }

    /// The 16 bytes.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.to_be_bytes()
    }

    /// The 32 hexadecimal digits, without allocating.
    pub fn to_ascii(self) -> [u8; 32] {
        // Each byte's nibbles in two bytes of their own, all sixteen at once.
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0.to_be_bytes()) {
            pair.copy_from_slice(&[byte >> 4, byte & 0xf]);
        }
        text.map(|nibble| nibble + if nibble < 10 { b'0' } else { b'a' - 10 })
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What was given is not a request id.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a request id is 32 hexadecimal digits, found {found:?}")]
pub struct NotARequestId {
    found: String,
}

impl FromStr for RequestId {
    type Err = NotARequestId;

    fn from_str(text: &str) -> Result<Self, NotARequestId> {
        let wrong = || NotARequestId { found: text.chars().take(64).collect() };
        if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| wrong())
    }
}

impl Serialize for RequestId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RequestId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_value_agree() {
        let id = RequestId::new(1_795_384_267_123, u128::MAX);
        assert_eq!(id.unix_millis(), 1_795_384_267_123);
        assert_eq!(id.to_string().as_bytes(), id.to_ascii());
        assert_eq!(id.to_string().parse(), Ok(id));
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        for wrong in ["", "12", "+0000000000000000000000000000000", "g0000000000000000000000000000000"] {
            assert!(wrong.parse::<RequestId>().is_err(), "{wrong}");
        }
    }
}
