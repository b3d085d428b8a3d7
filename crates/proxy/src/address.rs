//! Lists of addresses: who may come near at all.
//!
//! A list is a sorted array of merged ranges for each family, searched by halving:
//! 100,000 networks take 17 steps and 0.8 MB (IPv4) or 3.2 MB (IPv6). An IPv4 address
//! mapped into IPv6 (RFC 4291 §2.5.5.2) is that IPv4 address, in lists and in
//! questions alike, so that a dual-stack socket is no way around a list. A wider IPv6
//! network such as `::/0` means IPv6 addresses only.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net};

/// Longest line of a list file that is quoted in an error, characters.
const QUOTED_CHARACTERS_MAX: usize = 64;

/// Why an entry cannot stand in a list.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidEntry {
    /// Neither an address nor a network.
    #[error("expected an address or a network such as 10.0.0.0/8 or 2001:db8::/32, found {found:?}")]
    Unreadable {
        /// The entry.
        found: String,
    },
    /// Bits are set beyond the prefix: perhaps another prefix was meant.
    #[error("{found} has bits set beyond its prefix (did you mean {network}, or {address}?)")]
    HostBits {
        /// The entry.
        found: String,
        /// The network that contains it.
        network: String,
        /// The single address.
        address: String,
    },
}

/// An inclusive range of addresses of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub first: IpAddr,
    /// Last address.
    pub last: IpAddr,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { self.first.fmt(f) } else { write!(f, "{}–{}", self.first, self.last) }
    }
}

/// A set of addresses. Immutable once made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressList {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
    entries: usize,
}

impl AddressList {
    /// From networks, in any order, overlapping or not.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        let mut list = Self::default();
        for network in networks {
            list.entries += 1;
            match canonical(network) {
                IpNet::V4(v4) => list.v4.push((v4.network().to_bits(), v4.broadcast().to_bits())),
                IpNet::V6(v6) => list.v6.push((v6.network().to_bits(), v6.broadcast().to_bits())),
            }
        }
        merge(&mut list.v4, |last| last.checked_add(1));
        merge(&mut list.v6, |last| last.checked_add(1));
        list
    }

    /// Whether the address is in the list.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.find(address).is_some()
    }

    /// The merged range that holds the address.
    pub fn find(&self, address: IpAddr) -> Option<Range> {
        match address.to_canonical() {
            IpAddr::V4(v4) => search(&self.v4, v4.to_bits()).map(|(first, last)| Range {
                first: Ipv4Addr::from_bits(first).into(),
                last: Ipv4Addr::from_bits(last).into(),
            }),
            IpAddr::V6(v6) => search(&self.v6, v6.to_bits()).map(|(first, last)| Range {
                first: Ipv6Addr::from_bits(first).into(),
                last: Ipv6Addr::from_bits(last).into(),
            }),
        }
    }

    /// How many entries it was made from.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Whether no address is in it.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Reads one entry: `10.0.0.0/8`, `192.0.2.7`, `2001:db8::/32`.
///
/// # Errors
/// The entry is no network, or has bits set beyond its prefix.
pub fn parse_entry(text: &str) -> Result<IpNet, InvalidEntry> {
    let quoted = || text.chars().take(QUOTED_CHARACTERS_MAX).collect::<String>();
    let network: IpNet = text
        .parse()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| InvalidEntry::Unreadable { found: quoted() })?;
    if network.addr() != network.network() {
        return Err(InvalidEntry::HostBits {
            found: quoted(),
            network: network.trunc().to_string(),
            address: network.addr().to_string(),
        });
    }
    Ok(network)
}

/// What lists say about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may come near.
    Allowed,
    /// It is in this range of the deny list.
    Denied(Range),
    /// There is an allow list, and it is not in it.
    NotAllowed,
}

/// An allow list and a deny list. Deny wins; where an allow list stands, everybody
/// else is refused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressRules {
    /// Who may come near; `None` for everybody. An empty list is nobody.
    pub allow: Option<AddressList>,
    /// Who may not.
    pub deny: AddressList,
}

impl AddressRules {
    /// What the lists say.
    pub fn admit(&self, address: IpAddr) -> Admission {
        if let Some(range) = self.denied(address) {
            return Admission::Denied(range);
        }
        match &self.allow {
            Some(allow) if !allow.contains(address) => Admission::NotAllowed,
            _ => Admission::Allowed,
        }
    }
}

impl AddressRules {
    /// The range by which an address may not come: its own, or that of an IPv4 address for which it
    /// stands. Only `deny` looks at these: no list lets somebody in for an address that is not theirs.
    fn denied(&self, address: IpAddr) -> Option<Range> {
        let found = self.deny.find(address);
        let IpAddr::V6(v6) = address.to_canonical() else { return found };
        found.or_else(|| embedded(v6).into_iter().flatten().find_map(|v4| self.deny.find(v4.into())))
    }
}

/// The IPv4 addresses of which an IPv6 address is a translation. Of the prefix for local NAT64 it is not
/// known how long the translator's own is: each length is one possibility.
fn embedded(address: Ipv6Addr) -> [Option<Ipv4Addr>; 4] {
    let bits = address.to_bits();
    let at = |shift: u32| Some(Ipv4Addr::from_bits(u32::try_from(bits >> shift & 0xffff_ffff).unwrap_or(0)));
    // RFC 6052 §2.2: bits 64 to 71 are left out.
    let around = |length: u32| {
        let without = (bits >> 64 << 56) | (bits & ((1 << 56) - 1));
        Some(Ipv4Addr::from_bits(u32::try_from(without >> (88 - length) & 0xffff_ffff).unwrap_or(0)))
    };
    match address.segments() {
        // NAT64 (RFC 6052 §2.1), IPv4-translated (RFC 2765 §2.1), IPv4-compatible (RFC 4291 §2.5.5.1).
        [0x64, 0xff9b, 0, 0, 0, 0, ..] | [0, 0, 0, 0, 0xffff, 0, ..] => [at(0), None, None, None],
        [0, 0, 0, 0, 0, 0, high, _] if high != 0 => [at(0), None, None, None],
        // Local NAT64 (RFC 8215).
        [0x64, 0xff9b, 1, ..] => [at(0), around(48), around(56), around(64)],
        // 6to4 (RFC 3056 §2).
        [0x2002, ..] => [at(80), None, None, None],
        // Teredo has the client's address inverted (RFC 4380 §4).
        [0x2001, 0, ..] => [at(0).map(|v4| !v4), None, None, None],
        _ => [None; 4],
    }
}

/// A network of mapped IPv4 addresses as the IPv4 network that it means.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    let (Some(v4), Some(length)) = (v6.network().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) else {
        return network;
    };
    Ipv4Net::new(v4, length).map_or(network, IpNet::V4)
}

/// Sorts, and joins ranges that overlap or touch.
fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>, next: impl Fn(T) -> Option<T>) {
    ranges.sort_unstable();
    ranges.dedup_by(|later, kept| {
        let touches = next(kept.1).is_none_or(|after| later.0 <= after);
        if touches {
            kept.1 = kept.1.max(later.1);
        }
        touches
    });
    ranges.shrink_to_fit();
}

fn search<T: Ord + Copy>(ranges: &[(T, T)], wanted: T) -> Option<(T, T)> {
    let after = ranges.partition_point(|range| range.0 <= wanted);
    let range = *ranges.get(after.checked_sub(1)?)?;
    (wanted <= range.1).then_some(range)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(entries: &[&str]) -> AddressList {
        AddressList::new(entries.iter().map(|entry| parse_entry(entry).unwrap()))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn lists_hold_what_they_say_and_nothing_beside() {
        let table: &[(&[&str], &[&str], &[&str])] = &[
            (&[], &[], &["0.0.0.0", "::", "255.255.255.255"]),
            (&["10.0.0.0/8"], &["10.0.0.0", "10.255.255.255"], &["9.255.255.255", "11.0.0.0", "::a00:0"]),
            (&["192.0.2.7"], &["192.0.2.7", "::ffff:192.0.2.7"], &["192.0.2.6", "192.0.2.8", "::192.0.2.7"]),
            (&["0.0.0.0/0"], &["0.0.0.0", "255.255.255.255", "::ffff:1.2.3.4"], &["::", "2001:db8::1"]),
            (&["::/0"], &["::", "2001:db8::1", "ffff::"], &["1.2.3.4", "::ffff:1.2.3.4"]),
            (&["::ffff:10.0.0.0/104"], &["10.1.2.3", "::ffff:10.1.2.3"], &["11.0.0.0"]),
            (&["2001:db8::/32", "2001:db9::/32"], &["2001:db8::", "2001:db9:ffff::"], &["2001:dba::"]),
            (&["10.0.0.0/9", "10.128.0.0/9", "10.3.0.0/16"], &["10.3.0.1", "10.200.0.0"], &["11.0.0.0"]),
        ];
        for (entries, inside, outside) in table {
            let list = list(entries);
            for text in *inside {
                assert!(list.contains(address(text)), "{text} is in {entries:?}");
            }
            for text in *outside {
                assert!(!list.contains(address(text)), "{text} is not in {entries:?}");
            }
        }
    }

    #[test]
    fn a_translation_of_a_denied_ipv4_address_is_denied_and_of_an_allowed_one_not_allowed() {
        let rules = AddressRules { allow: None, deny: list(&["10.1.2.0/24"]) };
        let forms = |v4: [u8; 4]| {
            let [a, b, c, d] = v4;
            let inverted = v4.map(|byte| !byte);
            let [e, f, g, h] = inverted;
            [
                format!("{a}.{b}.{c}.{d}"),
                format!("::ffff:{a}.{b}.{c}.{d}"),
                format!("::ffff:0:{a}.{b}.{c}.{d}"),
                format!("::{a}.{b}.{c}.{d}"),
                format!("64:ff9b::{a}.{b}.{c}.{d}"),
                format!("64:ff9b:1::{a}.{b}.{c}.{d}"),
                format!("64:ff9b:1:7:8:9:{a}.{b}.{c}.{d}"),
                format!("64:ff9b:1:{a:02x}{b:02x}:00{c:02x}:{d:02x}00::"),
                format!("64:ff9b:1:fe{a:02x}:00{b:02x}:{c:02x}{d:02x}::"),
                format!("64:ff9b:1:fefe:00{a:02x}:{b:02x}{c:02x}:{d:02x}00:0"),
                format!("2002:{a:02x}{b:02x}:{c:02x}{d:02x}::1"),
                format!("2001:0:0808:0808:0:1234:{e:02x}{f:02x}:{g:02x}{h:02x}"),
            ]
        };
        for (v4, denied) in
            [([10, 1, 1, 255], false), ([10, 1, 2, 0], true), ([10, 1, 2, 255], true), ([10, 1, 3, 0], false)]
        {
            for form in forms(v4) {
                let found = matches!(rules.admit(address(&form)), Admission::Denied(_));
                assert_eq!(found, denied, "{form}");
            }
        }
        // Beside those prefixes the same bits are an address like any other.
        for other in [
            "64:ff9a::10.1.2.3",
            "64:ff9b:0:0:0:1:a01:203",
            "64:ff9b:2::10.1.2.3",
            "2001:1::f5fe:fdfc",
            "2003:a01:203::1",
            "2001:db8::10.1.2.3",
            "::1",
        ] {
            assert_eq!(rules.admit(address(other)), Admission::Allowed, "{other}");
        }
        let within = AddressRules { allow: Some(list(&["10.1.2.0/24"])), deny: AddressList::default() };
        for form in forms([10, 1, 2, 3]).iter().skip(2) {
            assert_eq!(within.admit(address(form)), Admission::NotAllowed, "{form}");
        }
    }

    #[test]
    fn deny_wins_and_an_allow_list_closes_the_rest() {
        let range = |list: &AddressList, text| Admission::Denied(list.find(address(text)).unwrap());
        let deny = list(&["10.6.0.0/16", "::ffff:10.7.0.0/112"]);
        let rules = AddressRules { allow: Some(list(&["10.0.0.0/8"])), deny: deny.clone() };
        for (text, expected) in [
            ("10.1.0.1", Admission::Allowed),
            ("::ffff:10.1.0.1", Admission::Allowed),
            ("10.6.0.1", range(&deny, "10.6.0.1")),
            ("::ffff:10.6.0.1", range(&deny, "10.6.0.1")),
            ("10.7.0.1", range(&deny, "10.7.0.1")),
            ("192.0.2.1", Admission::NotAllowed),
            ("2001:db8::1", Admission::NotAllowed),
        ] {
            assert_eq!(rules.admit(address(text)), expected, "{text}");
        }
        assert_eq!(AddressRules::default().admit(address("192.0.2.1")), Admission::Allowed);
        let nobody = AddressRules { allow: Some(AddressList::default()), deny: AddressList::default() };
        assert_eq!(nobody.admit(address("127.0.0.1")), Admission::NotAllowed);
    }

    #[test]
    fn faults_name_the_remedy() {
        let said = |text: &str| parse_entry(text).unwrap_err().to_string();
        assert_eq!(
            said("10.1.2.3/8"),
            "10.1.2.3/8 has bits set beyond its prefix (did you mean 10.0.0.0/8, or 10.1.2.3?)"
        );
        for text in ["ten.example", "1.2.3.4/33"] {
            assert!(said(text).starts_with("expected an address or a network"), "{}", said(text));
        }
        assert!(parse_entry("2001:db8::/32").is_ok());
    }

    fn any_network() -> impl Strategy<Value = IpNet> {
        // Narrow bases, so that networks overlap, nest and touch.
        prop_oneof![
            (0u32..64, 24u8..=32).prop_map(|(host, length)| {
                IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits((10 << 24) | (host << 2)), length).trunc())
            }),
            (0u128..64, 120u8..=128).prop_map(|(host, length)| {
                let base = 0x2001_0db8_u128 << 96;
                IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::from_bits(base | (host << 2)), length).trunc())
            }),
            (0u32..64, 120u8..=128).prop_map(|(host, length)| {
                let mapped = Ipv4Addr::from_bits((10 << 24) | (host << 2)).to_ipv6_mapped();
                IpNet::V6(ipnet::Ipv6Net::new_assert(mapped, length).trunc())
            }),
            Just("0.0.0.0/0".parse().unwrap()),
            Just("255.255.255.255/32".parse().unwrap()),
            Just("ffff::/16".parse().unwrap()),
        ]
    }

    fn any_address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![
            (0u32..300).prop_map(|host| Ipv4Addr::from_bits((10 << 24) | host).into()),
            (0u32..300).prop_map(|host| Ipv4Addr::from_bits((10 << 24) | host).to_ipv6_mapped().into()),
            (0u128..300).prop_map(|host| Ipv6Addr::from_bits((0x2001_0db8_u128 << 96) | host).into()),
            any::<u32>().prop_map(|bits| Ipv4Addr::from_bits(bits).into()),
            any::<u128>().prop_map(|bits| Ipv6Addr::from_bits(bits).into()),
        ]
    }

    proptest! {
        #[test]
        fn agrees_with_a_linear_scan(
            networks in prop::collection::vec(any_network(), 0..24),
            questions in prop::collection::vec(any_address(), 1..64),
        ) {
            let list = AddressList::new(networks.iter().copied());
            for question in questions {
                let plain = question.to_canonical();
                let mapped = |address: IpAddr| match address {
                    IpAddr::V4(v4) => IpAddr::V6(v4.to_ipv6_mapped()),
                    v6 => v6,
                };
                let scanned = networks.iter().any(|network| {
                    let of_mapped = network.prefix_len() >= 96 && network.network() != network.network().to_canonical();
                    network.contains(&plain) && plain.is_ipv4() == network.addr().is_ipv4()
                        || of_mapped && network.contains(&mapped(plain))
                });
                prop_assert_eq!(list.contains(question), scanned, "{}", question);
            }
        }
    }

    #[test]
    fn a_hundred_thousand_networks_are_held_one_by_one() {
        // Every second /24, so that nothing merges; and as many of IPv6.
        let v4 = (0..100_000u32).map(|n| IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::from_bits(n << 9), 24)));
        let v6 = (0..100_000u128).map(|n| {
            IpNet::V6(ipnet::Ipv6Net::new_assert(Ipv6Addr::from_bits((0x2001_u128 << 112) | (n << 65)), 64))
        });
        let list = AddressList::new(v4.chain(v6));
        assert_eq!((list.v4.len(), list.v6.len(), list.entries()), (100_000, 100_000, 200_000));
        for n in 0..100_000u32 {
            assert!(list.contains(Ipv4Addr::from_bits((n << 9) | 77).into()));
            assert!(!list.contains(Ipv4Addr::from_bits((n << 9) | 256).into()));
        }
    }
}
