//! Percent-encoding (RFC 3986 §2.1).

/// Decodes a text. `plus` says that `+` stands for a space, as in forms and queries.
/// `None` when an escape is broken or the result is not UTF-8.
pub(crate) fn decode(text: &[u8], plus: bool) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => digit(*bytes.next()?)? << 4 | digit(*bytes.next()?)?,
            b'+' if plus => b' ',
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

/// Encodes everything but unreserved characters and slashes: for URI fragments.
pub(crate) fn fragment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_what_is_whole_and_nothing_else() {
        assert_eq!(decode(b"a%20b+c", true).as_deref(), Some("a b c"));
        assert_eq!(decode(b"a+b", false).as_deref(), Some("a+b"));
        assert_eq!(decode(b"%C3%A9", true).as_deref(), Some("é"));
        for wrong in [&b"%"[..], b"%4", b"%zz", b"%+1", b"%C3", b"\xff"] {
            assert_eq!(decode(wrong, true), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_fragment_holds_only_what_a_uri_may() {
        assert_eq!(fragment("/paths/~1a~1{id}"), "/paths/~1a~1%7Bid%7D");
    }
}
