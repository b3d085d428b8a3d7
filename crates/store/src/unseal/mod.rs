//! The one key that the store does not hold: it opens the keyring.
//!
//! It is kept outside: in a file ([`UnsealKey::read_file`]), an environment variable, or
//! in parts by several people ([`split`], [`Shares`]).

mod access;
mod key_file;
mod share;
#[cfg(test)]
mod tests;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use model::Secret;
use zeroize::Zeroizing;

pub use share::{SHARES_MAX, Share, Shares, split};

use crate::error::Error;

/// Bytes of every key of the store.
pub(crate) const KEY_BYTES: usize = 32;
/// How the text of an unseal key begins.
const KEY_PREFIX: &str = "bastide-unseal-";
/// Bytes of a digest at the end of a text, so that a slip of the pen is found.
const CHECK_BYTES: usize = 4;

/// The key that opens the keyring: 256 random bits.
pub struct UnsealKey(Secret<[u8; KEY_BYTES]>);

impl UnsealKey {
    /// A new one.
    ///
    /// # Errors
    /// [`Error::Cryptography`]: no random numbers.
    pub fn generate() -> Result<Self, Error> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| Error::Cryptography("making the unseal key"))?;
        Ok(Self(Secret::new(bytes)))
    }

    pub(crate) fn from_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self(Secret::new(bytes))
    }

    pub(crate) fn bytes(&self) -> &[u8; KEY_BYTES] {
        self.0.expose()
    }

    /// As a text: `bastide-unseal-`, then the key and four bytes of its digest in base64url
    /// (RFC 4648 §5).
    pub fn to_text(&self) -> Zeroizing<String> {
        Zeroizing::new(checked_text(KEY_PREFIX, self.bytes()))
    }

    /// Reads what [`UnsealKey::to_text`] wrote; space around it is ignored. `place` says in
    /// an error where the text came from.
    ///
    /// # Errors
    /// [`Error::Key`]. The text is not in it.
    pub fn parse(text: &str, place: &str) -> Result<Self, Error> {
        let bytes = parse_checked(KEY_PREFIX, text.trim())
            .map_err(|why| Error::Key { place: place.to_owned(), why: format!("no unseal key: {why}") })?;
        let bytes = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).map_err(|_| Error::Key {
            place: place.to_owned(),
            why: format!("no unseal key: {} bytes, expected {KEY_BYTES}", bytes.len()),
        })?;
        Ok(Self::from_bytes(bytes))
    }
}

/// Bytes and the beginning of their digest, in base64url after a prefix.
fn checked_text(prefix: &str, bytes: &[u8]) -> String {
    let check = digest(&SHA256, bytes);
    let whole = Zeroizing::new([bytes, check.as_ref().get(..CHECK_BYTES).unwrap_or_default()].concat());
    format!("{prefix}{}", BASE64.encode(&*whole))
}

/// Reads what [`checked_text`] wrote.
fn parse_checked(prefix: &str, text: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let body =
        text.strip_prefix(prefix).ok_or_else(|| format!("expected a text that begins with `{prefix}`"))?;
    let whole = BASE64.decode(body).map(Zeroizing::new);
    let whole =
        whole.map_err(|_| "it is cut off or holds a character that is none of base64url".to_owned())?;
    let (bytes, check) = whole
        .len()
        .checked_sub(CHECK_BYTES)
        .and_then(|length| whole.split_at_checked(length))
        .ok_or_else(|| "it is cut off".to_owned())?;
    if digest(&SHA256, bytes).as_ref().get(..CHECK_BYTES) != Some(check) {
        return Err("it was mistyped or cut off: its check does not fit".to_owned());
    }
    Ok(Zeroizing::new(bytes.to_vec()))
}
