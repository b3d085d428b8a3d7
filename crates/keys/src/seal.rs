//! Texts that we hand out and want back as they were: sealed with AES-256-GCM. A [`SealRing`] has
//! keys of this process, which are replaced while the ones before still open what they sealed; a
//! [`SealKey`] is made of bytes that several processes have.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand::SecureRandom;
use model::Timestamp;

use crate::encoding::{decode_base64url, encode_base64url};
use crate::error::Error;

/// How long a key seals. Far fewer than 2³² texts, the bound for random nonces (NIST SP
/// 800-38D §8.3), can be sealed in it.
pub(crate) const SEAL_PERIOD: Duration = Duration::from_secs(24 * 3600);
/// Longest sealed text that is opened, bytes.
pub const SEALED_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a key.
pub const SEAL_KEY_BYTES: usize = 32;
const NUMBER_BYTES: usize = 4;

/// One key. It must not seal more than 2³² texts, the bound for random nonces (NIST SP 800-38D
/// §8.3): who has it replaces it before.
pub struct SealKey(RandomizedNonceKey);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey")
    }
}

impl SealKey {
    /// The key of these bytes.
    ///
    /// # Errors
    /// [`Error::Cryptography`].
    pub fn new(bytes: &[u8; SEAL_KEY_BYTES]) -> Result<Self, Error> {
        let key = RandomizedNonceKey::new(&AES_256_GCM, bytes);
        key.map(Self).map_err(|_| Error::Cryptography("sealing"))
    }

    /// Seals a text for one purpose; whoever opens it must name the same one.
    ///
    /// # Errors
    /// [`Error::Cryptography`].
    pub fn seal(&self, text: &[u8], purpose: &[u8]) -> Result<Vec<u8>, Error> {
        let mut text = text.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(purpose), &mut text);
        let nonce = nonce.map_err(|_| Error::Cryptography("sealing"))?;
        Ok([&nonce.as_ref()[..], &text].concat())
    }

    /// The text, if it was sealed with this key for this purpose; nobody is told what else was
    /// wrong.
    pub fn open(&self, sealed: &[u8], purpose: &[u8]) -> Option<Vec<u8>> {
        let (nonce, text) = sealed.split_at_checked(NONCE_LEN)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut text = text.to_vec();
        let opened = self.0.open_in_place(nonce, Aad::from(purpose), &mut text).ok()?.len();
        text.truncate(opened);
        Some(text)
    }
}

/// A key and the ones before it.
pub struct SealRing {
    keys: Mutex<VecDeque<Numbered>>,
    /// How long a key opens after it has stopped to seal.
    opens_for: Duration,
}

struct Numbered {
    number: [u8; NUMBER_BYTES],
    key: SealKey,
    begun: Timestamp,
}

impl std::fmt::Debug for SealRing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealRing").field("opens_for", &self.opens_for).finish_non_exhaustive()
    }
}

impl SealRing {
    /// Without a key yet. What was sealed is opened for at least `opens_for`.
    pub fn new(opens_for: Duration) -> Self {
        Self { keys: Mutex::default(), opens_for }
    }

    /// Seals a text for one purpose; whoever opens it must name the same one.
    ///
    /// # Errors
    /// [`Error::Cryptography`].
    pub fn seal(
        &self,
        text: &[u8],
        purpose: &[u8],
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<String, Error> {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        self.turn(&mut keys, now, random)?;
        let key = keys.front().ok_or(Error::Cryptography("sealing"))?;
        let whole = [&key.number[..], &key.key.seal(text, purpose)?].concat();
        Ok(encode_base64url(&whole))
    }

    /// The text, if it was sealed here for this purpose and not too long ago; nobody is
    /// told what else was wrong.
    pub fn open(&self, sealed: &[u8], purpose: &[u8], now: Timestamp) -> Option<Vec<u8>> {
        if sealed.len() > SEALED_BYTES_MAX {
            return None;
        }
        let whole = decode_base64url(sealed)?;
        let (number, sealed) = whole.split_at_checked(NUMBER_BYTES)?;
        let keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        let key = keys.iter().find(|key| key.number == *number)?;
        if now.since(key.begun) > SEAL_PERIOD + self.opens_for {
            return None;
        }
        key.key.open(sealed, purpose)
    }

    fn turn(
        &self,
        keys: &mut VecDeque<Numbered>,
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<(), Error> {
        if keys.front().is_some_and(|key| now.since(key.begun) < SEAL_PERIOD) {
            return Ok(());
        }
        let failed = |_| Error::Cryptography("random numbers");
        let (mut bytes, mut number) = (zeroize::Zeroizing::new([0; SEAL_KEY_BYTES]), [0; NUMBER_BYTES]);
        random.fill(bytes.as_mut()).map_err(failed)?;
        random.fill(&mut number).map_err(failed)?;
        keys.push_front(Numbered { number, key: SealKey::new(&bytes)?, begun: now });
        keys.retain(|key| now.since(key.begun) <= SEAL_PERIOD + self.opens_for);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_seconds(1_000_000 + seconds)
    }

    #[test]
    fn only_what_was_sealed_here_for_this_purpose_opens() {
        let (ring, random) = (SealRing::new(Duration::from_secs(3600)), SystemRandom::new());
        let sealed = ring.seal(b"text", b"purpose", at(0), &random).unwrap();
        assert_eq!(ring.open(sealed.as_bytes(), b"purpose", at(1)).as_deref(), Some(&b"text"[..]));
        assert_ne!(sealed, ring.seal(b"text", b"purpose", at(0), &random).unwrap());
        assert!(ring.open(sealed.as_bytes(), b"another", at(1)).is_none());
        let other = SealRing::new(Duration::from_secs(3600));
        let _ = other.seal(b"text", b"purpose", at(0), &random).unwrap();
        assert!(other.open(sealed.as_bytes(), b"purpose", at(1)).is_none(), "another process' key");
        for place in 0..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert!(ring.open(&changed, b"purpose", at(1)).is_none(), "changed at {place}");
            assert!(ring.open(&sealed.as_bytes()[..place], b"purpose", at(1)).is_none(), "cut at {place}");
        }
    }

    #[test]
    fn boundary_sealed_bytes_max() {
        let (ring, random) = (SealRing::new(Duration::from_secs(3600)), SystemRandom::new());
        let seal = |bytes: usize| ring.seal(&vec![b'x'; bytes], b"", at(0), &random).unwrap();
        let most = (0..SEALED_BYTES_MAX).rev().find(|bytes| seal(*bytes).len() <= SEALED_BYTES_MAX).unwrap();
        let (at_most, over) = (seal(most), seal(most + 1));
        assert!(at_most.len() > SEALED_BYTES_MAX - 2 && over.len() > SEALED_BYTES_MAX);
        assert!(ring.open(at_most.as_bytes(), b"", at(1)).is_some());
        assert!(ring.open(over.as_bytes(), b"", at(1)).is_none());
    }

    #[test]
    fn keys_are_replaced_and_the_ones_before_open_for_their_time() {
        let (ring, random) = (SealRing::new(Duration::from_secs(3600)), SystemRandom::new());
        let day = SEAL_PERIOD.as_secs();
        let old = ring.seal(b"old", b"", at(day - 1), &random).unwrap();
        let young = ring.seal(b"young", b"", at(day + day - 1), &random).unwrap();
        assert_ne!(old[..4], young[..4], "the number of the key");
        // The second key began at the second sealing.
        assert!(ring.open(old.as_bytes(), b"", at(day + 3600 + day - 1)).is_some());
        assert!(ring.open(old.as_bytes(), b"", at(day - 1 + day + 3601)).is_none());
        assert!(ring.open(young.as_bytes(), b"", at(2 * day)).is_some());
        let _ = ring.seal(b"x", b"", at(9 * day), &random).unwrap();
        assert_eq!(ring.keys.lock().unwrap().len(), 1, "keys that open nothing are gone");
    }
}
