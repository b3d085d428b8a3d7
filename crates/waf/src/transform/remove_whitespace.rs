//! `t:removeWhitespace`: white space goes.

use super::{NO_BREAK_SPACE, is_space, started};
use crate::by_byte::by_byte;

const WHITE: [bool; 256] = by_byte!(goes);

const fn goes(byte: u8) -> bool {
    is_space(byte) || byte == NO_BREAK_SPACE
}

/// Whether a byte is taken out.
pub(crate) fn is_white(byte: u8) -> bool {
    WHITE.get(usize::from(byte)).copied().unwrap_or(false)
}

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, rest) = started(input, input.iter().position(|byte| is_white(*byte))?);
    // Every byte is written, and one that goes is written over: no branch for each.
    let mut length = out.len();
    out.resize(input.len(), 0);
    for byte in rest {
        if let Some(next) = out.get_mut(length) {
            *next = *byte;
        }
        length += usize::from(!is_white(*byte));
    }
    out.truncate(length);
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::RemoveWhitespace, tests::table};

    #[test]
    fn white_space_goes() {
        table(
            RemoveWhitespace,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                (b" \xa0a\tb\nc\rd\x0be\x0cf \0 ", b"abcdef\0"),
                (b"  ", b""),
            ],
        );
    }
}
