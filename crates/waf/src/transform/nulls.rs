//! `t:removeNulls` and `t:replaceNulls`: NUL bytes go, or become spaces.

use super::started;

pub(super) fn remove(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, rest) = started(input, memchr::memchr(0, input)?);
    out.extend(rest.iter().filter(|&&byte| byte != 0));
    Some(out)
}

pub(super) fn replace(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, rest) = started(input, memchr::memchr(0, input)?);
    out.extend(rest.iter().map(|&byte| if byte == 0 { b' ' } else { byte }));
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::transform::{
        Transformation::{RemoveNulls, ReplaceNulls},
        tests::table,
    };

    #[test]
    fn nulls_go_or_become_spaces() {
        table(
            RemoveNulls,
            &[(b"", b""), (b"TestCase", b"TestCase"), (b"\0Te\0\0st\0", b"Test"), (b"\0", b"")],
        );
        table(ReplaceNulls, &[(b"", b""), (b"TestCase", b"TestCase"), (b"\0Te\0\0st\0", b" Te  st ")]);
    }
}
