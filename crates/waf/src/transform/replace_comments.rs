//! `t:replaceComments`: each `/*…*/` becomes one space, also one that does not end.

use super::started;

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = started(input, memchr::memmem::find(input, b"/*")?);
    while let Some(start) = memchr::memmem::find(rest, b"/*") {
        out.extend_from_slice(rest.get(..start).unwrap_or_default());
        out.push(b' ');
        let body = rest.get(start + 2..).unwrap_or_default();
        match memchr::memmem::find(body, b"*/") {
            Some(end) => rest = body.get(end + 2..).unwrap_or_default(),
            None => return Some(out),
        }
    }
    out.extend_from_slice(rest);
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::ReplaceComments, tests::table};

    #[test]
    fn comments_become_a_space() {
        table(
            ReplaceComments,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                (b"UNION/*x*/SELECT", b"UNION SELECT"),
                (b"/* TestCase */ /* TestCase */", b"   "),
                (b"/* TestCase */", b" "),
                (b"a/*b", b"a "),
                (b"a*/b", b"a*/b"),
                (b"/*/", b" "),
                (b"a/**//**/b", b"a  b"),
                (b"/*!50000x*/y", b" y"),
            ],
        );
    }
}
