//! `t:sqlHexDecode`: `0x414243` becomes `ABC`; a `0x` without two digits after it stays.

use super::{pair, started};

fn starts(rest: &[u8]) -> bool {
    matches!(rest, [b'0', b'x' | b'X', digits @ ..] if pair(digits).is_some())
}

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let at = memchr::memchr_iter(b'0', input).find(|&at| input.get(at..).is_some_and(starts))?;
    let (mut out, mut rest) = started(input, at);
    while let Some((&byte, after)) = rest.split_first() {
        if !starts(rest) {
            out.push(byte);
            rest = after;
            continue;
        }
        rest = rest.get(2..).unwrap_or_default();
        while let Some(decoded) = pair(rest) {
            out.push(decoded);
            rest = rest.get(2..).unwrap_or_default();
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::SqlHexDecode, tests::table};

    #[test]
    fn reads_hexadecimal_literals() {
        table(
            SqlHexDecode,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                (b"0x414243", b"ABC"),
                (b"select 0X6173 from", b"select as from"),
                (b"0x4142 0x43", b"AB C"),
                (b"0x410x42", b"AB"),
                (b"0x414", b"A4"),
                (b"0x", b"0x"),
                (b"0xg1 0x1", b"0xg1 0x1"),
                (b"00x41", b"0A"),
                (b"x41\0", b"x41\0"),
            ],
        );
    }
}
