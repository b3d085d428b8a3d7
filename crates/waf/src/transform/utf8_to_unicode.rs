//! `t:utf8toUnicode`: each UTF-8 sequence becomes `%uHHHH`, for `t:urlDecodeUni` to fold.
//! As in 2.9, NUL bytes and the first byte of a broken sequence go, and the first byte of
//! an overlong sequence or a surrogate is kept after its number, so that it is seen.

use super::started;
use std::io::Write;

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let at = input.iter().position(|&byte| byte == 0 || byte >= 0x80)?;
    let (mut out, mut rest) = started(input, at);
    while let Some(&first) = rest.first() {
        let used = sequence(first, rest, &mut out);
        rest = rest.get(used..).unwrap_or_default();
    }
    (out != input).then_some(out)
}

/// Writes what the sequence at the start of `rest` becomes and returns its length.
fn sequence(first: u8, rest: &[u8], out: &mut Vec<u8>) -> usize {
    let (length, lead, least) = match first {
        0 => return 1,
        0xc0..=0xdf => (2, first & 0x1f, 0x80),
        0xe0..=0xef => (3, first & 0x0f, 0x800),
        0xf0..=0xf7 => (4, first & 0x07, 0x1_0000),
        _ => {
            out.push(first);
            return 1;
        }
    };
    if first >= 0xf5 {
        out.push(first);
    }
    let mut number = u32::from(lead);
    for at in 1..length {
        match rest.get(at) {
            Some(&byte) if byte & 0xc0 == 0x80 => number = (number << 6) | u32::from(byte & 0x3f),
            _ => return 1,
        }
    }
    // Writing into memory does not fail.
    let _ = write!(out, "%u{number:04x}");
    if (0xd800..=0xdfff).contains(&number) || number < least {
        out.push(first);
    }
    length
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::Utf8ToUnicode, tests::table};

    #[test]
    fn sequences_become_numbers() {
        table(
            Utf8ToUnicode,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                ("aéb".as_bytes(), b"a%u00e9b"),
                ("ﾃ".as_bytes(), b"%uff83"),
                ("＜script＞".as_bytes(), b"%uff1cscript%uff1e"),
                ("😀".as_bytes(), b"%u1f600"),
                (b"\xc0\xbc", b"%u003c\xc0"),
                (b"\xe0\x80\xbc", b"%u003c\xe0"),
                (b"\xed\xa0\x80", b"%ud800\xed"),
                (b"a\xc3", b"a"),
                (b"a\xc3b", b"ab"),
                (b"\x80\xff", b"\x80\xff"),
                (b"\xf5\x80\x80\x80", b"\xf5%u140000"),
                (b"a\0b", b"ab"),
            ],
        );
    }
}
