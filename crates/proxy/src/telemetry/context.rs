//! W3C Trace Context, level 2: the `traceparent` field. `tracestate` belongs to others
//! and goes on as it came, or not at all when there is no valid `traceparent` (§3.3).

use std::fmt;

/// A trace's id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(pub [u8; 16]);

/// A span's id. Never zero.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(pub [u8; 8]);

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl TraceId {
    /// As it is written.
    pub fn to_ascii(self) -> [u8; 32] {
        to_hex(&self.0)
    }
}

impl SpanId {
    /// The id of the n-th span of a request whose own random number is `seed`: a
    /// bijection of n for each seed, so that no two spans of a request share one.
    pub const fn nth(seed: u64, n: u32) -> Self {
        let mut value = seed.wrapping_add((n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^= value >> 31;
        // All zeros is no id (§3.2.2.4).
        Self(if value == 0 { 1u64 } else { value }.to_be_bytes())
    }
}

/// Set when the caller may have recorded its part (§3.2.2.5.1).
pub const SAMPLED: u8 = 1;
/// Set when the trace id's last seven bytes are random (level 2, §3.2.2.5.2).
pub const RANDOM: u8 = 2;
/// Bytes of a `traceparent` of version 00.
pub const LENGTH: usize = 55;

/// What a valid `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// The trace.
    pub trace_id: TraceId,
    /// The caller's span.
    pub span_id: SpanId,
    /// [`SAMPLED`], [`RANDOM`]; others are unknown and not passed on.
    pub flags: u8,
}

impl Parent {
    /// Reads a field's value. A version that we do not know is read by what it must have
    /// in common with version 00 (§3.2.4).
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(LENGTH)?;
        let [a, b, b'-', ids @ ..] = head else { return None };
        let version = byte(*a, *b)?;
        let fits = match version {
            0 => rest.is_empty(),
            0xff => false,
            _ => rest.is_empty() || rest.first() == Some(&b'-'),
        };
        let (trace, rest) = ids.split_at_checked(32)?;
        let (span, flags) = rest.split_at_checked(17)?;
        let ([b'-', span @ ..], [b'-', high, low]) = (span, flags) else { return None };
        let parent = Self {
            trace_id: TraceId(from_hex(trace)?),
            span_id: SpanId(from_hex(span)?),
            flags: byte(*high, *low)?,
        };
        let named = parent.trace_id.0 != [0; 16] && parent.span_id.0 != [0; 8];
        (fits && named).then_some(parent)
    }

    /// Whether the caller may have recorded its part.
    pub const fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// As a field's value, version 00.
    pub fn to_field(&self) -> [u8; LENGTH] {
        let mut field = [b'-'; LENGTH];
        let parts: [(usize, &[u8]); 4] = [
            (0, b"00"),
            (3, &to_hex::<16, 32>(&self.trace_id.0)),
            (36, &to_hex::<8, 16>(&self.span_id.0)),
            (53, &to_hex::<1, 2>(&[self.flags & (SAMPLED | RANDOM)])),
        ];
        for (start, part) in parts {
            for (place, byte) in field.iter_mut().skip(start).zip(part) {
                *place = *byte;
            }
        }
        field
    }
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        // Upper case is not allowed (§3.2.2).
        _ => None,
    }
}

fn byte(high: u8, low: u8) -> Option<u8> {
    Some((nibble(high)? << 4) | nibble(low)?)
}

fn from_hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (place, [high, low]) in bytes.iter_mut().zip(pairs) {
        *place = byte(*high, *low)?;
    }
    Some(bytes)
}

fn to_hex<const N: usize, const M: usize>(bytes: &[u8; N]) -> [u8; M] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut text = [b'0'; M];
    for ([high, low], byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *high = digit(byte >> 4);
        *low = digit(byte & 15);
    }
    text
}

/// What the fuzzer calls: any bytes as a field. Must never panic, and what is read must
/// be read the same again.
pub fn fuzz(bytes: &[u8]) {
    if let Some(parent) = Parent::parse(bytes) {
        let again = Parent::parse(&parent.to_field());
        let known = Parent { flags: parent.flags & (SAMPLED | RANDOM), ..parent };
        assert_eq!(again, Some(known));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn reads_what_the_recommendation_shows_and_writes_it_again() {
        let parent = Parent::parse(GOOD).unwrap();
        assert!(parent.is_sampled());
        assert_eq!(format!("{:?}", parent.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(format!("{:?}", parent.span_id), "00f067aa0ba902b7");
        assert_eq!(parent.to_field(), GOOD);
        assert_eq!(parent.trace_id.to_ascii(), *b"4bf92f3577b34da6a3ce929d0e0e4736");
        let flags = |text: &[u8]| Parent::parse(text).map(|parent| parent.flags);
        assert_eq!(flags(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"), Some(0));
        assert_eq!(flags(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff"), Some(0xff));
        // Flags that we do not know do not go on.
        let unknown = Parent::parse(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff").unwrap();
        assert!(unknown.to_field().ends_with(b"-03"));
    }

    #[test]
    fn a_later_version_is_read_by_what_it_shares() {
        for good in [
            &b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"[..],
            b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-comes-later",
        ] {
            assert!(Parent::parse(good).unwrap().to_field().starts_with(b"00-4bf92f"));
        }
        assert!(Parent::parse(b"01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01x").is_none());
    }

    #[test]
    fn refuses_every_other_form() {
        for wrong in [
            &b""[..],
            b"00",
            b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            b"00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            b"00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            b"00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736_00f067aa0ba902b7-01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7_01",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            b"0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            b" 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Parent::parse(wrong), None, "{}", String::from_utf8_lossy(wrong));
        }
    }

    #[test]
    fn spans_of_one_request_have_ids_of_their_own() {
        let mut ids: Vec<[u8; 8]> = (0..1000).map(|n| SpanId::nth(42, n).0).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 1000);
        // The one seed that would come out as zero.
        assert_ne!(SpanId::nth(0, 0).0, [0; 8]);
    }

    proptest! {
        #[test]
        fn fuzz_smoke_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..70)) {
            fuzz(&bytes);
        }

        #[test]
        fn fuzz_smoke_near_misses(text in "[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?") {
            fuzz(text.as_bytes());
        }
    }
}
