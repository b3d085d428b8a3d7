//! Records that were read or written lately, bounded by number and bytes.

use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use lru::LruCache;

use crate::barrier::StoredKey;
use crate::record::Record;

/// Parts of the keys, each of which remembers when one of it was last written.
const PARTS: usize = 256;
/// What an entry costs beyond its bytes.
const ENTRY_BYTES: usize = 256;

struct Entries {
    records: LruCache<StoredKey, Record, RandomState>,
    bytes: usize,
    /// For each part, the last revision that wrote a key of it.
    written: Box<[u64]>,
}

/// The read cache.
///
/// INVARIANT: what it gives is what the database holds. A writer takes its keys out before
/// it commits, and a reader puts in what it read only if nobody began to write the key's
/// part since the revision that it started at.
pub(crate) struct Cache {
    entries: Mutex<Entries>,
    bytes_max: usize,
    hasher: RandomState,
}

impl Cache {
    /// At most so many records and bytes; a cache of nothing when either is 0.
    pub(crate) fn new(records_max: usize, bytes_max: usize) -> Self {
        let records = NonZeroUsize::new(records_max).unwrap_or(NonZeroUsize::MIN);
        let bytes_max = if records_max == 0 { 0 } else { bytes_max };
        let records = LruCache::with_hasher(records, RandomState::default());
        let entries = Entries { records, bytes: 0, written: vec![0; PARTS].into() };
        Self { entries: Mutex::new(entries), bytes_max, hasher: RandomState::default() }
    }

    pub(crate) fn get(&self, key: &StoredKey) -> Option<Record> {
        if self.bytes_max == 0 {
            return None;
        }
        self.entries().records.get(key).cloned()
    }

    /// Keeps what was read, if nobody wrote it since `revision`.
    pub(crate) fn keep(&self, key: StoredKey, record: &Record, revision: u64) {
        let size = size_of(&key, record);
        if size > self.bytes_max {
            return;
        }
        let part = self.part(&key);
        let mut entries = self.entries();
        if entries.written.get(part).is_none_or(|written| *written > revision) {
            return;
        }
        if let Some((key, old)) = entries.records.push(key, record.clone()) {
            entries.bytes = entries.bytes.saturating_sub(size_of(&key, &old));
        }
        entries.bytes += size;
        while entries.bytes > self.bytes_max {
            let Some((key, old)) = entries.records.pop_lru() else { break };
            entries.bytes = entries.bytes.saturating_sub(size_of(&key, &old));
        }
    }

    /// A transaction up to this revision is about to write these keys.
    pub(crate) fn writing<'a>(&self, keys: impl Iterator<Item = &'a StoredKey>, revision: u64) {
        if self.bytes_max == 0 {
            return;
        }
        let mut entries = self.entries();
        for key in keys {
            if let Some(old) = entries.records.pop(key) {
                entries.bytes = entries.bytes.saturating_sub(size_of(key, &old));
            }
            let part = self.part(key);
            if let Some(written) = entries.written.get_mut(part) {
                *written = revision;
            }
        }
    }

    /// Somebody else wrote, up to this revision.
    pub(crate) fn clear(&self, revision: u64) {
        let mut entries = self.entries();
        entries.records.clear();
        entries.bytes = 0;
        entries.written.fill(revision);
    }

    fn part(&self, key: &StoredKey) -> usize {
        usize::try_from(self.hasher.hash_one(key)).unwrap_or_default() % PARTS
    }

    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn size_of(key: &StoredKey, record: &Record) -> usize {
    ENTRY_BYTES + 2 * key.as_bytes().len() + record.value.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;
    use crate::record::Version;

    fn stored(name: &str) -> StoredKey {
        StoredKey::from_bytes(name.as_bytes().to_vec())
    }

    fn record(bytes: usize) -> Record {
        let version = Version::from_number(1);
        Record { key: Key::new("x"), value: vec![0; bytes].into(), version, expires: None }
    }

    #[test]
    fn what_was_read_before_a_write_began_is_not_kept() {
        let cache = Cache::new(10, 1 << 20);
        cache.keep(stored("a"), &record(1), 4);
        assert!(cache.get(&stored("a")).is_some());
        cache.writing([stored("a")].iter(), 5);
        assert!(cache.get(&stored("a")).is_none());
        cache.keep(stored("a"), &record(1), 4);
        assert!(cache.get(&stored("a")).is_none(), "a reader that began before the write");
        cache.keep(stored("a"), &record(1), 5);
        assert!(cache.get(&stored("a")).is_some(), "a reader that began after it");
        cache.clear(9);
        cache.keep(stored("a"), &record(1), 8);
        assert!(cache.get(&stored("a")).is_none(), "somebody else wrote meanwhile");
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let by_number = Cache::new(2, 1 << 20);
        let name = |number: usize| stored(&number.to_string());
        (0..3).for_each(|number| by_number.keep(name(number), &record(1), 0));
        assert!(by_number.get(&name(0)).is_none() && by_number.get(&name(2)).is_some());
        let by_bytes = Cache::new(100, 10_000);
        (0..50).for_each(|number| by_bytes.keep(name(number), &record(1_000), 0));
        let entries = by_bytes.entries();
        assert!(entries.bytes <= 10_000 && entries.records.len() >= 7, "{}", entries.bytes);
        let counted: usize = entries.records.iter().map(|(key, record)| size_of(key, record)).sum();
        assert_eq!(counted, entries.bytes);
        drop(entries);
        by_bytes.keep(name(99), &record(10_001), 0);
        assert!(by_bytes.get(&name(99)).is_none(), "larger than the whole cache");
        let nothing = Cache::new(0, 1 << 20);
        nothing.keep(name(1), &record(1), 0);
        assert!(nothing.get(&name(1)).is_none());
    }
}
