//! What kinds of tokens an injection is made of.

/// Most tokens of a fingerprint.
pub(super) const TOKENS_MAX: usize = 5;

/// One letter per token, at most [`TOKENS_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    letters: [u8; TOKENS_MAX],
    length: usize,
}

impl Fingerprint {
    /// The first letters of an iterator.
    pub(super) fn new(letters: impl Iterator<Item = u8>) -> Self {
        let mut fingerprint = Self { letters: [0; TOKENS_MAX], length: 0 };
        for (slot, letter) in fingerprint.letters.iter_mut().zip(letters) {
            *slot = letter;
            fingerprint.length += 1;
        }
        fingerprint
    }

    /// The letters, as libinjection writes them: `s&1c`.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.letters.get(..self.length).unwrap_or_default()
    }
}
