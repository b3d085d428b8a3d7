//! SHA-256 as an array: what tokens, keys and secrets are remembered and compared by.

use aws_lc_rs::digest::{SHA256, digest};

/// The SHA-256 of these bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut whole = [0; 32];
    whole.copy_from_slice(digest(&SHA256, bytes).as_ref());
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn it_is_sha_256() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(crate::encoding::hex(&sha256(b"abc")), expected);
    }
}
