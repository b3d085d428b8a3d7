//! Values that nobody can guess. The generator is the caller's.

use std::sync::{Mutex, PoisonError};

use aws_lc_rs::digest::{SHA256, digest};
use keys::SecureRandom;
use keys::encoding::encode_base64url;

use crate::Error;

/// Bytes of a name.
const NAME_BYTES: usize = 16;
/// So many are drawn at once where many are needed.
const NAMES_AT_ONCE: usize = 64;

/// A secret of 256 bits, base64url: 43 characters.
pub(crate) fn secret(random: &dyn SecureRandom) -> Result<String, Error> {
    text::<32>(random)
}

/// A name of 128 bits that is no secret, base64url: 22 characters.
pub(crate) fn name(random: &dyn SecureRandom) -> Result<String, Error> {
    text::<NAME_BYTES>(random)
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

/// Names as of [`name`], for whoever needs one for each request: the generator takes fresh entropy
/// at each call, which costs more than all the rest of a name. Nothing that has to be secret may
/// come from here: what is drawn waits in memory.
#[derive(Default)]
pub(crate) struct Names(Mutex<Vec<[u8; NAME_BYTES]>>);

impl Names {
    pub(crate) fn next(&self, random: &dyn SecureRandom) -> Result<String, Error> {
        let mut drawn = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(next) = drawn.pop() {
            return Ok(encode_base64url(&next));
        }
        let fresh = bytes::<{ NAME_BYTES * NAMES_AT_ONCE }>(random)?;
        drawn.extend_from_slice(fresh.as_chunks().0);
        drawn.pop().map(|next| encode_base64url(&next)).ok_or(Error::Random)
    }
}

/// How a secret of [`secret`] is kept: it has entropy enough that a fast hash does.
pub(crate) fn hash(secret: &str) -> String {
    encode_base64url(digest(&SHA256, secret.as_bytes()).as_ref())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use keys::SystemRandom;

    use super::*;

    #[test]
    fn no_name_is_given_out_twice() {
        let (names, random) = (Names::default(), SystemRandom::new());
        let given: BTreeSet<String> = (0..3 * NAMES_AT_ONCE).map(|_| names.next(&random).unwrap()).collect();
        assert_eq!(given.len(), 3 * NAMES_AT_ONCE);
        assert!(given.iter().all(|name| name.len() == 22));
    }
}
