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
    if is_plain(bytes) {
        out.extend_from_slice(bytes);
    } else {
        escaped(out, bytes);
    }
    out.push(b'"');
}

/// Appends the longest start of `text` that [`cut`] leaves of it, in quotes. Says whether that
/// is less than all.
pub(crate) fn text_up_to(out: &mut Vec<u8>, text: &str, bytes_max: usize) -> bool {
    let kept = cut(text, bytes_max);
    self::text(out, kept);
    kept.len() < text.len()
}

/// Whether every byte is ASCII and stands for itself. Nearly all texts are so, and most are short:
/// eight bytes are looked at together, and the last few not one by one either.
fn is_plain(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    if !words.iter().all(|word| is_plain_word(u64::from_ne_bytes(*word))) {
        return false;
    }
    match (bytes.last_chunk(), rest.first_chunk(), rest.last_chunk()) {
        _ if rest.is_empty() => true,
        // Those before were looked at already.
        (Some(last), _, _) => is_plain_word(u64::from_ne_bytes(*last)),
        (None, Some(first), Some(last)) => {
            let half = |half: &[u8; 4]| u64::from(u32::from_ne_bytes(*half));
            is_plain_word((half(first) << 32) | half(last))
        }
        _ => is_plain_word(rest.iter().fold(each(b' '), |word, &byte| (word << 8) | u64::from(byte))),
    }
}

/// This byte in each of a word.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Subtracting sets the highest bit of a byte that is too small for it; of those above it only
/// beside such a one.
const fn is_plain_word(word: u64) -> bool {
    let control = word.wrapping_sub(each(b' '));
    let quote = (word ^ each(b'"')).wrapping_sub(each(1));
    let backslash = (word ^ each(b'\\')).wrapping_sub(each(1));
    let delete = (word ^ each(0x7f)).wrapping_sub(each(1));
    (control | quote | backslash | delete | word) & each(0x80) == 0
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
    if text.len() <= bytes_max {
        return text;
    }
    // A character has at most four bytes.
    let end = (0..4).filter_map(|back| bytes_max.checked_sub(back)).find(|&end| text.is_char_boundary(end));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
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
    fn what_is_plain_needs_no_escape_at_any_place() {
        // In texts of every length up to some words, beside bytes at which a borrow would show.
        for byte in 0..=u8::MAX {
            for length in 1..=24 {
                for place in 0..length {
                    for other in [b' ', b'!', b'#', b'[', b']', 0x7e] {
                        let mut bytes = vec![other; length];
                        bytes[place] = byte;
                        let plain = escape(byte) == 0 && byte.is_ascii();
                        assert_eq!(is_plain(&bytes), plain, "{byte:#x} at {place} of {bytes:x?}");
                    }
                }
            }
        }
        assert!(is_plain(b""));
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
