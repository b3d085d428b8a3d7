//! `@ipMatch` and `@ipMatchFromFile`: addresses and networks, IPv4 and IPv6. An IPv4
//! address in IPv6 form (`::ffff:192.0.2.1`) is the IPv4 address.

use super::{Argument, Found, OperatorFault};
use std::net::IpAddr;

/// Most networks of one list.
pub(super) const NETWORKS_MAX: usize = 1_000_000;

/// Networks as ranges that do not touch, in order: one look-up is a binary search.
#[derive(Debug, Default)]
pub(super) struct Networks {
    v4: Vec<(u32, u32)>,
    v6: Vec<(u128, u128)>,
}

impl Networks {
    /// Networks between commas.
    pub(super) fn from_argument(argument: &str) -> Result<Self, OperatorFault> {
        let mut networks = Self::default();
        let mut offset = 0;
        for text in argument.split(',') {
            networks.add(text.trim()).map_err(|message| OperatorFault::Argument { message, offset })?;
            offset += text.len() + 1;
        }
        Ok(networks.merged())
    }

    /// One network per line of each file.
    pub(super) fn from_files(argument: &Argument<'_>) -> Result<Self, OperatorFault> {
        let mut networks = Self::default();
        for line in argument.lines()? {
            // What follows the address on its line is a note.
            let text = line
                .text
                .split(|byte| byte.is_ascii_whitespace() || *byte == b'#')
                .next()
                .unwrap_or_default();
            networks.add(&String::from_utf8_lossy(text)).map_err(|message| OperatorFault::File {
                path: line.path.to_string(),
                message: format!("line {}: {message}", line.number),
            })?;
        }
        Ok(networks.merged())
    }

    fn add(&mut self, text: &str) -> Result<(), String> {
        if self.v4.len() + self.v6.len() >= NETWORKS_MAX {
            return Err(format!("more than {NETWORKS_MAX} networks"));
        }
        let wrong =
            || format!("`{text}` is no address and no network, such as 192.0.2.0/24 or 2001:db8::/32");
        let (address, length) = match text.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u32>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        match address.parse::<IpAddr>().map_err(|_| wrong())? {
            IpAddr::V4(address) => {
                let length = length.unwrap_or(32);
                let mask = u32::MAX.checked_shl(32_u32.checked_sub(length).ok_or_else(wrong)?).unwrap_or(0);
                let first = address.to_bits() & mask;
                self.v4.push((first, first | !mask));
            }
            IpAddr::V6(address) => {
                let length = length.unwrap_or(128);
                let mask = u128::MAX.checked_shl(128_u32.checked_sub(length).ok_or_else(wrong)?).unwrap_or(0);
                let first = address.to_bits() & mask;
                self.v6.push((first, first | !mask));
                // The IPv4 addresses in it, in their IPv6 form.
                let (low, high) = (first.max(MAPPED), (first | !mask).min(MAPPED | u128::from(u32::MAX)));
                if low <= high {
                    self.v4.push((low as u32, high as u32));
                }
            }
        }
        Ok(())
    }

    fn merged(mut self) -> Self {
        merge(&mut self.v4);
        merge(&mut self.v6);
        self
    }

    pub(super) fn evaluate(&self, value: &[u8], found: &mut Found) -> bool {
        let Some(address) =
            std::str::from_utf8(value).ok().and_then(|text| text.trim().parse::<IpAddr>().ok())
        else {
            return false;
        };
        let inside = match address.to_canonical() {
            IpAddr::V4(address) => contains(&self.v4, address.to_bits()),
            IpAddr::V6(address) => contains(&self.v6, address.to_bits()),
        };
        if inside {
            found.matched(0..value.len());
        }
        inside
    }
}

/// The network of IPv4 addresses in IPv6 form (RFC 4291, section 2.5.5.2).
const MAPPED: u128 = 0xffff << 32;

fn merge<T: Ord + Copy>(ranges: &mut Vec<(T, T)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let joined = next.0 <= kept.1;
        if joined {
            kept.1 = kept.1.max(next.1);
        }
        joined
    });
    ranges.shrink_to_fit();
}

fn contains<T: Ord + Copy>(ranges: &[(T, T)], address: T) -> bool {
    let after = ranges.partition_point(|&(first, _)| first <= address);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|&(_, last)| address <= last)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Files, compile, expect, expect_expanded, fault_of};
    use super::*;

    #[test]
    fn addresses_and_networks_match() {
        expect(
            "ipMatch",
            "192.0.2.0/24, 198.51.100.7,2001:db8::/32,::1",
            &[
                b"192.0.2.0",
                b"192.0.2.255",
                b"198.51.100.7",
                b"2001:db8:ffff::1",
                b"::1",
                b"::ffff:192.0.2.9",
            ],
            &[
                b"",
                b"192.0.3.0",
                b"192.0.1.255",
                b"198.51.100.6",
                b"2001:db9::",
                b"::2",
                b"192.0.2",
                b"192.0.2.1x",
                b"\xff",
            ],
        );
        expect("ipMatch", "10.1.2.3/8,10.0.0.1", &[b"10.255.0.1"], &[b"11.0.0.0"]);
        expect("ipMatch", "0.0.0.0/0", &[b"203.0.113.1"], &[b"2001:db8::1"]);
        expect("ipMatch", "::/0", &[b"2001:db8::1"], &[b"x"]);
        expect("ipMatch", "::ffff:10.0.0.0/104", &[b"10.1.1.1", b"::ffff:10.1.1.1"], &[b"11.0.0.0"]);
        expect_expanded("ipMatch", "%{tx.list}", b"192.0.2.1", &[b"192.0.2.1"], &[b"192.0.2.2"]);
    }

    #[test]
    fn a_wrong_network_is_refused_with_its_place() {
        for (argument, place) in [
            ("192.0.2.0/33", 0),
            ("192.0.2.1,x", 10),
            ("::/129", 0),
            ("", 0),
            ("192.0.2.1,", 10),
            ("192.0.2.0/255.255.255.0", 0),
            ("192.0.2.0/-1", 0),
        ] {
            match fault_of("ipMatch", argument) {
                OperatorFault::Argument { offset, .. } => assert_eq!(offset, place, "{argument}"),
                fault => panic!("{argument}: {fault:?}"),
            }
        }
    }

    #[test]
    fn files_hold_a_network_per_line() {
        let files = Files(&[
            ("rules/list.txt", b"# list\n192.0.2.0/25 office\n\n2001:db8::1#x\n"),
            ("rules/bad.txt", b"\n1.2.3\n"),
        ]);
        for name in ["ipMatchFromFile", "ipMatchF"] {
            let operator = compile(name, "list.txt", &files).unwrap();
            let mut found = Found::default();
            assert!(operator.evaluate(b"192.0.2.127", None, &mut found));
            assert!(operator.evaluate(b"2001:db8::1", None, &mut found));
            assert!(!operator.evaluate(b"192.0.2.128", None, &mut found));
        }
        match compile("ipMatchFromFile", "bad.txt", &files) {
            Err(OperatorFault::File { path, message }) => {
                assert_eq!(path, "rules/bad.txt");
                assert!(message.starts_with("line 2: `1.2.3`"), "{message}");
            }
            other => panic!("{:?}", other.err()),
        }
    }

    #[test]
    fn a_list_holds_so_many_networks_and_no_more() {
        let mut networks = Networks { v4: vec![(0, 0); NETWORKS_MAX - 2], v6: vec![(0, 0)] };
        assert_eq!(networks.add("192.0.2.1"), Ok(()));
        assert!(networks.add("192.0.2.1").is_err());
        assert!(networks.add("2001:db8::1").is_err());
    }

    #[test]
    fn many_networks_are_joined() {
        let list: Vec<String> =
            (0..=255).flat_map(|b| [format!("10.{b}.0.0/16"), format!("10.{b}.7.1")]).collect();
        let networks = Networks::from_argument(&list.join(",")).unwrap();
        assert_eq!(networks.v4.len(), 256);
        let mut found = Found::default();
        assert!(networks.evaluate(b"10.200.7.9", &mut found));
        assert!(!networks.evaluate(b"11.0.0.0", &mut found));
    }
}
