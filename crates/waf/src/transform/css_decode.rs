//! `t:cssDecode`: CSS 2 escapes (section 4.1.3), one to six hexadecimal digits after a
//! backslash and one white space that ends them. The last two digits count, and full-width
//! forms become ASCII.

use super::{digit, full_width, is_space, pair, started};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = started(input, memchr::memchr(b'\\', input)?);
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'\\' {
            out.push(byte);
            rest = after;
            continue;
        }
        let digits = after.iter().take(6).take_while(|&&byte| digit(byte).is_some()).count();
        let (code, tail) = after.split_at_checked(digits).unwrap_or((after, &[]));
        rest = tail;
        if let Some(escaped) = escaped(code) {
            out.push(escaped);
            if rest.first().is_some_and(|&byte| is_space(byte)) {
                rest = rest.get(1..).unwrap_or_default();
            }
        } else if let Some((&literal, tail)) = rest.split_first() {
            rest = tail;
            // An escaped line end is no character at all.
            if literal != b'\n' {
                out.push(literal);
            }
        }
    }
    Some(out)
}

/// The byte that one to six digits stand for.
fn escaped(code: &[u8]) -> Option<u8> {
    let low = match code {
        [] => return None,
        [single] => digit(*single)?,
        _ => pair(code.get(code.len() - 2..)?)?,
    };
    let high_is_ff = match code {
        [high @ .., _, _, _, _] if high.iter().all(|&byte| byte == b'0') => {
            code.get(code.len() - 4..code.len() - 2).is_some_and(|pair| pair.eq_ignore_ascii_case(b"ff"))
        }
        _ => false,
    };
    Some(full_width(low, high_is_ff))
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::CssDecode, tests::table};

    #[test]
    fn reads_escapes() {
        table(
            CssDecode,
            &[
                (b"", b""),
                (b"plain", b"plain"),
                (br"\a\b\f\n\r\t\v\?\'\0", b"\x0a\x0b\x0fnrtv?'\0"),
                (br"\6a\06a\006a\0006a\00006a\00006aj", b"jjjjjjj"),
                (br"ja\vascript", b"javascript"),
                (b"\\6A avascript", b"javascript"),
                (b"\\6A  x", b"j x"),
                (b"a\\\nb", b"ab"),
                (br"\ff3c\ff01\0ff3e\00ff5e", br"\!^~"),
                (br"\ff00\ff5f\1ff3c", b"\0_\x3c"),
                (b"a\\", b"a"),
                (b"\\00006a", b"j"),
                (b"\\0000061", b"\x061"),
            ],
        );
    }
}
