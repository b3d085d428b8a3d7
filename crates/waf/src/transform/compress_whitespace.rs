//! `t:compressWhitespace`: each run of white space becomes one space.

use super::{NO_BREAK_SPACE, is_space, started};

const fn is_white(byte: u8) -> bool {
    is_space(byte) || byte == NO_BREAK_SPACE
}

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let mut before = false;
    let at = input.iter().position(|&byte| {
        let white = is_white(byte);
        let changes = white && (byte != b' ' || before);
        before = white;
        changes
    })?;
    let (mut out, rest) = started(input, at);
    let mut white = out.last() == Some(&b' ');
    for &byte in rest {
        if !is_white(byte) {
            out.push(byte);
        } else if !white {
            out.push(b' ');
        }
        white = is_white(byte);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::CompressWhitespace, tests::table};

    #[test]
    fn each_run_becomes_one_space() {
        table(
            CompressWhitespace,
            &[
                (b"", b""),
                (b"a b c", b"a b c"),
                (b"  a \t\n\x0b\x0c\r b\t", b" a b "),
                (b"a\xa0\xa0b", b"a b"),
                (b"a\tb", b"a b"),
                (b"Test\0 Case", b"Test\0 Case"),
            ],
        );
    }
}
