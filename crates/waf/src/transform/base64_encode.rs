//! `t:base64Encode`: RFC 4648, section 4, with padding.

use base64::{Engine, engine::general_purpose::STANDARD};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    (!input.is_empty()).then(|| STANDARD.encode(input).into_bytes())
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::Base64Encode, tests::table};

    #[test]
    fn encodes() {
        table(
            Base64Encode,
            &[
                (b"", b""),
                (b"TestCase", b"VGVzdENhc2U="),
                (b"Test\0Case", b"VGVzdABDYXNl"),
                (b"\xff", b"/w=="),
            ],
        );
    }
}
