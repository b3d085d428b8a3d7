//! `t:removeCommentsChar`: the marks of comments go, their text stays: `/*`, `*/`,
//! `<!--`, `-->`, `--` and `#`.

use super::started;

fn mark(rest: &[u8]) -> Option<usize> {
    match rest {
        [b'<', b'!', b'-', b'-', ..] => Some(4),
        [b'-', b'-', b'>', ..] => Some(3),
        [b'/', b'*', ..] | [b'*', b'/', ..] | [b'-', b'-', ..] => Some(2),
        [b'#', ..] => Some(1),
        _ => None,
    }
}

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let at = (0..input.len()).find(|&at| input.get(at..).and_then(mark).is_some())?;
    let (mut out, mut rest) = started(input, at);
    while let Some((&byte, after)) = rest.split_first() {
        match mark(rest) {
            Some(length) => rest = rest.get(length..).unwrap_or_default(),
            None => {
                out.push(byte);
                rest = after;
            }
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::RemoveCommentsChar, tests::table};

    #[test]
    fn marks_go_and_texts_stay() {
        table(
            RemoveCommentsChar,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                (b"sel/**/ect", b"select"),
                (b"a/*b*/c", b"abc"),
                (b"<!--a-->b--c#d", b"abcd"),
                (b"a---b", b"a-b"),
                (b"a - b / c * d <!-", b"a - b / c * d <!-"),
            ],
        );
    }
}
