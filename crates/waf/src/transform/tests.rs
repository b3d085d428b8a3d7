//! What holds for every transformation.

use super::*;
use proptest::prelude::*;

/// Applies `transformation` to the first of each pair and expects the second, both from
/// borrowed and from owned bytes; what does not change must stay borrowed.
pub(super) fn table(transformation: Transformation, rows: &[(&[u8], &[u8])]) {
    for (input, expected) in rows {
        let found = transformation.apply(Cow::Borrowed(input));
        let name = transformation.name();
        assert_eq!(
            found.escape_ascii().to_string(),
            expected.escape_ascii().to_string(),
            "t:{name} of {}",
            input.escape_ascii()
        );
        assert_eq!(transformation.apply(Cow::Owned(input.to_vec())), *expected, "t:{name} of an owned value");
        if found == *input {
            assert!(
                matches!(found, Cow::Borrowed(_)),
                "t:{name} copies {} for nothing",
                input.escape_ascii()
            );
        }
    }
}

fn all() -> impl Iterator<Item = Transformation> {
    NAMES.iter().map(|&(_, transformation)| transformation)
}

#[test]
fn names_are_known_in_any_case_and_no_others() {
    for name in Transformation::names() {
        let transformation = Transformation::from_name(name).unwrap();
        assert_eq!(Transformation::from_name(&name.to_uppercase()), Some(transformation));
        assert_eq!(Transformation::from_name(transformation.name()), Some(transformation));
    }
    // Version 3's whole list, as its reference manual has it.
    let manual = "base64Decode base64DecodeExt base64Encode cmdLine compressWhitespace cssDecode escapeSeqDecode \
        hexDecode hexEncode htmlEntityDecode jsDecode length lowercase md5 none normalisePath normalizePath \
        normalisePathWin normalizePathWin parityEven7bit parityOdd7bit parityZero7bit removeComments \
        removeCommentsChar removeNulls removeWhitespace replaceComments replaceNulls sha1 sqlHexDecode trim \
        trimLeft trimRight uppercase urlDecode urlDecodeUni urlEncode utf8toUnicode";
    for name in manual.split_whitespace() {
        assert!(Transformation::from_name(name).is_some(), "{name}");
    }
    for name in ["", "lower", "lowercase ", "urlDecodeUnicode"] {
        assert_eq!(Transformation::from_name(name), None, "{name}");
    }
}

/// Pieces of what transformations look for.
const PIECES: &[&[u8]] = &[
    b"%",
    b"%u",
    b"%u00",
    b"ff1c",
    b"3c",
    b"\\",
    b"\\u",
    b"\\x",
    b"&#",
    b"&#x",
    b"&lt",
    b";",
    b"0",
    b"0x",
    b"/",
    b"//",
    b"/..",
    b"/.",
    b"..",
    b".",
    b"/*",
    b"*/",
    b"<!--",
    b"-->",
    b"--",
    b"#",
    b" ",
    b"\t",
    b"\0",
    b"\xa0",
    b"=",
    b"QUJD",
    b"+",
    b"\xc3\xa9",
    b"\xc0",
    b"\xf5\x80",
    b"\xe0\x80\x80",
    b"377",
    b"^",
    b"\"",
    b"a",
];

/// Bytes rich in what transformations look for.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => prop::sample::select(PIECES).prop_map(<[u8]>::to_vec),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_500))]

    /// No input makes a transformation panic; owned and borrowed input give the same; a
    /// value that stays the same is not copied.
    #[test]
    fn fuzz_smoke_transformations(input in prop_oneof![hostile(), prop::collection::vec(any::<u8>(), 0..64)]) {
        for transformation in all() {
            let borrowed = transformation.apply(Cow::Borrowed(&input));
            let owned = transformation.apply(Cow::Owned(input.clone()));
            prop_assert_eq!(&borrowed, &owned, "{}", transformation.name());
            if borrowed == input {
                prop_assert!(matches!(borrowed, Cow::Borrowed(_)), "{} copies for nothing", transformation.name());
            }
        }
    }

    /// What has nothing to decode, fold or remove stays borrowed.
    #[test]
    fn plain_values_stay_borrowed(input in "[a-z0-9]{0,40}") {
        use Transformation::*;
        for transformation in [
            None, CmdLine, CompressWhitespace, CssDecode, EscapeSeqDecode, HtmlEntityDecode, JsDecode, Lowercase,
            NormalisePath, NormalisePathWin, ParityZero7bit, RemoveComments, RemoveCommentsChar, RemoveNulls,
            RemoveWhitespace, ReplaceComments, ReplaceNulls, Trim, TrimLeft, TrimRight, UrlDecode, UrlDecodeUni,
            UrlEncode, Utf8ToUnicode,
        ] {
            prop_assert!(matches!(transformation.apply(Cow::Borrowed(input.as_bytes())), Cow::Borrowed(_)),
                "{}", transformation.name());
        }
    }
}
