//! Caches whose tables grow with what they hold: a table with room for all would be memory of
//! every core, also of those that never see so much.

use std::hash::Hash;
use std::num::NonZeroUsize;

use foldhash::fast::RandomState;
use lru::LruCache;

/// An empty cache of at most so many entries.
pub fn growing<K: Hash + Eq, V>(most: usize) -> LruCache<K, V, RandomState> {
    let mut cache = LruCache::with_hasher(NonZeroUsize::MIN, RandomState::default());
    cache.resize(NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN));
    cache
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::hash::Hasher;
    use std::rc::Rc;

    use super::*;

    /// A key that counts how often any of them is hashed.
    #[derive(PartialEq, Eq)]
    struct Counted(usize, Rc<Cell<usize>>);

    impl Hash for Counted {
        fn hash<H: Hasher>(&self, state: &mut H) {
            self.1.set(self.1.get() + 1);
            self.0.hash(state);
        }
    }

    /// After how many entries the table has been made anew the first time: what it holds is hashed again then.
    fn grows_at(mut cache: LruCache<Counted, (), RandomState>) -> Option<usize> {
        let hashed = Rc::new(Cell::new(0));
        (1..=cache.cap().get()).find(|number| {
            hashed.set(0);
            cache.put(Counted(*number, Rc::clone(&hashed)), ());
            // Once to look whether it is there, once to put it there.
            hashed.get() > 2
        })
    }

    #[test]
    fn the_limit_is_that_of_the_whole_cache() {
        let mut cache = growing(100);
        for number in 0..=100 {
            cache.put(number, ());
        }
        assert_eq!((cache.len(), cache.contains(&0), cache.contains(&1)), (100, false, true));
    }

    #[test]
    fn there_is_room_for_a_few_at_first_and_then_for_more() {
        let most = NonZeroUsize::new(1_000).unwrap();
        assert_eq!(grows_at(LruCache::with_hasher(most, RandomState::default())), None, "room for all");
        let first = grows_at(growing(most.get()));
        assert!(first.is_some_and(|first| first <= 16), "{first:?}");
    }
}
