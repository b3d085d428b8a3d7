//! `t:md5`: the digest's 16 bytes (RFC 1321). Rule files compare it with lists of known
//! digests; nothing is protected by it.

use ::md5::{Digest, Md5};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    Some(Md5::digest(input).to_vec())
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::Md5, tests::table};

    #[test]
    fn digests_of_rfc_1321() {
        table(
            Md5,
            &[
                (b"", b"\xd4\x1d\x8c\xd9\x8f\x00\xb2\x04\xe9\x80\x09\x98\xec\xf8\x42\x7e"),
                (b"abc", b"\x90\x01\x50\x98\x3c\xd2\x4f\xb0\xd6\x96\x3f\x7d\x28\xe1\x7f\x72"),
            ],
        );
    }
}
