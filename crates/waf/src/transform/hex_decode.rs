//! `t:hexDecode`: two characters make a byte. What is no digit is reckoned as 2.9 does,
//! and an odd one at the end is dropped: a value of one character becomes empty
//! (CVE-2026-30923 is an engine that reads past it).

/// A digit by 2.9's arithmetic, which asks only whether the byte is at or past `A`.
const fn lenient_digit(byte: u8) -> u8 {
    if byte >= b'A' { (byte & 0xdf).wrapping_sub(b'A').wrapping_add(10) } else { byte.wrapping_sub(b'0') }
}

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    if input.is_empty() {
        return None;
    }
    let pairs = input.as_chunks::<2>().0;
    Some(
        pairs
            .iter()
            .map(|[high, low]| lenient_digit(*high).wrapping_mul(16).wrapping_add(lenient_digit(*low)))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::HexDecode, tests::table};

    #[test]
    fn two_characters_make_a_byte() {
        table(
            HexDecode,
            &[
                (b"", b""),
                (b"546573744361736500", b"TestCase\0"),
                (b"4A4b", b"JK"),
                (b"01234567890a0", b"\x01\x23\x45\x67\x89\x0a"),
                (b"01234567890az", b"\x01\x23\x45\x67\x89\x0a"),
                (b"01234567890zab", b"\x01\x23\x45\x67\x89\x23\xab"),
            ],
        );
    }

    #[test]
    fn one_character_becomes_nothing_cve_2026_30923() {
        for byte in 0..=u8::MAX {
            table(HexDecode, &[(&[byte], b"")]);
        }
        table(HexDecode, &[(b"41", b"A")]);
    }
}
