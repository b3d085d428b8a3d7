//! Sets of small numbers, a bit each, in words.

/// Puts a number into a set that has room for it.
#[inline]
pub(crate) fn put(words: &mut [u64], bit: usize) {
    if let Some(word) = words.get_mut(bit / 64) {
        *word |= 1 << (bit % 64);
    }
}

/// Whether a number is in a set.
#[inline]
pub(crate) fn has(words: &[u64], bit: usize) -> bool {
    words.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
}
