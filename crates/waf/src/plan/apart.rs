//! Literals that white space may take apart: whether one may stand in a value is told before
//! `t:removeWhitespace` copies that. It is found by a rare byte of it and the two around that.

use super::Chain;
use crate::{
    operator::Literal,
    transform::{Transformation, is_white},
};
use memchr::memchr2_iter;

/// Three bytes in a row of a literal, in small letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Apart([u8; 3]);

/// The letters, rarest first (in English texts).
const LETTERS: &[u8] = b"qjzxvkwyfbghmpduclsntoirae";

impl Apart {
    /// Of the only literal that a rule needs, where its chain does nothing but take white space
    /// out and fold letters.
    pub(super) fn new(chain: &Chain, literals: &[Literal]) -> Option<Self> {
        use Transformation as T;
        let is_plain = |by: Transformation| matches!(by, T::None | T::RemoveWhitespace | T::Lowercase);
        let takes_apart = chain.path.iter().any(|(by, _)| *by == T::RemoveWhitespace);
        let [literal] = literals else { return None };
        let rank = |byte: u8| LETTERS.iter().position(|letter| *letter == byte).unwrap_or(LETTERS.len());
        let all = literal.bytes().windows(3).filter_map(<[u8]>::first_chunk::<3>);
        let all = all.filter(|all| !all.iter().any(|byte| is_white(*byte)));
        let rarest = all.min_by_key(|[_, middle, _]| rank(*middle))?;
        (takes_apart && chain.path.iter().all(|(by, _)| is_plain(*by))).then_some(Self(*rarest))
    }

    /// Whether the three stand in a value, in any case, with nothing but white space in between.
    pub(crate) fn is_in(self, value: &[u8]) -> bool {
        let Self([before, middle, after]) = self;
        let is =
            |wanted: u8, found: Option<&u8>| found.is_some_and(|found| found.eq_ignore_ascii_case(&wanted));
        memchr2_iter(middle, middle.to_ascii_uppercase(), value).any(|at| {
            let (left, right) = value.split_at_checked(at).unwrap_or_default();
            is(after, right.iter().skip(1).find(|byte| !is_white(**byte)))
                && is(before, left.iter().rev().find(|byte| !is_white(**byte)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::borrow::Cow;

    fn chain(path: &[Transformation]) -> Chain {
        Chain { path: path.iter().map(|by| (*by, 0)).collect(), ..Chain::default() }
    }

    fn literal(text: &str) -> [Literal; 1] {
        [Literal::new(text.as_bytes())]
    }

    #[test]
    fn the_rarest_byte_of_a_literal_is_looked_for() {
        use Transformation as T;
        let of = |path: &[T], text: &str| Apart::new(&chain(path), &literal(text)).map(|apart| apart.0);
        assert_eq!(of(&[T::RemoveWhitespace], "<b>Jinx</b>"), Some(*b">ji"));
        assert_eq!(of(&[T::None, T::RemoveWhitespace, T::Lowercase], "a bcd"), Some(*b"bcd"));
        assert_eq!(of(&[T::RemoveWhitespace], "a b c"), None);
        assert_eq!(of(&[T::Lowercase], "abc"), None);
        assert_eq!(of(&[T::RemoveWhitespace, T::UrlDecode], "abc"), None);
    }

    proptest! {
        #[test]
        fn what_is_found_behind_the_chain_is_told_before_it(value in "[aAb<c \\n\u{a0}]{0,24}", text in "[ab<]{3,5}") {
            use Transformation as T;
            let apart = Apart::new(&chain(&[T::RemoveWhitespace, T::Lowercase]), &literal(&text)).unwrap();
            let after = T::Lowercase.apply(T::RemoveWhitespace.apply(Cow::Borrowed(value.as_bytes())));
            if memchr::memmem::find(&after, text.as_bytes()).is_some() {
                prop_assert!(apart.is_in(value.as_bytes()));
            }
        }
    }
}
