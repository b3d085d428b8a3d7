//! `t:urlDecodeUni`: `t:urlDecode` with Microsoft's `%uHHHH`, read by the best-fit map of
//! code page 20127; what it does not list becomes its low byte, full-width forms ASCII.

use super::{full_width, pair, started, unicode_map};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = started(input, memchr::memchr2(b'%', b'+', input)?);
    while let Some((&byte, after)) = rest.split_first() {
        let (decoded, used) = match (byte, after) {
            (b'+', _) => (b' ', 1),
            (b'%', [b'u' | b'U', code @ ..]) => unicode(code).map_or((b'%', 1), |decoded| (decoded, 6)),
            (b'%', _) => pair(after).map_or((b'%', 1), |decoded| (decoded, 3)),
            _ => (byte, 1),
        };
        out.push(decoded);
        rest = rest.get(used..).unwrap_or_default();
    }
    (out != input).then_some(out)
}

/// The byte that four digits stand for.
fn unicode(code: &[u8]) -> Option<u8> {
    let (high, low) = (pair(code)?, pair(code.get(2..)?)?);
    Some(
        unicode_map::best_fit(u16::from_be_bytes([high, low]))
            .unwrap_or_else(|| full_width(low, high == 0xff)),
    )
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::UrlDecodeUni, tests::table};

    #[test]
    fn reads_escapes_and_microsofts() {
        table(
            UrlDecodeUni,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                (b"Test%20Case+x%00%fF", b"Test Case x\0\xff"),
                (b"%u0041%U003c%uff1c%uFF1F", b"A<<?"),
                (b"%u2018%u201c%u2032%u02b9%u00e9", b"'\"''e"),
                (b"%u1234%u0100", b"\x34A"),
                (b"%u004%ug041%u", b"%u004%ug041%u"),
                (b"%u%41", b"%uA"),
                (b"%0g%%20%1%", b"%0g% %1%"),
            ],
        );
    }
}
