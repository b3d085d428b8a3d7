//! Which values a transformation can change, by the kinds of bytes that they hold.

use crate::{
    classes::{
        ALL, AMPERSAND, ANGLE, BACKSLASH, CARET, COMMA, CONTROL, Classes, DASH, DOTS, HASH, HIGH, LOWER, ODD,
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

/// Of which kinds a value must hold one so that it holds one of `wanted` after a transformation,
/// where it held none of those before. What is not listed may be made of any that is changed.
pub(super) fn brings(transformation: Transformation, wanted: Classes) -> Classes {
    use Transformation as T;
    let spaces = SPACE | ODD;
    let runs = ODD | DOTS;
    let made = |of: Classes, by: Classes| if wanted & of != 0 { by } else { 0 };
    match transformation {
        T::Lowercase => made(LOWER, UPPER),
        T::Uppercase => made(UPPER, LOWER),
        T::UrlDecode | T::UrlDecodeUni => PERCENT | made(spaces, PLUS),
        T::RemoveNulls => made(runs, CONTROL),
        T::ReplaceNulls => made(spaces, CONTROL),
        T::RemoveWhitespace => made(runs, SPACE | CONTROL | HIGH),
        T::ReplaceComments => made(spaces, SLASH),
        T::CmdLine => {
            made(LOWER, UPPER)
                | made(spaces, COMMA | SEMICOLON | CONTROL)
                | made(runs, QUOTE | BACKSLASH | CARET)
        }
        _ => may_change(transformation),
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
        T::RemoveWhitespace | T::RemoveNulls => Some(classes | ODD | DOTS),
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

    /// What transformations read as something else, and what they take out or put in.
    const PIECES: &[&[u8]] = &[
        b" ", b".", b"-", b"/", b"a", b"Z", b"%2e", b"%3C", b"%20", b"%u0028", b"+", b"&#46;", b"&lt;",
        b"\\2e", b"\\x3c", b"\\u0020", b"\"", b"^", b"\0", b"\n", b"/*", b"*/", b"--", b"#", b",", b";",
        b"(", b"\xa0", b"..", b"Pi4u", b". .", b".\"-", b".\".", b".\0.",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_000))]
        #[test]
        fn what_is_not_brought_is_not_there(value in prop::collection::vec(prop_oneof![
            9 => prop::sample::select(PIECES.to_vec()).prop_map(<[u8]>::to_vec),
            1 => any::<u8>().prop_map(|byte| vec![byte]),
        ], 0..8).prop_map(|pieces| pieces.concat())) {
            let before = classes::of(&value);
            for transformation in Transformation::names().filter_map(Transformation::from_name) {
                let after = classes::of(&transformation.apply(Cow::Borrowed(&value)));
                for class in (0..32).map(|bit| 1 << bit) {
                    let wanted = class | brings(transformation, class);
                    let found = before & wanted == 0 && after & class != 0;
                    prop_assert!(!found, "{} {class:x}", transformation.name());
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
