//! What lies between the records and the disk: every value sealed, every segment of a key
//! that could identify a person hashed.
//!
//! A record is sealed with AES-256-GCM. Its key is derived (HKDF-SHA-256, RFC 5869) from
//! the key of a generation, the stored key and the version, so that each is used for one
//! version of one record; the nonce is random besides, so that a store that was set back
//! to an older state does not use one twice. Everything else of the row is associated
//! data: a row that is changed, moved to another key or given another version, end or
//! generation does not open.
//!
//! INVARIANT: nothing but [`Barrier::seal`] makes the `sealed` bytes of a [`Row`].

mod keyring;
mod path;
#[cfg(test)]
mod tests;

use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf::Prk;
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use model::Timestamp;
use zeroize::Zeroizing;

pub(crate) use keyring::Keyring;
pub(crate) use path::{StoredKey, end_of};

use crate::error::Error;
use crate::key::Key;
use crate::record::{Record, Value, Version};
use crate::unseal::UnsealKey;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;
/// The first byte of the associated data: how rows are sealed.
const FORMAT: u8 = 1;

/// One row as it lies in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) key: StoredKey,
    pub(crate) head: Head,
    /// Nonce, ciphertext, tag.
    pub(crate) sealed: Vec<u8>,
}

/// What of a row the database can read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) version: u64,
    /// Nanoseconds since the epoch, below 2^63.
    pub(crate) expires: Option<u64>,
    pub(crate) generation: u32,
    /// Whether it is a record; else it remembers that one was deleted.
    pub(crate) live: bool,
}

impl Head {
    /// Whether there is a record at this time.
    pub(crate) fn is_present(&self, now: Timestamp) -> bool {
        self.live && self.expires.is_none_or(|end| end > now.unix_nanos())
    }
}

/// What a row was made from.
pub(crate) struct Opened {
    pub(crate) key: Key,
    pub(crate) value: Value,
}

/// Why a row does not open.
#[derive(Debug)]
pub(crate) enum Unopened {
    /// Its generation is not in the keyring that is held: somebody else may have rotated.
    Generation(u32),
    /// It was changed, or sealed by somebody else.
    Damaged,
}

impl From<Unopened> for Error {
    fn from(unopened: Unopened) -> Self {
        Self::Corrupt(match unopened {
            Unopened::Generation(generation) => {
                format!("a record is sealed under generation {generation}, which the keyring does not have")
            }
            Unopened::Damaged => "a record does not open: it was changed or moved".to_owned(),
        })
    }
}

/// Hidden texts and value of one record, one after the other, before they are sealed.
pub(crate) struct Plain(Zeroizing<Vec<u8>>);

impl Plain {
    pub(crate) fn new(key: &Key, value: &[u8]) -> Self {
        let mut bytes = Zeroizing::new(Vec::with_capacity(path::hidden_bytes(key) + value.len()));
        path::write_hidden(key, &mut bytes);
        bytes.extend_from_slice(value);
        Self(bytes)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The record that this is, at a stored key and with its head.
    pub(crate) fn record(&self, key: &StoredKey, head: Head) -> Option<Record> {
        let (key, value) = path::read(key, &self.0)?;
        let expires = head.expires.map(Timestamp::from_unix_nanos);
        Some(Record { key, value: value.into(), version: Version::from_number(head.version), expires })
    }
}

/// The keys of an unsealed store.
pub(crate) struct Barrier {
    unseal_key: UnsealKey,
    keyring: RwLock<Arc<Keyring>>,
    random: SystemRandom,
}

impl Barrier {
    pub(crate) fn new(unseal_key: UnsealKey, keyring: Keyring) -> Self {
        Self { unseal_key, keyring: RwLock::new(Arc::new(keyring)), random: SystemRandom::new() }
    }

    pub(crate) fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes a keyring that somebody wrote into the database.
    pub(crate) fn take_keyring(&self, sealed: &[u8]) -> Result<Arc<Keyring>, Error> {
        let keyring = Arc::new(Keyring::open(sealed, &self.unseal_key)?);
        let mut held = self.keyring.write().unwrap_or_else(PoisonError::into_inner);
        // The stored keys hang on it: another one is another store.
        if !held.same_store(&keyring) {
            return Err(Error::Corrupt("the keyring is the one of another store".to_owned()));
        }
        *held = Arc::clone(&keyring);
        Ok(keyring)
    }

    /// Opens a keyring that is sealed under the unseal key of this store.
    pub(crate) fn open_keyring(&self, sealed: &[u8]) -> Result<Keyring, Error> {
        Keyring::open(sealed, &self.unseal_key)
    }

    /// Seals a keyring for the database.
    pub(crate) fn seal_keyring(&self, keyring: &Keyring) -> Result<Vec<u8>, Error> {
        keyring.seal(&self.unseal_key, &self.random)
    }

    pub(crate) fn random(&self) -> &SystemRandom {
        &self.random
    }

    pub(crate) fn stored_key(&self, key: &Key) -> StoredKey {
        self.keyring().stored_key(key)
    }

    /// Seals what stands in a row with this key and head.
    pub(crate) fn seal(&self, key: &StoredKey, head: Head, plain: &Plain) -> Result<Row, Error> {
        let refused = |_| Error::Cryptography("sealing a record");
        let keyring = self.keyring();
        let Some(secret) = keyring.generation(head.generation) else {
            return Err(Unopened::Generation(head.generation).into());
        };
        let mut sealed = Vec::with_capacity(NONCE_BYTES + plain.len() + TAG_BYTES);
        let mut nonce = [0; NONCE_BYTES];
        self.random.fill(&mut nonce).map_err(refused)?;
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&plain.0);
        let (_, text) = sealed.split_at_mut(NONCE_BYTES);
        let tag = record_key(secret, key, head.version)
            .and_then(|cipher| {
                let nonce = Nonce::assume_unique_for_key(nonce);
                cipher.seal_in_place_separate_tag(nonce, Aad::from(associated(key, head)), text)
            })
            .map_err(refused)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(Row { key: key.clone(), head, sealed })
    }

    /// Opens a row.
    pub(crate) fn open(&self, row: &Row) -> Result<Opened, Unopened> {
        self.keyring().open_row(row)
    }
}

impl Keyring {
    pub(crate) fn open_row(&self, row: &Row) -> Result<Opened, Unopened> {
        let generation = row.head.generation;
        let secret = self.generation(generation).ok_or(Unopened::Generation(generation))?;
        let (nonce, text) = row.sealed.split_first_chunk::<NONCE_BYTES>().ok_or(Unopened::Damaged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let length = record_key(secret, &row.key, row.head.version)
            .and_then(|cipher| {
                let aad = Aad::from(associated(&row.key, row.head));
                cipher
                    .open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut text)
                    .map(|plain| plain.len())
            })
            .map_err(|_| Unopened::Damaged)?;
        text.truncate(length);
        let (key, rest) = path::read(&row.key, &text).ok_or(Unopened::Damaged)?;
        let value = rest.to_vec();
        Ok(Opened { key, value: value.into() })
    }
}

/// The key of one version of one record.
fn record_key(
    generation: &Prk,
    key: &StoredKey,
    version: u64,
) -> Result<LessSafeKey, aws_lc_rs::error::Unspecified> {
    let version = version.to_be_bytes();
    let info = [&b"record"[..], &version, key.as_bytes()];
    Ok(LessSafeKey::new(UnboundKey::from(generation.expand(&info, &AES_256_GCM)?)))
}

/// Everything of a row but its sealed bytes. The key comes last: all before it have a
/// fixed length.
fn associated(key: &StoredKey, head: Head) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(23 + key.as_bytes().len());
    bytes.push(FORMAT);
    bytes.push(u8::from(head.live));
    bytes.extend_from_slice(&head.generation.to_be_bytes());
    bytes.extend_from_slice(&head.version.to_be_bytes());
    bytes.push(u8::from(head.expires.is_some()));
    bytes.extend_from_slice(&head.expires.unwrap_or(0).to_be_bytes());
    bytes.extend_from_slice(key.as_bytes());
    bytes
}
