//! `t:hexEncode`: two small digits per byte.

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |value: u8| DIGITS.get(usize::from(value & 0x0f)).copied().unwrap_or_default();
    (!input.is_empty()).then(|| input.iter().flat_map(|&byte| [digit(byte >> 4), digit(byte)]).collect())
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::HexEncode, tests::table};

    #[test]
    fn two_digits_per_byte() {
        table(HexEncode, &[(b"", b""), (b"TestCase\0\xff", b"546573744361736500ff")]);
    }
}
