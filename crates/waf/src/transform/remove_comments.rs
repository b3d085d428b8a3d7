//! `t:removeComments`: `/*…*/` and `<!--…-->` go; `--` and `#` end the value. A comment
//! that does not end becomes one space.

use super::started;

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let starts = |rest: &[u8]| rest.starts_with(b"/*") || rest.starts_with(b"<!--") || ends(rest);
    let at = (0..input.len()).find(|&at| input.get(at..).is_some_and(starts))?;
    let (mut out, mut rest) = started(input, at);
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(body) = rest.strip_prefix(b"/*").or_else(|| rest.strip_prefix(b"<!--")) {
            match close(body) {
                Some(tail) => rest = tail,
                None => {
                    out.push(b' ');
                    break;
                }
            }
        } else if ends(rest) {
            break;
        } else {
            out.push(byte);
            rest = after;
        }
    }
    Some(out)
}

fn ends(rest: &[u8]) -> bool {
    rest.starts_with(b"--") || rest.starts_with(b"#")
}

/// What follows the end of a comment; either end closes either kind, as in 2.9.
fn close(body: &[u8]) -> Option<&[u8]> {
    (0..body.len()).find_map(|at| {
        let rest = body.get(at..)?;
        rest.strip_prefix(b"*/").or_else(|| rest.strip_prefix(b"-->"))
    })
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::RemoveComments, tests::table};

    #[test]
    fn comments_go() {
        table(
            RemoveComments,
            &[
                (b"", b""),
                (b"TestCase", b"TestCase"),
                (b"a/*comment*/b", b"ab"),
                (b"a/*x*//*y*/b", b"ab"),
                (b"a/*x*/", b"a"),
                (b"a<!-- x -->b", b"ab"),
                (b"before/* Test\0Case ", b"before "),
                (b"1 or 1 -- rest", b"1 or 1 "),
                (b"1 # rest", b"1 "),
                (b"a*/b", b"a*/b"),
                (b"a-b / c * d", b"a-b / c * d"),
                (b"/*", b" "),
                (b"/**/", b""),
                (b"/*/", b" "),
            ],
        );
    }
}
