//! Texts with places for what a request says: header values, redirects.

use proxy::Routed;

/// A text with places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Template {
    /// Its pieces, in their order.
    pub pieces: Vec<Piece>,
}

/// A piece of a [`Template`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// This text.
    Text(String),
    /// The path parameter of this name.
    Parameter(String),
    /// The path from the segment at this place on, as it was admitted.
    Rest(usize),
    /// The host that was asked for, without port.
    Host,
    /// The whole path, as it was admitted.
    Path,
}

/// Where the text is to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Into {
    /// In a header value: what is no visible ASCII is percent-encoded.
    Header,
    /// In a URI: everything but unreserved characters is (RFC 3986 §2.3).
    Uri,
}

impl Template {
    /// A text without places.
    pub fn text(text: impl std::convert::Into<String>) -> Self {
        Self { pieces: vec![Piece::Text(text.into())] }
    }

    /// Writes the text that comes of a request behind what is there.
    pub fn fill(&self, routed: &Routed, into: Into, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Parameter(name) => {
                    encode(routed.parameters().get(name).unwrap_or_default().as_bytes(), into, out);
                }
                Piece::Rest(from) => out.extend_from_slice(rest(&routed.head().path, *from)),
                Piece::Host => out.extend_from_slice(&routed.head().host),
                Piece::Path => out.extend_from_slice(&routed.head().path),
            }
        }
    }
}

fn rest(path: &[u8], from: usize) -> &[u8] {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| at).nth(from).and_then(|at| path.get(at + 1..)).unwrap_or_default()
}

fn encode(text: &[u8], into: Into, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for &byte in text {
        let stays = match into {
            Into::Header => (0x20..0x7f).contains(&byte) && byte != b'%',
            Into::Uri => byte.is_ascii_alphanumeric() || b"-._~".contains(&byte),
        };
        if stays {
            out.push(byte);
        } else {
            let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_request_breaks_out_of_its_place() {
        let encoded = |text: &str, into| {
            let mut out = Vec::new();
            encode(text.as_bytes(), into, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(encoded("a b;c", Into::Header), "a b;c");
        assert_eq!(encoded("é\r\n%", Into::Header), "%C3%A9%0D%0A%25");
        assert_eq!(encoded("//evil.example/?#@", Into::Uri), "%2F%2Fevil.example%2F%3F%23%40");
    }

    #[test]
    fn the_rest_begins_behind_its_segment() {
        for (from, text) in [(0, "a/b%2F/c"), (1, "b%2F/c"), (2, "c"), (3, "")] {
            assert_eq!(rest(b"/a/b%2F/c", from), text.as_bytes());
        }
    }
}
