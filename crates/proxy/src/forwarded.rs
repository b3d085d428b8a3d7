//! Who the client is when trusted proxies stand before us: `Forwarded` (RFC 7239) and
//! `X-Forwarded-For`.
//!
//! The client is the right-most address that is not itself a trusted proxy: everything
//! to the left of it was written by somebody whom nobody vouches for. When a trusted
//! proxy vouches for something that is no address, the client is unknown, and the
//! request is refused: falling back to the proxy's own address would let a stranger
//! pass for a machine of the house.

use std::net::IpAddr;

use crate::address::AddressList;

/// Most hops that are read from the right. An empty element counts as one.
pub const HOPS_MAX: usize = 64;

/// Why the client's address cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownClient {
    /// A trusted proxy vouched for `unknown`, an obfuscated name, or something
    /// malformed.
    #[error("a trusted proxy's forwarding header names no address where the client's should stand")]
    NoAddress,
    /// `Forwarded` and `X-Forwarded-For` are both there and name different clients:
    /// one of them was sent by the client and passed through.
    #[error("Forwarded and X-Forwarded-For name different clients")]
    Disagreement,
    /// Over [`HOPS_MAX`] trusted hops.
    #[error("more than {HOPS_MAX} trusted hops")]
    TooManyHops,
}

/// The client's address.
///
/// `socket` is the connection's remote address, `trusted` the listener's trusted
/// proxies, `forwarded` and `x_forwarded_for` all values of those fields in the order
/// in which they came. From an untrusted socket the fields are not even read.
///
/// # Errors
/// [`UnknownClient`]; the request must be refused (400).
pub fn client_address<'a>(
    socket: IpAddr,
    trusted: &AddressList,
    forwarded: impl DoubleEndedIterator<Item = &'a [u8]>,
    x_forwarded_for: impl DoubleEndedIterator<Item = &'a [u8]>,
) -> Result<IpAddr, UnknownClient> {
    let socket = socket.to_canonical();
    if !trusted.contains(socket) {
        return Ok(socket);
    }
    let standard = walk(trusted, forwarded.rev().flat_map(elements_from_right), forwarded_for)?;
    let nodes = x_forwarded_for.rev().flat_map(|value| value.rsplit(|&byte| byte == b','));
    let customary = walk(trusted, nodes, node_address)?;
    match (standard, customary) {
        (Some(one), Some(other)) if one != other => Err(UnknownClient::Disagreement),
        (Some(client), _) | (None, Some(client)) => Ok(client),
        (None, None) => Ok(socket),
    }
}

/// The right-most untrusted hop, or the left-most of all when every one is trusted.
fn walk<'a>(
    trusted: &AddressList,
    hops_from_right: impl Iterator<Item = &'a [u8]>,
    address_of: fn(&[u8]) -> Option<IpAddr>,
) -> Result<Option<IpAddr>, UnknownClient> {
    let mut last = None;
    for (at, hop) in hops_from_right.map(<[u8]>::trim_ascii).enumerate() {
        if at == HOPS_MAX {
            return Err(UnknownClient::TooManyHops);
        }
        // A list may have empty elements (RFC 9110 §5.6.1.2).
        if hop.is_empty() {
            continue;
        }
        let address = address_of(hop).ok_or(UnknownClient::NoAddress)?;
        last = Some(address);
        if !trusted.contains(address) {
            break;
        }
    }
    Ok(last)
}

/// The elements of a `Forwarded` value, last first. A comma inside a quoted string
/// separates nothing (RFC 7239 §4), so the value is read once, from its left; whatever stands
/// before the last [`HOPS_MAX`] commas is one element, and one hop too many.
fn elements_from_right(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut cuts, mut found) = ([0; HOPS_MAX], 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in value.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' if !quoted => {
                if let Some(cut) = cuts.get_mut(found % HOPS_MAX) {
                    *cut = at;
                }
                found += 1;
            }
            _ => {}
        }
    }
    let mut rest = Some(value);
    (found.saturating_sub(HOPS_MAX)..=found).rev().map_while(move |past| {
        let text = rest?;
        // The oldest of the cuts that are known is the last one to be asked for.
        let cut = past.checked_sub(1).filter(|cut| cut + HOPS_MAX >= found);
        let cut = cut.and_then(|cut| cuts.get(cut % HOPS_MAX));
        rest = cut.and_then(|&at| text.get(..at));
        Some(cut.map_or(text, |&at| text.get(at + 1..).unwrap_or_default()))
    })
}

/// The address in an element's `for` parameter. Two of them, none, or an element that
/// breaks the grammar anywhere (RFC 7239 §4) are no address: an open quote sent by the
/// client could otherwise swallow what the proxy appended.
fn forwarded_for(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    let mut rest = element;
    loop {
        let (name, value, after) = pair(rest)?;
        if name.eq_ignore_ascii_case(b"for") && found.replace(value).is_some() {
            return None;
        }
        let after = after.trim_ascii_start();
        if after.is_empty() {
            return node_address(found?);
        }
        rest = after.strip_prefix(b";")?.trim_ascii_start();
    }
}

/// `name=token` or `name="quoted"` at the start: name, value, what follows. A quoted
/// value with an escape in it is taken for malformed: no node needs one.
fn pair(text: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (name, text) = split_once(text, b'=')?;
    let (value, after) = match text.strip_prefix(b"\"") {
        Some(open) => {
            let (value, after) = split_once(open, b'"')?;
            (!value.contains(&b'\\')).then_some((value, after))?
        }
        None => text.split_at(text.iter().position(|&byte| !is_token(byte)).unwrap_or(text.len())),
    };
    (!name.is_empty() && name.iter().all(|&byte| is_token(byte))).then_some((name, value, after))
}

/// RFC 9110 §5.6.2, and `:` and brackets, which many proxies leave unquoted.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:[]".contains(&byte)
}

/// A node: an address with or without a port, IPv6 in brackets (RFC 7239 §6) or, as
/// is customary in `X-Forwarded-For`, without.
fn node_address(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?;
    if let Some(open) = text.strip_prefix('[') {
        let (inside, after) = open.split_once(']')?;
        let port_ok = after.is_empty() || after.strip_prefix(':').is_some_and(is_port);
        let address: std::net::Ipv6Addr = inside.parse().ok()?;
        return port_ok.then(|| IpAddr::V6(address).to_canonical());
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical());
    }
    let (address, port) = text.split_once(':')?;
    let address: std::net::Ipv4Addr = address.parse().ok()?;
    is_port(port).then_some(IpAddr::V4(address))
}

/// A port, or an obfuscated one (RFC 7239 §6.3).
fn is_port(text: &str) -> bool {
    match text.strip_prefix('_') {
        Some(name) => {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
        }
        None => {
            (1..=5).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_digit())
                && text.parse::<u16>().is_ok()
        }
    }
}

fn split_once(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let place = memchr::memchr(at, bytes)?;
    Some((bytes.get(..place)?, bytes.get(place + 1..)?))
}

/// Appends an address as a `Forwarded` node: IPv6 quoted and in brackets (RFC 7239
/// §6).
pub fn append_node(value: &mut Vec<u8>, address: IpAddr) {
    use std::io::Write;
    // Writing to a vector cannot fail.
    let _ = match address.to_canonical() {
        IpAddr::V4(v4) => write!(value, "{v4}"),
        IpAddr::V6(v6) => write!(value, "\"[{v6}]\""),
    };
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::address::parse_entry;

    fn ask(socket: &str, forwarded: &[&str], customary: &[&str]) -> Result<IpAddr, UnknownClient> {
        let trusted = AddressList::new(
            ["10.0.0.0/8", "2001:db8:1::/48"].iter().map(|entry| parse_entry(entry).unwrap()),
        );
        client_address(
            socket.parse().unwrap(),
            &trusted,
            forwarded.iter().map(|value| value.as_bytes()),
            customary.iter().map(|value| value.as_bytes()),
        )
    }

    #[test]
    fn the_client_is_the_right_most_untrusted_address() {
        let table: &[(&str, &[&str], &[&str], &str)] = &[
            // From a stranger nothing is read, however well it looks.
            ("192.0.2.9", &["for=10.0.0.1"], &["10.0.0.1"], "192.0.2.9"),
            ("::ffff:192.0.2.9", &[], &["127.0.0.1"], "192.0.2.9"),
            // A trusted proxy without the fields is the client.
            ("10.0.0.1", &[], &[], "10.0.0.1"),
            // The honest way.
            ("10.0.0.1", &[], &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", &[], &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["for=198.51.100.7;proto=https;by=10.0.0.1"], &[], "198.51.100.7"),
            ("10.0.0.1", &["For=\"[2001:db8::7]:4711\""], &[], "2001:db8::7"),
            ("2001:db8:1::1", &[], &["2001:db8::7"], "2001:db8::7"),
            ("10.0.0.1", &[], &["[2001:db8::7]:80, 10.2.3.4:9"], "2001:db8::7"),
            ("10.0.0.1", &[], &["::ffff:198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["for=198.51.100.7"], &["198.51.100.7"], "198.51.100.7"),
            // What the client itself wrote stands to the left and is not read.
            ("10.0.0.1", &[], &["127.0.0.1, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &[], &["garbage\"\\,;, 198.51.100.7, 10.9.9.9"], "198.51.100.7"),
            ("10.0.0.1", &[], &["127.0.0.1", "198.51.100.7", "10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", &["for=10.0.0.5, for=198.51.100.7", "for=10.0.0.2"], &[], "198.51.100.7"),
            ("10.0.0.1", &["for=\"x, for=10.0.0.9\", for=198.51.100.7"], &[], "198.51.100.7"),
            ("10.0.0.1", &["for=_hidden, for=198.51.100.7"], &[], "198.51.100.7"),
            // All of the house: the farthest.
            ("10.0.0.1", &[], &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ];
        for (socket, forwarded, customary, expected) in table {
            assert_eq!(
                ask(socket, forwarded, customary),
                Ok(expected.parse().unwrap()),
                "{socket} {forwarded:?} {customary:?}"
            );
        }
    }

    #[test]
    fn a_client_that_cannot_be_told_is_refused() {
        use UnknownClient::{Disagreement, NoAddress, TooManyHops};
        let many = vec!["10.0.0.2"; HOPS_MAX + 1];
        let table: &[(&[&str], &[&str], UnknownClient)] = &[
            (&[], &["unknown"], NoAddress),
            (&["for=unknown"], &[], NoAddress),
            (&["for=_hidden"], &[], NoAddress),
            (&["proto=https"], &[], NoAddress),
            (&["for=198.51.100.7;for=10.0.0.9"], &[], NoAddress),
            (&["for=\"198.51.100.7"], &[], NoAddress),
            // An open quote before what the proxy appends.
            (&["for=10.0.0.9;x=\", for=198.51.100.7"], &[], NoAddress),
            (&["for=10.0.0.9;x=\", for=\"[2001:db8::7]\""], &[], NoAddress),
            (&["for=10.0.0.9;x=\"\\\", for=198.51.100.7"], &[], NoAddress),
            (&["for=10.0.0.9 x, for=198.51.100.7 y"], &[], NoAddress),
            (&[], &["198.51.100.7, 10.0.0.256"], NoAddress),
            (&[], &["198.51.100.7:99999"], NoAddress),
            (&[], &["198.51.100.7:+1"], NoAddress),
            (&[], &["[2001:db8::7"], NoAddress),
            (&[], &["198.51.100.7 10.0.0.1"], NoAddress),
            (&["for=10.0.0.9"], &["198.51.100.7"], Disagreement),
            (&[], &many, TooManyHops),
        ];
        for (forwarded, customary, expected) in table {
            assert_eq!(ask("10.0.0.1", forwarded, customary), Err(*expected), "{forwarded:?} {customary:?}");
        }
        let at_the_limit = vec!["10.0.0.2"; HOPS_MAX];
        assert_eq!(ask("10.0.0.1", &[], &at_the_limit), Ok("10.0.0.2".parse().unwrap()));
    }

    #[test]
    fn empty_elements_are_hops_too() {
        for (empty, right) in [(HOPS_MAX - 1, true), (HOPS_MAX, false), (60_000, false)] {
            for (name, hop) in [("for=198.51.100.7", false), ("198.51.100.7", true)] {
                let value = format!("{name}{}", ",".repeat(empty));
                let spread = vec![""; empty];
                let lines: Vec<&str> = std::iter::once(name).chain(spread).collect();
                for values in [&[value.as_str()][..], &lines] {
                    let (standard, customary) = if hop { (&[][..], values) } else { (values, &[][..]) };
                    let expected = if right {
                        Ok("198.51.100.7".parse().unwrap())
                    } else {
                        Err(UnknownClient::TooManyHops)
                    };
                    assert_eq!(ask("10.0.0.1", standard, customary), expected, "{name} {empty}");
                }
            }
        }
        // Those that a client sends stop no one: they stand to the left of what the proxy says.
        let value = format!("{}for=198.51.100.7", ",".repeat(60_000));
        assert_eq!(ask("10.0.0.1", &[&value], &[]), Ok("198.51.100.7".parse().unwrap()));
    }

    /// What [`elements_from_right`] does, cut by cut from the left.
    fn elements_plainly(value: &[u8]) -> Vec<&[u8]> {
        let (mut all, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
        for (at, &byte) in value.iter().enumerate() {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if quoted => escaped = true,
                b'"' => quoted = !quoted,
                b',' if !quoted => {
                    all.push(&value[begin..at]);
                    begin = at + 1;
                }
                _ => {}
            }
        }
        all.push(&value[begin..]);
        all.reverse();
        all
    }

    #[test]
    fn nodes_are_written_as_they_are_read() {
        for (address, text) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8::1", "\"[2001:db8::1]\""),
        ] {
            let mut value = Vec::new();
            append_node(&mut value, address.parse().unwrap());
            assert_eq!(value, text.as_bytes());
        }
    }

    proptest! {
        #[test]
        fn elements_come_from_the_right_as_they_stand(value in r#"[,,,,;"\\a =]{0,200}"#) {
            let plainly = elements_plainly(value.as_bytes());
            let read: Vec<&[u8]> = elements_from_right(value.as_bytes()).collect();
            let known = plainly.len().min(HOPS_MAX);
            prop_assert_eq!(&read[..known], &plainly[..known]);
            prop_assert_eq!(read.len(), plainly.len().min(HOPS_MAX + 1));
        }

        #[test]
        fn any_bytes_are_read_without_a_panic_and_appended_truth_wins(
            noise in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let trusted = AddressList::new([parse_entry("10.0.0.0/8").unwrap()]);
            let truth: IpAddr = "198.51.100.7".parse().unwrap();
            // A proxy that appends a line of its own cannot be talked out of it.
            let values = [noise.as_slice(), b"198.51.100.7"];
            let socket = "10.0.0.1".parse().unwrap();
            prop_assert_eq!(
                client_address(socket, &trusted, [].into_iter(), values.into_iter()),
                Ok(truth)
            );
            let values = [noise.as_slice(), b"for=198.51.100.7"];
            prop_assert_eq!(
                client_address(socket, &trusted, values.into_iter(), [].into_iter()),
                Ok(truth)
            );
            let _ = client_address(socket, &trusted, [noise.as_slice()].into_iter(), [noise.as_slice()].into_iter());
        }
    }
}
