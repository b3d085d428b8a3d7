//! `t:escapeSeqDecode`: the escapes of ANSI C, `\a` to `\v`, `\xHH` and `\OOO`. The
//! backslash of an escape that is none goes.

use super::{control, octal, pair, started};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = started(input, memchr::memchr(b'\\', input)?);
    while let Some((&byte, after)) = rest.split_first() {
        let (decoded, used) = match (byte, after.split_first()) {
            (b'\\', Some((&letter, tail))) => escape(letter, after, tail),
            _ => (byte, 1),
        };
        out.push(decoded);
        rest = rest.get(used..).unwrap_or_default();
    }
    (out != input).then_some(out)
}

/// The byte that an escape stands for and its length with the backslash.
fn escape(letter: u8, after: &[u8], tail: &[u8]) -> (u8, usize) {
    if let Some(control) = control(letter) {
        return (control, 2);
    }
    match letter {
        b'x' | b'X' => pair(tail).map_or((letter, 2), |byte| (byte, 4)),
        b'0'..=b'7' => {
            let (value, digits) = octal(after);
            (value.to_le_bytes()[0], 1 + digits)
        }
        _ => (letter, 2),
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::EscapeSeqDecode, tests::table};

    #[test]
    fn reads_the_escapes_of_c() {
        table(
            EscapeSeqDecode,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                (br#"\a\b\f\n\r\t\v\?\'\"\0\12\123\x00\xff"#, b"\x07\x08\x0c\n\r\t\x0b?'\"\0\nS\0\xff"),
                (br"\u0000\8\9\x4\X41z", b"u000089x4Az"),
                (br"\777", b"\xff"),
                (br"\1234", b"S4"),
                (br"\\\", br"\\"),
                (b"end\\", b"end\\"),
            ],
        );
    }
}
