//! `t:htmlEntityDecode`: `&quot; &amp; &lt; &gt; &nbsp;` and numbers, decimal and
//! hexadecimal, with or without the semicolon. One byte per entity: the low byte of the
//! number. Any count of leading zeros is read (CVE-2025-27110 is an engine that stops).

use super::{NO_BREAK_SPACE, started};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut rest) = started(input, memchr::memchr(b'&', input)?);
    while let Some(at) = memchr::memchr(b'&', rest) {
        let (plain, entity_on) = rest.split_at_checked(at).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        let (decoded, used) = entity(entity_on).unwrap_or((b'&', 1));
        out.push(decoded);
        rest = entity_on.get(used..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    (out.len() != input.len()).then_some(out)
}

/// The byte that the entity at the start of `text` stands for, and the entity's length.
fn entity(text: &[u8]) -> Option<(u8, usize)> {
    let (value, used) = match text {
        [b'&', b'#', b'x' | b'X', digits @ ..] => {
            let count = digits.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
            (number(digits.get(..count)?, 16)?, 3 + count)
        }
        [b'&', b'#', digits @ ..] => {
            let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
            (number(digits.get(..count)?, 10)?, 2 + count)
        }
        [b'&', name @ ..] => {
            let count = name.iter().take_while(|byte| byte.is_ascii_alphanumeric()).count();
            (named(name.get(..count)?)?, 1 + count)
        }
        _ => return None,
    };
    Some((value, used + usize::from(text.get(used) == Some(&b';'))))
}

/// The low byte of a number; one past the range of C's `long` counts as its largest.
fn number(digits: &[u8], base: i64) -> Option<u8> {
    if digits.is_empty() {
        return None;
    }
    let value = digits.iter().fold(0_i64, |value, &byte| {
        value.saturating_mul(base).saturating_add(i64::from(super::digit(byte).unwrap_or_default()))
    });
    Some(value.to_le_bytes()[0])
}

fn named(name: &[u8]) -> Option<u8> {
    const NAMED: [(&[u8], u8); 5] =
        [(b"quot", b'"'), (b"amp", b'&'), (b"lt", b'<'), (b"gt", b'>'), (b"nbsp", NO_BREAK_SPACE)];
    NAMED.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|&(_, byte)| byte)
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::HtmlEntityDecode, tests::table};

    #[test]
    fn reads_entities() {
        table(
            HtmlEntityDecode,
            &[
                (b"", b""),
                (b"Test&Case", b"Test&Case"),
                (
                    b"&#x0;&#X0;&#x20;&#X20;&#0;&#32;\0&#100;&quot;&amp;&lt;&gt;&nbsp;",
                    b"\0\0  \0 \0d\"&<>\xa0",
                ),
                (b"&#x0&#X0&#x20&#X20&#0&#32\0&#100&quot&amp&lt&gt&nbsp", b"\0\0  \0 \0d\"&<>\xa0"),
                (b"&#xg;&#Xg;&#x2g;&#a;&#3a;&foo;&bar;", b"&#xg;&#Xg;\x02g;&#a;\x03a;&foo;&bar;"),
                (b"& &# &#x &#X &", b"& &# &#x &#X &"),
                (b"&LT;&lT", b"<<"),
                (b"&amp;lt;", b"&lt;"),
                (b"&#60;&#060;&#x3c;&#316;", b"<<<<"),
                (b"&&lt;&#&lt;&#x&lt;", b"&<&#<&#x<"),
                (b"&#", b"&#"),
                (b"&ltfoo", b"&ltfoo"),
            ],
        );
    }

    #[test]
    fn reads_any_count_of_leading_zeros_cve_2025_27110() {
        for zeros in [1, 2, 5, 20, 100, 5_000] {
            let zeros = "0".repeat(zeros);
            table(HtmlEntityDecode, &[(format!("a&#{zeros}123;b").as_bytes(), b"a{b")]);
            table(HtmlEntityDecode, &[(format!("a&#x{zeros}7B;b").as_bytes(), b"a{b")]);
        }
        table(
            HtmlEntityDecode,
            &[(b"a&#100000000000000000000;b", b"a\xffb"), (b"a # 123; b", b"a # 123; b")],
        );
    }
}
