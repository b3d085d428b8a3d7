//! Values that nobody can guess. The generator is the caller's.

use aws_lc_rs::digest::{SHA256, digest};
use keys::SecureRandom;
use keys::encoding::encode_base64url;

use crate::Error;

/// A secret of 256 bits, base64url: 43 characters.
pub(crate) fn secret(random: &dyn SecureRandom) -> Result<String, Error> {
    text::<32>(random)
}

/// A name of 128 bits that is no secret, base64url: 22 characters.
pub(crate) fn name(random: &dyn SecureRandom) -> Result<String, Error> {
    text::<16>(random)
}

/// Random bytes.
pub(crate) fn bytes<const BYTES: usize>(random: &dyn SecureRandom) -> Result<[u8; BYTES], Error> {
    let mut bytes = [0; BYTES];
    random.fill(&mut bytes).map_err(|_| Error::Random)?;
    Ok(bytes)
}

fn text<const BYTES: usize>(random: &dyn SecureRandom) -> Result<String, Error> {
    Ok(encode_base64url(&bytes::<BYTES>(random)?))
}

/// How a secret of [`secret`] is kept: it has entropy enough that a fast hash does.
pub(crate) fn hash(secret: &str) -> String {
    encode_base64url(digest(&SHA256, secret.as_bytes()).as_ref())
}
