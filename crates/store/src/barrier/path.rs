//! How a key lies in the database: each segment by itself, so that the stored form of a
//! prefix is a prefix of the stored form of what lies below it.

use std::borrow::{Borrow, Cow};

use aws_lc_rs::hmac;

use super::keyring::Keyring;
use crate::key::{Key, Segment};

const NAME: u8 = 1;
const NUMBER: u8 = 2;
const HIDDEN: u8 = 3;
/// Bytes of a hidden segment's hash: HMAC-SHA-256, cut (RFC 2104 §5).
const HASH_BYTES: usize = 16;

/// A key as it lies in the database.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct StoredKey(Box<[u8]>);

impl StoredKey {
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes.into_boxed_slice())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Borrow<[u8]> for StoredKey {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// The first stored key that does not begin with these bytes; `None`: there is none after.
pub(crate) fn end_of(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

impl Keyring {
    /// Words and numbers readable, everything else as an HMAC over the stored path above it
    /// and itself.
    pub(crate) fn stored_key(&self, key: &Key) -> StoredKey {
        let mut bytes = Vec::with_capacity(32 * key.len());
        for segment in key.segments() {
            match segment {
                Segment::Name(name) => {
                    bytes.push(NAME);
                    bytes.extend_from_slice(name.as_bytes());
                    bytes.push(0);
                }
                Segment::Number(number) => {
                    bytes.push(NUMBER);
                    bytes.extend_from_slice(&number.to_be_bytes());
                }
                Segment::Hidden(text) => {
                    bytes.push(HIDDEN);
                    let mut context = hmac::Context::with_key(self.index());
                    context.update(&bytes);
                    context.update(text.as_bytes());
                    let hash = context.sign();
                    bytes.extend(hash.as_ref().iter().take(HASH_BYTES));
                }
            }
        }
        StoredKey::from_bytes(bytes)
    }
}

/// How many bytes [`write_hidden`] writes.
pub(super) fn hidden_bytes(key: &Key) -> usize {
    key.segments()
        .iter()
        .map(|segment| if let Segment::Hidden(text) = segment { 2 + text.len() } else { 0 })
        .sum()
}

/// The hidden texts, each after its length.
pub(super) fn write_hidden(key: &Key, bytes: &mut Vec<u8>) {
    for segment in key.segments() {
        if let Segment::Hidden(text) = segment {
            // INVARIANT: `Key::check` bounds a segment to 512 bytes.
            let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
            bytes.extend_from_slice(&length.to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
    }
}

/// The key that a stored key and its hidden texts were made from, and what follows the
/// texts.
pub(super) fn read<'a>(stored: &StoredKey, plain: &'a [u8]) -> Option<(Key, &'a [u8])> {
    let (mut path, mut plain) = (stored.as_bytes(), plain);
    let mut segments = Vec::new();
    while let Some((tag, rest)) = path.split_first() {
        path = match *tag {
            NAME => {
                let length = rest.iter().position(|byte| *byte == 0)?;
                let (name, rest) = rest.split_at_checked(length)?;
                segments.push(Segment::Name(Cow::Owned(text(name)?)));
                rest.get(1..)?
            }
            NUMBER => {
                let (number, rest) = rest.split_first_chunk()?;
                segments.push(Segment::Number(u64::from_be_bytes(*number)));
                rest
            }
            HIDDEN => {
                let (length, after) = plain.split_first_chunk()?;
                let (hidden, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
                segments.push(Segment::Hidden(text(hidden)?));
                plain = after;
                rest.get(HASH_BYTES..)?
            }
            _ => return None,
        };
    }
    Some((Key::from_segments(segments), plain))
}

fn text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).ok().map(str::to_owned)
}
