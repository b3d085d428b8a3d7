//! Which host a request names: exactly one, valid, and the same wherever it is
//! written.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use super::table::Class;
use crate::head::{Fields, Known, RequestHead, Version};

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
/// `Host` field, which must agree (RFC 9112 §3.2.2, RFC 9113 §8.3.1). Where neither is written, and
/// need not be, it is `local`.
pub(super) fn agree(
    buffer: &Bytes,
    authority: Option<Written<'_>>,
    fields: &Fields,
    local: Option<SocketAddr>,
) -> Result<Host, Class> {
    let mut values = fields.values(Known::Host);
    let field = values.next();
    if values.next().is_some() {
        return Err(Class::DuplicateHost);
    }
    let (name, port) = match (authority, field) {
        (None, None) => return local.map(of_address).ok_or(Class::MissingHost),
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

impl RequestHead {
    /// Whether the client has said which host it means. Where it has not, as it need not in HTTP/1.0, the host is
    /// the address that it has connected to.
    pub fn names_host(&self) -> bool {
        let is_origin = self.raw_target.starts_with(b"/") || *self.raw_target == *b"*";
        self.version != Version::Http10 || !is_origin || self.fields.get(Known::Host).is_some()
    }
}

/// An address as a client that named it would have.
fn of_address(address: SocketAddr) -> Host {
    let name = match address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    };
    Host { name: Bytes::from(name), port: Some(address.port()) }
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
    let fits = matches!(digits.len(), 1..=5) && digits.first() != Some(&b'0');
    if !fits || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0'));
    u16::try_from(number).ok()
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
    let (mut begin, mut folded) = (0, true);
    for (at, &byte) in text.iter().enumerate() {
        match KINDS.get(usize::from(byte)) {
            Some(Kind::Lower) => {}
            Some(Kind::Upper) => folded = false,
            Some(Kind::Dot) if is_label(begin, at) => begin = at + 1,
            _ => return None,
        }
    }
    if !is_label(begin, text.len()) {
        return None;
    }
    Some(if folded { Cow::Borrowed(text) } else { Cow::Owned(text.to_ascii_lowercase()) })
}

/// Whether a label may stand from `begin` up to `end`.
const fn is_label(begin: usize, end: usize) -> bool {
    begin < end && end - begin <= LABEL_BYTES_MAX
}

/// What a byte is in a host name.
#[derive(Clone, Copy)]
enum Kind {
    /// May stand in a label as it is.
    Lower,
    /// Is folded.
    Upper,
    Dot,
    Foreign,
}

const KINDS: [Kind; 256] = {
    let mut kinds = [Kind::Foreign; 256];
    let mut byte = 0;
    #[expect(clippy::indexing_slicing, reason = "a constant loop over all 256 bytes")]
    while byte < 256 {
        kinds[byte] = match byte as u8 {
            b'.' => Kind::Dot,
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => Kind::Lower,
            b'A'..=b'Z' => Kind::Upper,
            _ => Kind::Foreign,
        };
        byte += 1;
    }
    kinds
};

/// A host from a configuration, folded as admission folds a request's: lower case, no
/// trailing dot, canonical IPv6. No port.
///
/// # Errors
/// The text is neither a name nor an address.
pub fn host_name(text: &str) -> Result<Box<[u8]>, InvalidHost> {
    name(text.as_bytes()).map(|name| name.into_owned().into_boxed_slice()).ok_or(InvalidHost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_labels_of_one_to_63_bytes() {
        let long = "a".repeat(LABEL_BYTES_MAX);
        let full = format!("{0}.{0}.{0}.{1}", long, "a".repeat(NAME_BYTES_MAX - 3 * 64));
        for good in ["a", "a.b", "localhost", "x_y-z.0", "1.2.3.4", &long, &format!("{long}.a.{long}"), &full]
        {
            assert_eq!(name(good.as_bytes()).as_deref(), Some(good.as_bytes()), "{good}");
            let upper = good.to_ascii_uppercase() + ".";
            assert_eq!(name(upper.as_bytes()).as_deref(), Some(good.as_bytes()), "{upper}");
        }
        for bad in [
            "",
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            "a b",
            "a/b",
            "a\0",
            "é",
            "a:",
            "[",
            "a]",
            "*.a",
            "a%2e",
            &format!("{long}a"),
            &format!("{long}a.b"),
            &format!("b.{long}a"),
            &format!("{full}a"),
        ] {
            assert_eq!(name(bad.as_bytes()), None, "{bad}");
        }
        for byte in 0..=u8::MAX {
            let fits = byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
            assert_eq!(name(&[b'a', byte, b'b']).is_some(), fits || byte == b'.', "{byte:#x}");
        }
    }

    #[test]
    fn a_port_is_one_to_65535() {
        for number in 1..=u16::MAX {
            assert_eq!(port(number.to_string().as_bytes()), Some(number));
        }
        for bad in
            ["", "0", "00", "01", "65536", "99999", "100000", "4294967376", "8o", "+1", "-1", " 1", "1 "]
        {
            assert_eq!(port(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
