//! `t:sha1`: the digest's 20 bytes (FIPS 180-4). Rule files name things with it; nothing
//! is protected by it.

use ::sha1::{Digest, Sha1};

pub(super) fn apply(input: &[u8]) -> Option<Vec<u8>> {
    Some(Sha1::digest(input).to_vec())
}

#[cfg(test)]
mod tests {
    use crate::transform::{Transformation::Sha1, tests::table};

    #[test]
    fn digests_of_fips_180() {
        table(
            Sha1,
            &[
                (b"", b"\xda\x39\xa3\xee\x5e\x6b\x4b\x0d\x32\x55\xbf\xef\x95\x60\x18\x90\xaf\xd8\x07\x09"),
                (b"abc", b"\xa9\x99\x3e\x36\x47\x06\x81\x6a\xba\x3e\x25\x71\x78\x50\xc2\x6c\x9c\xd0\xd8\x9d"),
            ],
        );
    }
}
