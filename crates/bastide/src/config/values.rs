//! Scalars with units and shapes: durations, sizes, addresses, hosts. Each function
//! takes a text and says what it expected when it cannot read it.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

/// Why a text could not be read: what was expected, and what to write instead when
/// that can be guessed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfit {
    /// What was expected.
    pub(super) expected: &'static str,
    /// What to write instead.
    pub(super) instead: Option<String>,
}

/// Most mistakes in one text that a suggestion mends.
const MENDS_MAX: usize = 5;

/// Reads a text; what is suggested instead of one that does not fit can be read as a whole, although
/// several things are wrong.
pub(super) fn mended<T>(text: &str, read: impl Fn(&str) -> Result<T, Unfit>) -> Result<T, Unfit> {
    read(text).map_err(|mut unfit| {
        for _ in 0..MENDS_MAX {
            let Some(Err(next)) = unfit.instead.as_deref().map(&read) else { return unfit };
            unfit.instead = next.instead;
        }
        Unfit { instead: None, ..unfit }
    })
}

fn unfit(expected: &'static str) -> Unfit {
    Unfit { expected, instead: None }
}

const DURATION: &str = "a duration such as 250ms, 2s, 5m, 1h or 7d";
const SIZE: &str = "a size such as 512, 64KiB, 1MiB or 2GiB";
/// Longest duration, in seconds: ten years.
const DURATION_S_MAX: u64 = 10 * 366 * 86_400;

/// `250ms`, `2s`, `5m`, `1h`, `7d`.
pub(super) fn duration(text: &str) -> Result<Duration, Unfit> {
    let (digits, unit) = split_number(text);
    let Ok(number) = digits.parse::<u64>() else { return Err(unfit(DURATION)) };
    let ms_per_unit: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        // Who writes hundreds without a unit has milliseconds in mind, as most products have them.
        "" if number >= 100 => {
            return Err(Unfit { expected: DURATION, instead: Some(format!("{digits}ms")) });
        }
        "" => return Err(Unfit { expected: DURATION, instead: Some(format!("{digits}s")) }),
        "min" => return Err(Unfit { expected: DURATION, instead: Some(format!("{digits}m")) }),
        "sec" => return Err(Unfit { expected: DURATION, instead: Some(format!("{digits}s")) }),
        _ => return Err(unfit(DURATION)),
    };
    match number.checked_mul(ms_per_unit) {
        Some(ms) if ms <= DURATION_S_MAX * 1000 => Ok(Duration::from_millis(ms)),
        _ => Err(unfit("a duration of at most ten years")),
    }
}

/// `512`, `64KiB`, `1MiB`, `2GiB`, in bytes.
pub(super) fn size(text: &str) -> Result<u64, Unfit> {
    let (digits, unit) = split_number(text);
    let Ok(number) = digits.parse::<u64>() else { return Err(unfit(SIZE)) };
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => {
            let prefix = unit.chars().next().map(|c| c.to_ascii_uppercase());
            let instead = prefix.filter(|c| "KMGT".contains(*c)).map(|c| format!("{digits}{c}iB"));
            return Err(Unfit { expected: SIZE, instead });
        }
    };
    number
        .checked_mul(1 << shift)
        .filter(|&bytes| bytes <= i64::MAX as u64)
        .ok_or(unfit("a size below 8 exbibytes"))
}

fn split_number(text: &str) -> (&str, &str) {
    let end = text.bytes().position(|b| !b.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end).unwrap_or((text, ""));
    (digits, unit.trim_start())
}

/// `10.0.0.0/8`, `10.1.2.3`, `2001:db8::/32`. Host bits must be zero.
pub(super) fn network(text: &str) -> Result<IpNet, Unfit> {
    const EXPECTED: &str = "an address or network such as 10.1.2.3, 10.0.0.0/8 or 2001:db8::/32";
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(IpNet::from(address));
    }
    let network: IpNet = text.parse().map_err(|_| unfit(EXPECTED))?;
    if network.trunc() != network {
        return Err(Unfit {
            expected: "a network whose host bits are zero",
            instead: Some(network.trunc().to_string()),
        });
    }
    Ok(network)
}

/// A host name or an address without port; lower case comes back, without brackets
/// and without trailing dot.
pub(super) fn host(text: &str) -> Result<String, Unfit> {
    const EXPECTED: &str = "a host name such as shop.example.org";
    if let Some(inner) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return match inner.parse::<std::net::Ipv6Addr>() {
            Ok(address) => Ok(address.to_string()),
            Err(_) => Err(unfit("an IPv6 address in brackets")),
        };
    }
    if !text.is_ascii() {
        return Err(unfit("a host name in ASCII (write international names in their xn-- form)"));
    }
    if let Some((before, port)) = text.rsplit_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        return Err(Unfit { expected: "a host name without port", instead: Some(before.to_owned()) });
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label_fits = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if name.is_empty() || name.len() > 253 || !name.split('.').all(label_fits) {
        return Err(unfit(EXPECTED));
    }
    Ok(name)
}

/// A header name as it is compared: lower case (RFC 9110 §5.1). Underscores are
/// refused, as they are in requests.
pub(super) fn header_name(text: &str) -> Result<String, Unfit> {
    if text.contains('_') {
        return Err(Unfit {
            expected: "a header name without underscores",
            instead: Some(text.replace('_', "-").to_ascii_lowercase()),
        });
    }
    match http::HeaderName::from_bytes(text.as_bytes()) {
        Ok(name) => Ok(name.as_str().to_owned()),
        Err(_) => Err(unfit("a header name")),
    }
}

/// A header value (RFC 9110 §5.5): visible ASCII, spaces and tabs inside.
pub(super) fn header_value(text: &str) -> Result<String, Unfit> {
    let fits = text.bytes().all(|b| b == b'\t' || (0x20..0x7f).contains(&b)) && text.trim() == text;
    if fits {
        Ok(text.to_owned())
    } else {
        Err(unfit("a header value: printable ASCII without spaces around it"))
    }
}

/// A name that policies, metrics and logs can carry: printable, no quotes, no
/// backslash, at most 200 bytes.
pub(super) fn name(text: &str) -> Result<String, Unfit> {
    let fits = !text.is_empty()
        && text.len() <= 200
        && text.trim() == text
        && text.chars().all(|c| !c.is_control() && c != '"' && c != '\\');
    if fits {
        Ok(text.to_owned())
    } else {
        Err(unfit("a name of 1 to 200 bytes without quotes, backslashes and control characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_durations() {
        for (text, ms) in [
            ("250ms", 250),
            ("2s", 2_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("7d", 604_800_000),
            ("0s", 0),
            ("2 s", 2_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1s", "1.5s", "1 week", "2S", "s2", "9999999999999999999s", "3661d"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert_eq!(duration("30").unwrap_err().instead.as_deref(), Some("30s"));
    }

    #[test]
    fn reads_sizes() {
        for (text, bytes) in
            [("512", 512), ("64KiB", 65_536), ("1MiB", 1 << 20), ("2 GiB", 2 << 30), ("7B", 7)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in ["", "KiB", "-1", "1.5MiB", "9999999TiB", "1XiB"] {
            assert!(size(text).is_err(), "{text}");
        }
        assert_eq!(size("64KB").unwrap_err().instead.as_deref(), Some("64KiB"));
        assert_eq!(size("64k").unwrap_err().instead.as_deref(), Some("64KiB"));
    }

    #[test]
    fn reads_networks() {
        assert_eq!(network("10.1.2.3").unwrap().to_string(), "10.1.2.3/32");
        assert_eq!(network("10.0.0.0/8").unwrap().to_string(), "10.0.0.0/8");
        assert_eq!(network("2001:db8::/32").unwrap().to_string(), "2001:db8::/32");
        assert_eq!(network("10.1.2.3/8").unwrap_err().instead.as_deref(), Some("10.0.0.0/8"));
        for text in ["", "10.0.0", "10.0.0.0/33", "localhost", "010.0.0.1"] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn reads_hosts() {
        for (text, host_name) in [
            ("Shop.Example.ORG", "shop.example.org"),
            ("shop.example.org.", "shop.example.org"),
            ("[2001:DB8::1]", "2001:db8::1"),
            ("127.0.0.1", "127.0.0.1"),
            ("a_b.internal", "a_b.internal"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(host_name), "{text}");
        }
        for text in
            ["", ".", "a..b", "-a.b", "a b", "a/b", "bücher.example", "shop:443", "*.a", "[::1", "user@a"]
        {
            assert!(host(text).is_err(), "{text}");
        }
    }
}
