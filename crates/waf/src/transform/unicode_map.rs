//! Code page 20127 (US-ASCII) as Windows folds Unicode into it: what an IIS behind the
//! gateway would make of `%u2018`. The facts are Microsoft's best-fit table, in the form
//! that rule files name as `SecUnicodeMapFile unicode.mapping 20127`.

/// First code of a run and the ASCII character for each code of it; NUL: none listed.
const RUNS: &[(u16, &[u8])] = &[
    (0x00a0, b" !c\0$Y|\0\0Ca<\0-R\0\0\x0023\0\0\0.,1o>\0\0\0\0AAAAAAACEEEEIIIIDNOOOOO\0OUUUUY\0\0aaaaaaaceeeeiiii\0nooooo\0ouuuuy\0yAaAaAaCcCcCcCcDdDdEeEeEeEeEeGgGgGgGgHhHhIiIiIiIiIi\0\0JjKk\0LlLlLl\0\0LlNnNnNn\0\0\0OoOoOoOoRrRrRrSsSsSsSsTtTtTtUuUuUuUuUuUuWwYyYZ\0ZzZz\0b\0\0\0\0\0\0\0\0D\0\0\0\0\0\0\0Ff\0\0\0\0I\0\0l\0\0\0\0OOo"),
    (0x01ab, b"t\0\0TUu\0\0\0\0\0z"),
    (0x01cd, b"AaIiOoUuUuUuUuUu\0Aa\0\0\0\0GgGgKkOoOo\0\0j"),
    (0x0261, b"g"),
    (0x02b9, b"'\"\0'\0\0\0\0\0\0\0^\0^\0'\0\0`\0_"),
    (0x02dc, b"~"),
    (0x0300, b"`\0^~"),
    (0x030e, b"\""),
    (0x0331, b"__"),
    (0x2000, b"       "),
    (0x2010, b"--\0--\0\0\0'',\0\"\"\"\0\0\0.\0\0\0."),
    (0x2032, b"'\0\0`\0\0\0<>"),
    (0x2122, b"T"),
    (0xff01, b"!\"#$%&'()*+,-./0123456789:;<=>\0@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~"),
];

/// The ASCII character that `code` is folded to, where the table lists one.
pub(super) fn best_fit(code: u16) -> Option<u8> {
    if code < 0x80 {
        return None;
    }
    let run = RUNS.partition_point(|&(first, _)| first <= code).checked_sub(1)?;
    let &(first, targets) = RUNS.get(run)?;
    targets.get(usize::from(code - first)).copied().filter(|&target| target != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_and_ascii() {
        for pair in RUNS.windows(2) {
            assert!(usize::from(pair[0].0) + pair[0].1.len() <= usize::from(pair[1].0), "{:04x}", pair[1].0);
        }
        assert!(RUNS.iter().flat_map(|(_, targets)| targets.iter()).all(u8::is_ascii));
        let listed: usize =
            RUNS.iter().map(|(_, targets)| targets.iter().filter(|&&target| target != 0).count()).sum();
        assert_eq!(listed, 370);
    }

    #[test]
    fn folds_what_is_listed_and_nothing_else() {
        for (code, expected) in [
            (0x00a0, Some(b' ')),
            (0x00ab, Some(b'<')),
            (0x00c6, Some(b'A')),
            (0x02b9, Some(b'\'')),
            (0x2018, Some(b'\'')),
            (0x2122, Some(b'T')),
            (0xff1c, Some(b'<')),
            (0xff5e, Some(b'~')),
            (0x0041, None),
            (0x00a3, None),
            (0x00e3, Some(b'a')),
            (0x1234, None),
            (0xff1f, None),
            (0xffff, None),
        ] {
            assert_eq!(best_fit(code), expected, "{code:04x}");
        }
    }
}
