//! `t:base64Decode`: decodes as far as the text is Base64 and drops the rest, as Apache's
//! library does under 2.9.

use crate::by_byte::by_byte;

/// The value of a digit of the standard alphabet (RFC 4648, section 4).
pub(super) fn sextet(byte: u8) -> Option<u8> {
    SEXTETS.get(usize::from(byte)).copied().flatten()
}

const SEXTETS: [Option<u8>; 256] = by_byte!(digit);

const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Puts digits together; fewer than eight bits left at the end are dropped.
pub(super) fn join(digits: impl Iterator<Item = u8>, capacity: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(capacity);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for value in digits {
        held = (held << 6) | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push((held >> bits).to_le_bytes()[0]);
        }
    }
    out
}

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    if input.is_empty() {
        return None;
    }
    Some(join(input.iter().map_while(|&byte| sextet(byte)), input.len() / 4 * 3 + 3))
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::Base64Decode, tests::table};

    #[test]
    fn decodes_up_to_the_first_byte_that_is_no_digit() {
        table(
            Base64Decode,
            &[
                (b"", b""),
                (b"VGVzdENhc2U=", b"TestCase"),
                (b"VGVzdENhc2U", b"TestCase"),
                (b"VGVzdABDYXNl", b"Test\0Case"),
                (b"VGVzdENhc2U=VGVzdA==", b"TestCase"),
                (b"VGV zdENhc2U=", b"Te"),
                (b"PFR4d", b"<Tx"),
                (b"P.HNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==", b""),
                (b"V", b""),
                (b"!", b""),
            ],
        );
    }
}
