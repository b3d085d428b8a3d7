//! What a rule may ask to be done to a value before it is compared: `t:lowercase`,
//! `t:urlDecodeUni` and their kin, as the ModSecurity reference manual documents them,
//! with the behaviour of version 2.9 where 2.9 and 3 differ.
//!
//! One small file per transformation. Each is a pure function of bytes that says "nothing
//! to change" before it allocates anything, so that the common value costs one scan.
//!
//! Deliberately different from 2.9, all towards seeing more of the value:
//! * `cmdLine`, `sqlHexDecode` and `base64DecodeExt` go on after a NUL byte, where 2.9
//!   ends the value;
//! * `base64DecodeExt` steps over misplaced padding, which empties the value in 2.9;
//! * `removeComments` examines the byte after `*/`, which 2.9 copies unseen;
//! * `sqlHexDecode` examines the byte after a run of digits, which 2.9 copies unseen;
//! * the path normalisations resolve whole segments, where 2.9 also takes the end of
//!   `name..` for a reference to the parent.

mod base64_decode;
mod base64_decode_ext;
mod base64_encode;
mod cmd_line;
mod compress_whitespace;
mod css_decode;
mod escape_seq_decode;
mod hex_decode;
mod hex_encode;
mod html_entity_decode;
mod js_decode;
mod length;
mod letter_case;
mod md5;
mod normalise_path;
mod nulls;
mod parity;
mod remove_comments;
mod remove_comments_char;
mod remove_whitespace;
mod replace_comments;
mod sha1;
mod sql_hex_decode;
mod trim;
mod unicode_map;
mod url_decode;
mod url_decode_uni;
mod url_encode;
mod utf8_to_unicode;

#[cfg(test)]
mod tests;

pub(crate) use remove_whitespace::is_white;

use std::{borrow::Cow, ops::Range};

/// What a transformation makes of its input.
enum Change {
    /// The value stays as it is.
    Nothing,
    /// Only this part of the value stays.
    Part(Range<usize>),
    /// The value becomes this.
    To(Vec<u8>),
}

impl From<Option<Vec<u8>>> for Change {
    fn from(changed: Option<Vec<u8>>) -> Self {
        changed.map_or(Self::Nothing, Self::To)
    }
}

macro_rules! transformations {
    ($($variant:ident $name:literal $(= $alias:literal)? => $apply:expr;)*) => {
        /// A transformation that a rule can name.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(crate) enum Transformation {
            $(#[doc = concat!("`t:", $name, "`")] $variant,)*
        }

        /// Every name, aliases too, and what it stands for.
        const NAMES: &[(&str, Transformation)] = &[
            $(($name, Transformation::$variant), $(($alias, Transformation::$variant),)?)*
        ];

        impl Transformation {
            /// The name as the reference manual writes it.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            fn change(self, input: &[u8]) -> Change {
                match self {
                    $(Self::$variant => Change::from($apply(input)),)*
                }
            }
        }
    };
}

transformations! {
    None "none" => |_| Change::Nothing;
    Base64Decode "base64Decode" => base64_decode::apply;
    Base64DecodeExt "base64DecodeExt" = "decodeBase64Ext" => base64_decode_ext::apply;
    Base64Encode "base64Encode" => base64_encode::apply;
    CmdLine "cmdLine" => cmd_line::apply;
    CompressWhitespace "compressWhitespace" => compress_whitespace::apply;
    CssDecode "cssDecode" => css_decode::apply;
    EscapeSeqDecode "escapeSeqDecode" => escape_seq_decode::apply;
    HexDecode "hexDecode" => hex_decode::apply;
    HexEncode "hexEncode" => hex_encode::apply;
    HtmlEntityDecode "htmlEntityDecode" => html_entity_decode::apply;
    JsDecode "jsDecode" => js_decode::apply;
    Length "length" => length::apply;
    Lowercase "lowercase" => letter_case::lower;
    Uppercase "uppercase" => letter_case::upper;
    Md5 "md5" => md5::apply;
    NormalisePath "normalisePath" = "normalizePath" => normalise_path::unix;
    NormalisePathWin "normalisePathWin" = "normalizePathWin" => normalise_path::windows;
    ParityEven7bit "parityEven7bit" => parity::even;
    ParityOdd7bit "parityOdd7bit" => parity::odd;
    ParityZero7bit "parityZero7bit" => parity::zero;
    RemoveComments "removeComments" => remove_comments::apply;
    RemoveCommentsChar "removeCommentsChar" => remove_comments_char::apply;
    RemoveNulls "removeNulls" => nulls::remove;
    RemoveWhitespace "removeWhitespace" => remove_whitespace::apply;
    ReplaceComments "replaceComments" => replace_comments::apply;
    ReplaceNulls "replaceNulls" => nulls::replace;
    Sha1 "sha1" => sha1::apply;
    SqlHexDecode "sqlHexDecode" => sql_hex_decode::apply;
    Trim "trim" => trim::both;
    TrimLeft "trimLeft" => trim::left;
    TrimRight "trimRight" => trim::right;
    UrlDecode "urlDecode" => url_decode::apply;
    UrlDecodeUni "urlDecodeUni" => url_decode_uni::apply;
    UrlEncode "urlEncode" => url_encode::apply;
    Utf8ToUnicode "utf8toUnicode" => utf8_to_unicode::apply;
}

impl Transformation {
    /// The transformation of a `t:` name, in any mix of upper and lower case.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        NAMES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|&(_, transformation)| transformation)
    }

    /// All names that [`Self::from_name`] knows.
    pub(crate) fn names() -> impl Iterator<Item = &'static str> {
        NAMES.iter().map(|&(name, _)| name)
    }

    /// The value after the transformation. What is borrowed and does not change stays
    /// borrowed; what is owned and does not change keeps its memory.
    pub(crate) fn apply(self, input: Cow<'_, [u8]>) -> Cow<'_, [u8]> {
        match self.change(&input) {
            Change::Nothing => input,
            Change::To(changed) => Cow::Owned(changed),
            Change::Part(part) => match input {
                Cow::Borrowed(bytes) => Cow::Borrowed(bytes.get(part).unwrap_or_default()),
                Cow::Owned(mut bytes) => {
                    bytes.truncate(part.end);
                    bytes.drain(..part.start.min(bytes.len()));
                    Cow::Owned(bytes)
                }
            },
        }
    }
}

/// White space as C's `isspace` has it: with the vertical tab, which Rust's
/// `is_ascii_whitespace` leaves out.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// The no-break space of ISO 8859-1, which 2.9 takes for white space.
const NO_BREAK_SPACE: u8 = 0xa0;

/// The value of a hexadecimal digit.
const fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

/// The byte that two hexadecimal digits at the start of `input` stand for.
const fn pair(input: &[u8]) -> Option<u8> {
    match input {
        [high, low, ..] => match (digit(*high), digit(*low)) {
            (Some(high), Some(low)) => Some((high << 4) | low),
            _ => None,
        },
        _ => None,
    }
}

/// A full-width form (U+FF01 to U+FF5E) whose low byte is `low` and whose high byte is
/// FF, as ASCII; any other low byte as it is.
const fn full_width(low: u8, high_is_ff: bool) -> u8 {
    if high_is_ff && low > 0x00 && low < 0x5f { low + 0x20 } else { low }
}

/// The number that up to three octal digits at the start of `input` stand for, and how
/// many they are.
fn octal(input: &[u8]) -> (u16, usize) {
    input
        .iter()
        .take(3)
        .take_while(|byte| matches!(byte, b'0'..=b'7'))
        .fold((0, 0), |(value, count), byte| (value * 8 + u16::from(byte - b'0'), count + 1))
}

/// The control character that a letter after a backslash stands for in C.
const fn control(letter: u8) -> Option<u8> {
    match letter {
        b'a' => Some(0x07),
        b'b' => Some(0x08),
        b'f' => Some(0x0c),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'v' => Some(0x0b),
        _ => None,
    }
}

/// Copies `input` up to `at`, where the first change is, into memory for all of it.
fn started(input: &[u8], at: usize) -> (Vec<u8>, &[u8]) {
    let (kept, rest) = input.split_at_checked(at).unwrap_or((input, &[]));
    let mut out = Vec::with_capacity(input.len());
    out.extend_from_slice(kept);
    (out, rest)
}
