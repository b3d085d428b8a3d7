//! `@contains`, `@containsWord`, `@strmatch`, `@streq`, `@within`, `@beginsWith` and
//! `@endsWith`: comparisons of texts, byte for byte.

use super::Found;
use memchr::{memchr_iter, memmem};

/// A text of at most so many bytes is looked through without preparing a search: that costs
/// more than to compare where a byte of what is looked for stands.
const SHORT_TEXT_BYTES: usize = 256;

/// How a value is compared with the argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Comparison {
    BeginsWith,
    Contains,
    ContainsWord,
    EndsWith,
    Equal,
    Within,
}

impl Comparison {
    /// Whether a match means that the value contains the argument.
    pub(super) const fn needs_argument(self) -> bool {
        !matches!(self, Self::Within)
    }

    pub(super) fn evaluate(self, value: &[u8], argument: &[u8], found: &mut Found) -> bool {
        let range = match self {
            Self::BeginsWith => value.starts_with(argument).then_some(0..argument.len()),
            Self::EndsWith => value.ends_with(argument).then(|| value.len() - argument.len()..value.len()),
            Self::Contains => find(value, argument).map(|start| start..start + argument.len()),
            Self::ContainsWord => word(value, argument),
            Self::Equal => (value == argument).then_some(0..value.len()),
            // The empty value is within everything.
            Self::Within => find(argument, value).map(|_| 0..value.len()),
        };
        range.map(|range| found.matched(range)).is_some()
    }
}

/// Where `part` first stands in `text`.
fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    if text.len() > SHORT_TEXT_BYTES {
        return memmem::find(text, part);
    }
    // Lists are written between signs, so the first letter tells more than the first byte.
    let telling = part.iter().position(u8::is_ascii_alphanumeric).unwrap_or(0);
    let Some(byte) = part.get(telling) else { return Some(0) };
    let mut starts = memchr_iter(*byte, text).filter_map(|at| at.checked_sub(telling));
    starts.find(|start| text.get(*start..).is_some_and(|rest| rest.starts_with(part)))
}

/// Where `word` stands with no letter, digit or underscore right before and after it.
fn word(value: &[u8], word: &[u8]) -> Option<std::ops::Range<usize>> {
    let inside = |at: Option<usize>| {
        at.and_then(|at| value.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    if word.is_empty() {
        return Some(0..0);
    }
    // Overlapping places count: the next search starts one byte on.
    let mut from = 0;
    while let Some(at) = value.get(from..).and_then(|rest| find(rest, word)) {
        let (start, end) = (from + at, from + at + word.len());
        if !inside(start.checked_sub(1)) && !inside(Some(end)) {
            return Some(start..end);
        }
        from = start + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::tests::{expect, expect_expanded, finds};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn texts_compare_as_documented() {
        expect("beginsWith", "GET /", &[b"GET /x", b"GET /"], &[b"GET", b"get /", b" GET /"]);
        expect("endsWith", ".pdf", &[b"a.pdf", b".pdf"], &[b"a.PDF", b"pdf", b"a.pdf "]);
        expect("contains", "abc", &[b"abc", b"xabcx"], &[b"", b"ab", b"aBc"]);
        expect("strmatch", "abc", &[b"abc", b"xabcx"], &[b"", b"ab", b"ABC"]);
        expect("streq", "abc", &[b"abc"], &[b"", b"abcd", b"ABC", b"abc\0"]);
        expect(
            "within",
            "GET,POST,HEAD",
            &[b"GET", b"POST", b"", b"T,P"],
            &[b"PUT", b"get", b"GET,POST,HEAD,"],
        );
        expect(
            "containsWord",
            "sel",
            &[b"sel", b"a sel b", b"-sel.", b"xsel sel"],
            &[b"select", b"_sel", b"sel1", b"1sel"],
        );
        expect("containsWord", "a-a", &[b"xa-a-a"], &[b"xa-ab"]);
    }

    proptest! {
        #[test]
        fn a_text_is_found_where_it_first_stands(text in "[ab/]{0,12}", part in "[ab/]{0,3}", before in 0..600_usize) {
            let text = ["c".repeat(before), text].concat();
            prop_assert_eq!(find(text.as_bytes(), part.as_bytes()), text.find(&part));
        }
    }

    #[test]
    fn the_empty_text_is_everywhere() {
        for name in ["beginsWith", "endsWith", "contains", "strmatch", "containsWord"] {
            expect(name, "", &[b"", b"x"], &[]);
        }
        expect("streq", "", &[b""], &[b"x"]);
        expect("within", "", &[b""], &[b"x"]);
    }

    #[test]
    fn what_matched_can_be_captured() {
        assert_eq!(finds("contains", "b", b"abc"), Some(b"b".to_vec()));
        assert_eq!(finds("endsWith", "c", b"abc"), Some(b"c".to_vec()));
        assert_eq!(finds("containsWord", "b", b"ab b"), Some(b"b".to_vec()));
        assert_eq!(finds("within", "abc", b"bc"), Some(b"bc".to_vec()));
    }

    #[test]
    fn an_expanded_argument_is_used_in_place_of_the_written_one() {
        for name in ["beginsWith", "endsWith", "contains", "strmatch", "containsWord", "streq", "within"] {
            expect_expanded(name, "%{tx.a}", b"xy", &[b"xy"], &[b"%{tx.a}", b"ab"]);
        }
    }
}
