//! Caches whose tables grow with what they hold: a table with room for all would be memory of
//! every core, also of those that never see so much.

use std::hash::Hash;
use std::num::NonZeroUsize;

use foldhash::fast::RandomState;
use lru::LruCache;

/// An empty cache of at most so many entries.
pub(crate) fn growing<K: Hash + Eq, V>(most: usize) -> LruCache<K, V, RandomState> {
    let mut cache = LruCache::with_hasher(NonZeroUsize::MIN, RandomState::default());
    cache.resize(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN));
    cache
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_that_of_the_whole_cache() {
        let mut cache = growing(100);
        for number in 0..=100 {
            cache.put(number, ());
        }
        assert_eq!((cache.len(), cache.contains(&0), cache.contains(&1)), (100, false, true));
    }
}
