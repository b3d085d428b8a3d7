//! The keys of a store, and how they lie in it: sealed under the unseal key.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Prk, Salt};
use aws_lc_rs::hmac;
use aws_lc_rs::rand::SecureRandom;
use model::Secret;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::unseal::{KEY_BYTES, UnsealKey};

/// The first byte of a keyring, sealed and open.
const FORMAT: u8 = 1;
/// Most generations at a time: one per unfinished rotation, and the current one.
const GENERATIONS_MAX: usize = 64;
/// What a sealed keyring is bound to.
const PURPOSE: &[u8] = b"bastide store keyring";

struct Generation {
    secret: Secret<[u8; KEY_BYTES]>,
    /// From which the keys of its records are derived.
    derive: Prk,
}

impl Generation {
    fn new(secret: [u8; KEY_BYTES]) -> Self {
        let derive = Salt::new(HKDF_SHA256, b"bastide store generation").extract(&secret);
        Self { secret: Secret::new(secret), derive }
    }
}

/// The keys of a store: one that hashes keys, for its whole life, and one per generation,
/// of which the last seals what is written.
pub(crate) struct Keyring {
    index_secret: Secret<[u8; KEY_BYTES]>,
    index: hmac::Key,
    backups: hmac::Key,
    generations: BTreeMap<u32, Generation>,
}

impl Keyring {
    /// New keys, with generation 1.
    pub(crate) fn generate(random: &dyn SecureRandom) -> Result<Self, Error> {
        Ok(Self::of(key(random)?, [(1, key(random)?)]))
    }

    fn of(index: [u8; KEY_BYTES], generations: impl IntoIterator<Item = (u32, [u8; KEY_BYTES])>) -> Self {
        let prk = Salt::new(HKDF_SHA256, b"bastide store index").extract(&index);
        let derived = |purpose: &[u8]| {
            let mut bytes = Zeroizing::new([0; KEY_BYTES]);
            // INVARIANT: one block of output is always to be had (RFC 5869 §2.3).
            let filled =
                prk.expand(&[purpose], HKDF_SHA256.hmac_algorithm()).and_then(|okm| okm.fill(&mut *bytes));
            debug_assert!(filled.is_ok());
            hmac::Key::new(hmac::HMAC_SHA256, &*bytes)
        };
        let generations =
            generations.into_iter().map(|(number, secret)| (number, Generation::new(secret))).collect();
        let (hashes, backups) = (derived(b"key segments"), derived(b"backups"));
        Self { index_secret: Secret::new(index), index: hashes, backups, generations }
    }

    /// The same keys and those of a new generation, which is the current one then.
    pub(crate) fn with_next_generation(&self, random: &dyn SecureRandom) -> Result<Self, Error> {
        if self.generations.len() >= GENERATIONS_MAX {
            return Err(Error::TooLarge {
                what: "generations of keys that records are still sealed under",
                found: self.generations.len(),
                most: GENERATIONS_MAX,
            });
        }
        let next = (self.current() + 1, key(random)?);
        Ok(Self::of(*self.index_secret.expose(), self.secrets().chain([next])))
    }

    /// The current generation alone.
    pub(crate) fn without_old_generations(&self) -> Self {
        let current = self.current();
        Self::of(*self.index_secret.expose(), self.secrets().filter(|(number, _)| *number == current))
    }

    fn secrets(&self) -> impl Iterator<Item = (u32, [u8; KEY_BYTES])> {
        self.generations.iter().map(|(number, generation)| (*number, *generation.secret.expose()))
    }

    /// The generation that seals.
    pub(crate) fn current(&self) -> u32 {
        self.generations.keys().next_back().copied().unwrap_or(0)
    }

    /// All generations, oldest first.
    pub(crate) fn numbers(&self) -> Vec<u32> {
        self.generations.keys().copied().collect()
    }

    pub(super) fn generation(&self, number: u32) -> Option<&Prk> {
        self.generations.get(&number).map(|generation| &generation.derive)
    }

    pub(super) fn index(&self) -> &hmac::Key {
        &self.index
    }

    /// What authenticates backups of this store.
    pub(crate) fn backups(&self) -> &hmac::Key {
        &self.backups
    }

    pub(super) fn same_store(&self, other: &Self) -> bool {
        self.index_secret.matches(other.index_secret.expose())
    }

    /// Format, index key, then number and key of each generation; sealed.
    pub(crate) fn seal(&self, unseal_key: &UnsealKey, random: &dyn SecureRandom) -> Result<Vec<u8>, Error> {
        let refused = |_| Error::Cryptography("sealing the keyring");
        let mut text = Zeroizing::new(Vec::with_capacity(64 * (1 + self.generations.len())));
        text.push(FORMAT);
        text.extend_from_slice(self.index_secret.expose());
        for (number, secret) in self.secrets() {
            text.extend_from_slice(&number.to_be_bytes());
            text.extend_from_slice(&*Zeroizing::new(secret));
        }
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce).map_err(refused)?;
        let mut sealed = [&[FORMAT][..], &nonce, &text].concat();
        let (_, body) = sealed.split_at_mut(1 + NONCE_LEN);
        let tag = cipher(unseal_key)
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_separate_tag(nonce, Aad::from(PURPOSE), body)
            })
            .map_err(refused)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    pub(crate) fn open(sealed: &[u8], unseal_key: &UnsealKey) -> Result<Self, Error> {
        let damaged = || Error::Corrupt("the keyring is not one".to_owned());
        let (format, rest) = sealed.split_first().ok_or_else(damaged)?;
        if *format != FORMAT {
            return Err(damaged());
        }
        let (nonce, body) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(damaged)?;
        let mut body = Zeroizing::new(body.to_vec());
        let length = cipher(unseal_key)
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(*nonce);
                cipher.open_in_place(nonce, Aad::from(PURPOSE), &mut body).map(|text| text.len())
            })
            .map_err(|_| Error::WrongKey)?;
        let text = body.get(..length).ok_or_else(damaged)?;
        Self::parse(text).ok_or_else(damaged)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        let text = text.strip_prefix(&[FORMAT])?;
        let (index, mut rest) = text.split_first_chunk()?;
        let mut generations = Vec::new();
        while let Some((number, after)) = rest.split_first_chunk() {
            let (secret, after) = after.split_first_chunk()?;
            generations.push((u32::from_be_bytes(*number), *secret));
            rest = after;
        }
        let whole = rest.is_empty() && !generations.is_empty() && generations.len() <= GENERATIONS_MAX;
        whole.then(|| Self::of(*index, generations))
    }
}

fn key(random: &dyn SecureRandom) -> Result<[u8; KEY_BYTES], Error> {
    let mut bytes = [0; KEY_BYTES];
    random.fill(&mut bytes).map_err(|_| Error::Cryptography("making a key"))?;
    Ok(bytes)
}

fn cipher(unseal_key: &UnsealKey) -> Result<LessSafeKey, aws_lc_rs::error::Unspecified> {
    let prk = Salt::new(HKDF_SHA256, b"bastide store unseal").extract(unseal_key.bytes());
    Ok(LessSafeKey::new(UnboundKey::from(prk.expand(&[PURPOSE], &AES_256_GCM)?)))
}
