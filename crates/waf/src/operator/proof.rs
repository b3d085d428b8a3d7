//! What can be said of an operator without running it: for lints.

use super::{Kind, Operator, class, text::Comparison};
use memchr::memmem;
use regex_syntax::hir::{Class, Hir, HirKind};

impl Operator {
    /// Whether it matches every value (true) or none (false), where it does not look at it.
    pub(crate) fn always(&self) -> Option<bool> {
        match self.kind {
            Kind::Always(matches) => Some(matches),
            _ => None,
        }
    }

    /// Whether it is a regular expression.
    pub(crate) fn is_expression(&self) -> bool {
        matches!(self.kind, Kind::Regex(_) | Kind::ExpandingRegex(_) | Kind::Verify(_))
    }

    /// Whether it may match a value that is made of these bytes only. "No" is a proof.
    pub(crate) fn can_match(&self, can: &dyn Fn(u8) -> bool) -> bool {
        match &self.kind {
            Kind::Compare(comparison) if comparison.needs_argument() => self.argument.bytes().all(can),
            Kind::Regex(pattern) => class::parse(pattern.source()).map_or(true, |tree| may(&tree, can)),
            _ => true,
        }
    }

    /// Whether it matches every value that `other` matches. "Yes" is a proof; neither
    /// argument holds macros.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        let same = self.argument == other.argument;
        let holds = || memmem::find(other.argument.as_bytes(), self.argument.as_bytes()).is_some();
        match (&self.kind, &other.kind) {
            (Kind::Compare(Comparison::Contains), Kind::Compare(theirs)) => {
                theirs.needs_argument() && holds()
            }
            (Kind::Compare(ours), Kind::Compare(theirs)) => ours == theirs && same,
            (Kind::Order(ours, _), Kind::Order(theirs, _)) => ours == theirs && same,
            (Kind::Regex(_), Kind::Regex(_)) => same,
            (Kind::Sql, Kind::Sql)
            | (Kind::Script, Kind::Script)
            | (Kind::UrlEncoding, Kind::UrlEncoding)
            | (Kind::Utf8Encoding, Kind::Utf8Encoding) => true,
            _ => false,
        }
    }
}

/// Whether an expression may match a text of these bytes only.
fn may(expression: &Hir, can: &dyn Fn(u8) -> bool) -> bool {
    match expression.kind() {
        HirKind::Empty | HirKind::Look(_) => true,
        HirKind::Literal(literal) => literal.0.iter().all(|byte| can(*byte)),
        HirKind::Class(Class::Bytes(class)) => {
            class.iter().any(|range| (range.start()..=range.end()).any(can))
        }
        HirKind::Class(Class::Unicode(class)) => class
            .iter()
            .any(|range| (range.start()..=range.end()).any(|letter| u8::try_from(letter).map_or(true, can))),
        HirKind::Repetition(repetition) => repetition.min == 0 || may(&repetition.sub, can),
        HirKind::Capture(capture) => may(&capture.sub, can),
        HirKind::Concat(parts) => parts.iter().all(|part| may(part, can)),
        HirKind::Alternation(parts) => parts.iter().any(|part| may(part, can)),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Operator, tests::Files};
    use proptest::prelude::*;

    fn compile(name: &str, argument: &str) -> Operator {
        super::super::tests::compile(name, argument, &Files(&[])).unwrap()
    }

    #[test]
    fn a_value_without_capitals_matches_no_capital() {
        let small = |byte: u8| !byte.is_ascii_uppercase();
        for (name, argument, may) in [
            ("rx", "UNION", false),
            ("rx", "(?i)UNION", true),
            ("rx", "^a[A-Z]b", false),
            ("rx", "a[A-Z]?b", true),
            ("rx", "A|b", true),
            ("rx", "(?:A|B){1,2}", false),
            ("rx", "[^a]", true),
            ("streq", "Host", false),
            ("contains", "host", true),
            ("within", "GET POST", true),
            ("pm", "GET POST", true),
        ] {
            assert_eq!(compile(name, argument).can_match(&small), may, "@{name} {argument}");
        }
    }

    #[test]
    fn one_operator_covers_another_only_where_that_is_certain() {
        for (ours, theirs, covers) in [
            (("contains", "a"), ("contains", "bab"), true),
            (("contains", "a"), ("streq", "a"), true),
            (("contains", "ab"), ("contains", "a"), false),
            (("contains", "a"), ("within", "a"), false),
            (("streq", "a"), ("contains", "a"), false),
            (("rx", "a+"), ("rx", "a+"), true),
            (("rx", "a+"), ("rx", "a"), false),
            (("detectSQLi", ""), ("detectSQLi", ""), true),
            (("ge", "1"), ("gt", "1"), false),
        ] {
            assert_eq!(
                compile(ours.0, ours.1).covers(&compile(theirs.0, theirs.1)),
                covers,
                "{ours:?} {theirs:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_cannot_match_does_not(
            pattern in "[aAbB.]{0,3}(\\([aA]\\|[bB]\\)|\\[A-B\\]|\\[\\^a\\]|A)?[*+?]?[aA]{0,2}",
            value in "[ab ]{0,8}",
        ) {
            let small = |byte: u8| !byte.is_ascii_uppercase();
            let mut found = crate::operator::Found::default();
            let Ok(operator) = super::super::tests::compile("rx", &pattern, &Files(&[])) else {
                return Ok(());
            };
            if !operator.can_match(&small) {
                prop_assert!(!operator.evaluate(value.as_bytes(), None, &mut found), "{pattern} {value}");
            }
        }

        #[test]
        fn what_is_covered_matches_both(
            ours in ("contains|streq|beginsWith|endsWith|containsWord|within|rx", "[ab]{1,2}"),
            theirs in ("contains|streq|beginsWith|endsWith|containsWord|within|rx", "[ab]{1,3}"),
            value in "[ab ]{0,6}",
        ) {
            let (ours, theirs) = (compile(&ours.0, &ours.1), compile(&theirs.0, &theirs.1));
            let mut found = crate::operator::Found::default();
            if ours.covers(&theirs) && theirs.evaluate(value.as_bytes(), None, &mut found) {
                prop_assert!(ours.evaluate(value.as_bytes(), None, &mut found), "{value}");
            }
        }
    }
}
