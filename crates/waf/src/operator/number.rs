//! `@eq`, `@ge`, `@gt`, `@le` and `@lt`: comparisons of whole numbers. As in C, a number
//! is what stands at the start of the text after white space, and a text that starts with
//! none is zero. A number past 64 bits counts as the largest.

use std::cmp::Ordering;

/// Which orders of value and argument match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Equal,
    GreaterOrEqual,
    Greater,
    LessOrEqual,
    Less,
}

impl Order {
    pub(crate) fn evaluate(self, value: i64, argument: i64) -> bool {
        let order = value.cmp(&argument);
        match self {
            Self::Equal => order == Ordering::Equal,
            Self::GreaterOrEqual => order != Ordering::Less,
            Self::Greater => order == Ordering::Greater,
            Self::LessOrEqual => order != Ordering::Greater,
            Self::Less => order == Ordering::Less,
        }
    }
}

/// The number at the start of a text.
pub(super) fn leading(text: &[u8]) -> i64 {
    let text = text.trim_ascii_start();
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] => (false, digits),
        digits => (false, digits),
    };
    let size = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .fold(0_i64, |size, byte| size.saturating_mul(10).saturating_add(i64::from(byte - b'0')));
    if negative { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{expect, expect_expanded, fault_of};
    use super::*;

    #[test]
    fn numbers_compare_by_their_size() {
        expect("eq", "5", &[b"5", b" 5", b"05", b"5x", b"+5"], &[b"", b"4", b"-5", b"x5", b"55"]);
        expect("ge", "5", &[b"5", b"10"], &[b"4", b"", b"-9"]);
        expect("gt", "5", &[b"6", b"10"], &[b"5", b"4"]);
        expect("le", "5", &[b"5", b"", b"abc", b"-10"], &[b"6", b"10"]);
        expect("lt", "5", &[b"4", b"", b"-10"], &[b"5", b"10"]);
        expect("eq", "-3", &[b"-3"], &[b"3"]);
        expect("eq", "0", &[b"", b"x", b"0"], &[b"1"]);
    }

    #[test]
    fn a_number_past_the_range_stays_the_largest() {
        expect("gt", "5", &[b"99999999999999999999999"], &[b"-99999999999999999999999"]);
        assert_eq!(leading(b"9223372036854775808"), i64::MAX);
        assert_eq!(leading(b"-9223372036854775809"), -i64::MAX);
    }

    #[test]
    fn macros_give_the_number() {
        expect_expanded("ge", "%{tx.limit}", b"7", &[b"7", b"8"], &[b"6"]);
        expect_expanded("lt", "%{tx.none}", b"", &[b"-1"], &[b"0", b"1"]);
    }

    #[test]
    fn an_argument_that_is_no_number_is_refused() {
        for argument in ["", "five", "5x", "1.5", "-"] {
            assert!(
                matches!(fault_of("eq", argument), super::super::OperatorFault::Argument { .. }),
                "{argument}"
            );
        }
    }
}
