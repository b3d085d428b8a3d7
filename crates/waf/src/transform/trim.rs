//! `t:trim`, `t:trimLeft`, `t:trimRight`: white space at the ends goes, without a copy.

use super::{Change, is_space};

fn part(input: &[u8], left: bool, right: bool) -> Change {
    let start = if left { input.iter().take_while(|&&byte| is_space(byte)).count() } else { 0 };
    let tail = input.get(start..).unwrap_or_default();
    let cut = if right { tail.iter().rev().take_while(|&&byte| is_space(byte)).count() } else { 0 };
    let end = input.len() - cut;
    if start == 0 && end == input.len() { Change::Nothing } else { Change::Part(start..end) }
}

pub(super) fn both(input: &[u8]) -> Change {
    part(input, true, true)
}

pub(super) fn left(input: &[u8]) -> Change {
    part(input, true, false)
}

pub(super) fn right(input: &[u8]) -> Change {
    part(input, false, true)
}

#[cfg(test)]
mod tests {
    use crate::transform::{
        Transformation::{Trim, TrimLeft, TrimRight},
        tests::table,
    };
    use std::borrow::Cow;

    #[test]
    fn white_space_at_the_ends_goes() {
        table(
            Trim,
            &[(b"", b""), (b"Test Case", b"Test Case"), (b" \t\n\x0b\x0c\rTest Case \n", b"Test Case")],
        );
        table(Trim, &[(b"  ", b""), (b"\0 a \0", b"\0 a \0")]);
        table(TrimLeft, &[(b"", b""), (b"  a  ", b"a  "), (b"a ", b"a "), (b" \n", b"")]);
        table(TrimRight, &[(b"", b""), (b"  a  ", b"  a"), (b" a", b" a"), (b" \n", b"")]);
    }

    #[test]
    fn a_borrowed_value_stays_borrowed() {
        assert!(matches!(Trim.apply(Cow::Borrowed(b" a ")), Cow::Borrowed(b"a")));
    }
}
