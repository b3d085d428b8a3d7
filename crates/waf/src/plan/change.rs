//! Which values a transformation can change, by the kinds of bytes that they hold.

use crate::{
    classes::{
        ALL, AMPERSAND, ANGLE, BACKSLASH, CARET, COMMA, CONTROL, Classes, DASH, HASH, HIGH, LOWER, ODD,
        PARENTHESIS, PERCENT, PLUS, QUOTE, SEMICOLON, SLASH, SPACE, STAR, UPPER,
    },
    transform::Transformation,
};

/// A value that holds none of these is left as it is. What is not listed may change any value.
pub(super) fn may_change(transformation: Transformation) -> Classes {
    use Transformation as T;
    match transformation {
        T::None => 0,
        T::Lowercase => UPPER,
        T::Uppercase => LOWER,
        T::UrlDecode | T::UrlDecodeUni => PERCENT | PLUS,
        T::HtmlEntityDecode => AMPERSAND,
        T::JsDecode | T::CssDecode | T::EscapeSeqDecode => BACKSLASH,
        T::RemoveNulls | T::ReplaceNulls => CONTROL,
        T::CompressWhitespace => ODD | CONTROL | HIGH,
        T::RemoveWhitespace => SPACE | CONTROL | HIGH,
        T::ReplaceComments => SLASH,
        T::RemoveComments | T::RemoveCommentsChar => SLASH | STAR | DASH | HASH | ANGLE,
        T::NormalisePath | T::NormalisePathWin => SLASH | BACKSLASH | ODD,
        T::CmdLine => {
            UPPER | QUOTE | BACKSLASH | CARET | COMMA | SEMICOLON | SLASH | PARENTHESIS | ODD | CONTROL
        }
        T::Utf8ToUnicode => HIGH | CONTROL,
        _ => ALL,
    }
}

/// What a value that holds `classes` may hold after a transformation; None where that is not
/// easily told. Of `t:lowercase` it is exactly what it does hold.
pub(crate) fn bound(transformation: Transformation, classes: Classes) -> Option<Classes> {
    use Transformation as T;
    match transformation {
        T::Lowercase if classes & UPPER != 0 => Some((classes & !UPPER) | LOWER),
        T::Lowercase => Some(classes),
        // What is taken out may bring two of a kind together.
        T::RemoveWhitespace | T::RemoveNulls => Some(classes | ODD),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classes;
    use proptest::prelude::*;
    use std::borrow::Cow;

    proptest! {
        #[test]
        fn what_cannot_change_does_not(value in proptest::collection::vec(prop_oneof![
            4 => prop::sample::select(b" .-/:;,=&+%'\"<>()\\*#^aZ0xu".to_vec()), 1 => any::<u8>(),
        ], 0..24)) {
            for transformation in Transformation::names().filter_map(Transformation::from_name) {
                if may_change(transformation) & classes::of(&value) == 0 {
                    let after = transformation.apply(Cow::Borrowed(&value));
                    prop_assert_eq!(after.as_ref(), value.as_slice(), "{}", transformation.name());
                }
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_out_of_bounds_is_not_there(value in proptest::collection::vec(prop_oneof![
            4 => prop::sample::select(b" .-\0\tAZaz0".to_vec()), 1 => any::<u8>(),
        ], 0..24)) {
            for transformation in Transformation::names().filter_map(Transformation::from_name) {
                let Some(bound) = bound(transformation, classes::of(&value)) else { continue };
                let after = classes::of(&transformation.apply(Cow::Borrowed(&value)));
                prop_assert_eq!(after & !bound, 0, "{}", transformation.name());
                prop_assert!(after == bound || transformation != Transformation::Lowercase);
            }
        }
    }

    #[test]
    fn what_is_not_listed_may_change_even_the_empty_value() {
        assert!(may_change(Transformation::Sha1) & classes::of(b"") != 0);
        assert!(may_change(Transformation::Length) & classes::of(b"") != 0);
    }
}
