//! `t:urlDecode`: `%HH` and `+` (RFC 3986, section 2.1, and HTML forms). An invalid
//! escape stays as it is.

use super::{pair, started};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = started(input, memchr::memchr2(b'%', b'+', input)?);
    while let Some((&byte, after)) = rest.split_first() {
        let (decoded, used) = match byte {
            b'+' => (b' ', 1),
            b'%' => pair(after).map_or((b'%', 1), |decoded| (decoded, 3)),
            _ => (byte, 1),
        };
        out.push(decoded);
        rest = rest.get(used..).unwrap_or_default();
    }
    (out != input).then_some(out)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::UrlDecode, tests::table};

    #[test]
    fn reads_escapes() {
        table(
            UrlDecode,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                (b"Test%20Case+x%00%fF%C3", b"Test Case x\0\xff\xc3"),
                (b"%0g%g0%%20%1%", b"%0g%g0% %1%"),
                (b"%u0041", b"%u0041"),
                (b"%2541", b"%41"),
                (b"100%", b"100%"),
                (b"%4", b"%4"),
            ],
        );
    }
}
