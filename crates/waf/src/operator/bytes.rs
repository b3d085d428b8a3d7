//! `@validateByteRange`, `@validateUrlEncoding` and `@validateUtf8Encoding`: each matches
//! a value that is not valid.

use super::{Found, OperatorFault};
use crate::classes::{Classes, of_byte};

/// The bytes that `@validateByteRange` allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ByteRange([bool; 256]);

impl ByteRange {
    /// Numbers and ranges between commas: `9,10,13,32-126`.
    pub(super) fn new(argument: &str) -> Result<Self, OperatorFault> {
        let mut allowed = [false; 256];
        let mut offset = 0;
        for text in argument.split(',') {
            let number = |text: &str| text.trim().parse::<u8>().ok();
            let range = match text.split_once('-') {
                Some((first, last)) => number(first).zip(number(last)),
                None => number(text).map(|byte| (byte, byte)),
            };
            match range {
                Some((first, last)) if first <= last => {
                    allowed
                        .iter_mut()
                        .take(usize::from(last) + 1)
                        .skip(usize::from(first))
                        .for_each(|slot| *slot = true);
                }
                _ => {
                    let message =
                        format!("`{}` is no byte and no range of bytes, such as 32-126", text.trim());
                    return Err(OperatorFault::Argument { message, offset });
                }
            }
            offset += text.len() + 1;
        }
        Ok(Self(allowed))
    }

    /// The kinds of the bytes that it does not allow.
    pub(super) fn outside(&self) -> Classes {
        let bytes = (0..=u8::MAX).zip(self.0).filter(|(_, allowed)| !allowed);
        bytes.fold(0, |all, (byte, _)| all | of_byte(byte))
    }

    pub(super) fn evaluate(&self, value: &[u8], found: &mut Found) -> bool {
        let outside =
            value.iter().position(|&byte| !self.0.get(usize::from(byte)).copied().unwrap_or_default());
        outside.map(|at| found.matched(at..at + 1)).is_some()
    }
}

/// Whether a `%` is not followed by two hexadecimal digits.
pub(super) fn broken_url_encoding(value: &[u8], found: &mut Found) -> bool {
    let broken = memchr::memchr_iter(b'%', value).find(|&at| {
        let digits = value.get(at + 1..at + 3).unwrap_or_default();
        digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit)
    });
    broken.map(|at| found.matched(at..value.len().min(at + 3))).is_some()
}

/// Whether the value is not UTF-8 (RFC 3629: no overlong form, no surrogate, nothing past
/// U+10FFFF).
pub(super) fn broken_utf8(value: &[u8], found: &mut Found) -> bool {
    match std::str::from_utf8(value) {
        Ok(_) => false,
        Err(error) => {
            let at = error.valid_up_to();
            found.matched(at..value.len().min(at + error.error_len().unwrap_or(1)));
            true
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{expect, expect_expanded, fault_of, finds};
    use super::*;

    #[test]
    fn bytes_outside_of_the_ranges_match() {
        expect("validateByteRange", "9,10,13,32-126", &[b"a\0", b"\x7f", b"\xff"], &[b"", b"a\t\r\n~"]);
        expect("validateByteRange", " 1 - 255 ", &[b"\0"], &[b"\x01\xff"]);
        expect("validateByteRange", "0-255", &[], &[b"\0\xff"]);
        assert_eq!(finds("validateByteRange", "32-126", b"a\0b"), Some(b"\0".to_vec()));
        expect_expanded("validateByteRange", "%{tx.range}", b"97-98", &[b"c"], &[b"ab"]);
        for (argument, place) in
            [("", 0), ("256", 0), ("32-", 0), ("1,9-3", 2), ("-1", 0), ("1,,2", 2), ("a", 0)]
        {
            match fault_of("validateByteRange", argument) {
                OperatorFault::Argument { offset, .. } => assert_eq!(offset, place, "{argument}"),
                fault => panic!("{argument}: {fault:?}"),
            }
        }
    }

    #[test]
    fn broken_url_escapes_match() {
        expect(
            "validateUrlEncoding",
            "",
            &[b"%", b"a%4", b"%zz", b"%4g", b"%41%", b"%u0041"],
            &[b"", b"abc", b"%41%fF+"],
        );
    }

    #[test]
    fn broken_utf8_matches() {
        expect(
            "validateUtf8Encoding",
            "",
            &[
                b"\xc0\xaf",
                b"\xe0\x80\xaf",
                b"\xed\xa0\x80",
                b"\xf4\x90\x80\x80",
                b"\xff",
                b"\x80",
                b"a\xc3",
                b"\xf8\x88\x80\x80\x80",
            ],
            &[b"", b"abc\0", "é☃😀".as_bytes(), b"\xf4\x8f\xbf\xbf"],
        );
    }
}
