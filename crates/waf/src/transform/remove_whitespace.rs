//! `t:removeWhitespace`: white space goes.

use super::{NO_BREAK_SPACE, is_space, started};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let white = |byte: &u8| is_space(*byte) || *byte == NO_BREAK_SPACE;
    let (mut out, rest) = started(input, input.iter().position(white)?);
    rest.split(white).for_each(|piece| out.extend_from_slice(piece));
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
