//! JSON texts and numbers into a byte buffer (RFC 8259), without allocating.

/// 0 when the byte stands for itself, `u` when it needs `\u00XX`, else the letter after
/// the backslash.
const fn escape(byte: u8) -> u8 {
    match byte {
        0x08 => b'b',
        0x09 => b't',
        0x0a => b'n',
        0x0c => b'f',
        0x0d => b'r',
        b'"' | b'\\' => byte,
        // The last is not required, but a terminal that prints the log is then safe.
        0x00..=0x1f | 0x7f => b'u',
        _ => 0,
    }
}

/// Appends `text` in quotes.
pub(crate) fn text(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    out.push(b'"');
    // Nearly all texts hold nothing to escape. Looking through the whole of one without
    // stopping early lets the compiler take many bytes at a time.
    let plain = bytes.iter().fold(true, |plain, &byte| plain & stands_for_itself(byte));
    if plain {
        out.extend_from_slice(bytes);
    } else {
        escaped(out, bytes);
    }
    out.push(b'"');
}

const fn stands_for_itself(byte: u8) -> bool {
    (byte >= 0x20) & (byte != b'"') & (byte != b'\\') & (byte != 0x7f)
}

fn escaped(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut written = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        let escape = escape(byte);
        if escape == 0 {
            continue;
        }
        out.extend_from_slice(bytes.get(written..at).unwrap_or_default());
        written = at + 1;
        if escape == b'u' {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', digit(byte >> 4), digit(byte & 15)]);
        } else {
            out.extend_from_slice(&[b'\\', escape]);
        }
    }
    out.extend_from_slice(bytes.get(written..).unwrap_or_default());
}

/// Appends a number.
pub(crate) fn number(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The longest start of `text` that has at most `bytes_max` bytes and ends between
/// two characters.
pub(crate) fn cut(text: &str, bytes_max: usize) -> &str {
    // A character has at most four bytes.
    let end = (0..4).filter_map(|back| bytes_max.checked_sub(back)).find(|&end| text.is_char_boundary(end));
    if text.len() <= bytes_max { text } else { text.get(..end.unwrap_or(0)).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_class_of_character_is_escaped_as_it_must() {
        for (given, expected) in [
            ("", r#""""#),
            ("plain", r#""plain""#),
            ("a\"b\\c/", r#""a\"b\\c/""#),
            ("\r\n\t\u{8}\u{c}", r#""\r\n\t\b\f""#),
            ("\0\u{1b}[31m\u{7f}", r#""\u0000\u001b[31m\u007f""#),
            ("é\u{fffd}\u{1f600}", "\"é\u{fffd}\u{1f600}\""),
        ] {
            let mut out = Vec::new();
            text(&mut out, given);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn cuts_between_characters() {
        for (given, bytes_max, expected) in
            [("abc", 3, "abc"), ("abc", 2, "ab"), ("aéb", 2, "a"), ("aéb", 3, "aé"), ("", 0, "")]
        {
            assert_eq!(cut(given, bytes_max), expected);
        }
    }

    #[test]
    fn both_ways_agree_on_what_needs_an_escape() {
        for byte in 0..=u8::MAX {
            assert_eq!(stands_for_itself(byte), escape(byte) == 0, "{byte:#x}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(given in any::<String>()) {
            let mut out = Vec::new();
            text(&mut out, &given);
            prop_assert!(!out.contains(&b'\n'));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), given);
        }
    }
}
