//! `t:base64DecodeExt`: decodes and steps over every byte that is no digit, as lenient
//! decoders (PHP's among them) do.

use super::base64_decode::{join, sextet};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    if input.is_empty() {
        return None;
    }
    let digits = input.iter().filter_map(|&byte| sextet(byte));
    Some(join(digits, input.len() / 4 * 3 + 3))
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::Base64DecodeExt, tests::table};

    #[test]
    fn steps_over_what_is_no_digit() {
        table(
            Base64DecodeExt,
            &[
                (b"", b""),
                (b"VGVzdENhc2U=", b"TestCase"),
                (b"P.HNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==", b"<script>alert(1)</script>"),
                (b"VGV zdE\nNhc2U", b"TestCase"),
                (b"VGVzd=ABDYXNl", b"Test\0Case"),
                (b"VGVzdA==Q2FzZQ==", b"Test\x046\x176P"),
                (b"VGVz\0dENhc2U=", b"TestCase"),
                (b"V=", b""),
            ],
        );
    }
}
