//! `t:jsDecode`: the escapes of JavaScript, `\uHHHH` (low byte, full-width forms as
//! ASCII), `\xHH`, `\OOO` up to `\377`, `\a` to `\v`; any other backslash goes.

use super::{control, full_width, octal, pair, started};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = started(input, memchr::memchr(b'\\', input)?);
    while let Some((&byte, after)) = rest.split_first() {
        let (decoded, used) = match (byte, after) {
            (b'\\', [_, ..]) => escape(after),
            _ => (byte, 1),
        };
        out.push(decoded);
        rest = rest.get(used..).unwrap_or_default();
    }
    (out.len() != input.len()).then_some(out)
}

/// The byte that an escape stands for and its length with the backslash.
fn escape(after: &[u8]) -> (u8, usize) {
    match after {
        [b'u', code @ ..] => {
            if let (Some(high), Some(low)) = (pair(code), pair(code.get(2..).unwrap_or_default())) {
                return (full_width(low, high == 0xff), 6);
            }
            (b'u', 2)
        }
        [b'x', code @ ..] => pair(code).map_or((b'x', 2), |byte| (byte, 4)),
        [b'0'..=b'7', ..] => {
            let (value, digits) = octal(after);
            // A third digit that would not fit a byte is a character of its own.
            if value > 0xff {
                ((value >> 3).to_le_bytes()[0], digits)
            } else {
                (value.to_le_bytes()[0], 1 + digits)
            }
        }
        [letter, ..] => (control(*letter).unwrap_or(*letter), 2),
        [] => (b'\\', 1),
    }
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::JsDecode, tests::table};

    #[test]
    fn reads_escapes() {
        table(
            JsDecode,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                (
                    br#"\a\b\f\n\r\t\v\?\'\"\0\12\123\x00\xff\u0021\uff01"#,
                    b"\x07\x08\x0c\n\r\t\x0b?'\"\0\nS\0\xff!!",
                ),
                (br"\u01\u0g12\x4\xg0\8", b"u01u0g12x4xg08"),
                (br"\377\400\777", b"\xff\x200\x3f7"),
                (br"\u003cscript\u003e", b"<script>"),
                (br"\uFF3c\u5F3C", b"\\<"),
                (br"\\x41", br"\x41"),
                (b"end\\", b"end\\"),
            ],
        );
    }
}
