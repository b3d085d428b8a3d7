//! Which host a request names: exactly one, valid, and the same wherever it is
//! written.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use bytes::Bytes;

use super::table::Class;
use crate::head::{Fields, Known};

/// Longest host name in bytes (RFC 1035 §2.3.4).
const NAME_BYTES_MAX: usize = 253;
/// Longest label of a host name in bytes.
const LABEL_BYTES_MAX: usize = 63;

/// An authority as it was written somewhere.
#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    /// The port that the scheme beside it implies, when a scheme stands beside it.
    pub(super) scheme_port: Option<u16>,
    /// Host and port.
    pub(super) text: &'a [u8],
}

/// The host that a request names.
pub(super) struct Host {
    pub(super) name: Bytes,
    pub(super) port: Option<u16>,
}

/// The text is neither a host name nor an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a host name, an IPv4 address or an IPv6 address in brackets")]
pub struct InvalidHost;

/// The host of a request: from `authority` (absolute target or `:authority`) and the
/// `Host` field, which must agree (RFC 9112 §3.2.2, RFC 9113 §8.3.1).
pub(super) fn agree(buffer: &Bytes, authority: Option<Written<'_>>, fields: &Fields) -> Result<Host, Class> {
    let mut values = fields.values(Known::Host);
    let field = values.next();
    if values.next().is_some() {
        return Err(Class::DuplicateHost);
    }
    let (name, port) = match (authority, field) {
        (None, None) => return Err(Class::MissingHost),
        (None, Some(text)) => split(text)?,
        (Some(written), None) => split(written.text)?,
        (Some(written), Some(text)) => {
            let (name, port) = split(written.text)?;
            let (other_name, other_port) = split(text)?;
            let implied = written.scheme_port;
            if name != other_name || port.or(implied) != other_port.or(implied) {
                return Err(Class::HostDisagrees);
            }
            (name, port)
        }
    };
    let name = match name {
        Cow::Borrowed(slice) => buffer.slice_ref(slice),
        Cow::Owned(folded) => Bytes::from(folded),
    };
    Ok(Host { name, port })
}

/// Host and port of an authority.
fn split(text: &[u8]) -> Result<(Cow<'_, [u8]>, Option<u16>), Class> {
    // An IPv6 address has colons of its own, all of them before its bracket.
    let colon = match text.first() {
        Some(b'[') => memchr::memrchr(b']', text).map(|bracket| bracket + 1).filter(|&at| at < text.len()),
        _ => memchr::memchr(b':', text),
    };
    let Some(colon) = colon else { return Ok((name(text).ok_or(Class::BadHost)?, None)) };
    let (host, rest) = text.split_at(colon);
    let digits = rest.strip_prefix(b":").ok_or(Class::BadHost)?;
    Ok((name(host).ok_or(Class::BadHost)?, Some(port(digits).ok_or(Class::BadHost)?)))
}

/// A port: 1 to 65535, digits only, no leading zero.
fn port(digits: &[u8]) -> Option<u16> {
    if digits.len() > 5 || digits.first() == Some(&b'0') || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// The name folded: lower case, no trailing dot, IPv6 written canonically. Borrowed
/// when nothing had to change.
fn name(text: &[u8]) -> Option<Cow<'_, [u8]>> {
    if let Some(inner) = text.strip_prefix(b"[") {
        let inner = std::str::from_utf8(inner.strip_suffix(b"]")?).ok()?;
        let address: Ipv6Addr = inner.parse().ok()?;
        return Some(Cow::Owned(format!("[{address}]").into_bytes()));
    }
    let text = text.strip_suffix(b".").unwrap_or(text);
    if text.is_empty() || text.len() > NAME_BYTES_MAX {
        return None;
    }
    let (mut label, mut folded) = (0, true);
    for &byte in text {
        match byte {
            b'.' if label == 0 => return None,
            b'.' => label = 0,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => label += 1,
            b'A'..=b'Z' => {
                label += 1;
                folded = false;
            }
            _ => return None,
        }
        if label > LABEL_BYTES_MAX {
            return None;
        }
    }
    if label == 0 {
        return None;
    }
    Some(if folded { Cow::Borrowed(text) } else { Cow::Owned(text.to_ascii_lowercase()) })
}

/// A host from a configuration, folded as admission folds a request's: lower case, no
/// trailing dot, canonical IPv6. No port.
///
/// # Errors
/// The text is neither a name nor an address.
pub fn host_name(text: &str) -> Result<Box<[u8]>, InvalidHost> {
    name(text.as_bytes()).map(|name| name.into_owned().into_boxed_slice()).ok_or(InvalidHost)
}
