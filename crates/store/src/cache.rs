//! Records that were read or written lately, and keys at which there was none, bounded by
//! number and bytes.

use std::hash::BuildHasher;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;
use lru::LruCache;
use model::Timestamp;

use crate::barrier::StoredKey;
use crate::record::{Record, Version};

/// Parts of the keys, each of which remembers when one of it was last written.
const PARTS: usize = 256;
/// What an entry costs beyond its bytes.
const ENTRY_BYTES: usize = 256;
/// Of so many entries one may be a key at which there is no record. They have a share of
/// their own: whoever asks for names that do not exist drives nothing out that does.
const ABSENT_SHARE: usize = 4;

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// Its record; it may be past its end.
    Record(Record),
    /// There is none.
    Absent,
}

/// The same without the record itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Record { version: Version, expires: Option<Timestamp> },
    Absent,
}

struct Entries {
    records: LruCache<StoredKey, Record, RandomState>,
    absent: LruCache<StoredKey, (), RandomState>,
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
        let absent_max = records_max / ABSENT_SHARE;
        let of = |most: usize| {
            let most = NonZeroUsize::new(most).unwrap_or(NonZeroUsize::MIN);
            (most, RandomState::default())
        };
        let (records, hasher) = of(records_max - absent_max);
        let records = LruCache::with_hasher(records, hasher);
        let (absent, hasher) = of(absent_max);
        let absent = LruCache::with_hasher(absent, hasher);
        let bytes_max = if records_max == 0 { 0 } else { bytes_max };
        let entries = Entries { records, absent, bytes: 0, written: vec![0; PARTS].into() };
        Self { entries: Mutex::new(entries), bytes_max, hasher: RandomState::default() }
    }

    pub(crate) fn get(&self, key: &StoredKey) -> Option<Known> {
        if self.bytes_max == 0 {
            return None;
        }
        let mut entries = self.entries();
        if let Some(record) = entries.records.get(key) {
            return Some(Known::Record(record.clone()));
        }
        entries.absent.get(key).map(|()| Known::Absent)
    }

    /// What is known of what stands at a key, for whoever writes; the order in which entries go stays.
    pub(crate) fn standing(&self, key: &StoredKey) -> Option<Standing> {
        if self.bytes_max == 0 {
            return None;
        }
        let entries = self.entries();
        if let Some(record) = entries.records.peek(key) {
            return Some(Standing::Record { version: record.version, expires: record.expires });
        }
        entries.absent.contains(key).then_some(Standing::Absent)
    }

    /// Keeps what was read, if nobody wrote it since `revision`.
    pub(crate) fn keep(&self, key: StoredKey, known: Known, revision: u64) {
        let size = size_of(&key, &known);
        if size > self.bytes_max {
            return;
        }
        let part = self.part(&key);
        let mut entries = self.entries();
        if entries.written.get(part).is_none_or(|written| *written > revision) {
            return;
        }
        entries.forget(&key);
        let driven_out = match known {
            Known::Record(record) => {
                let old = entries.records.push(key, record);
                old.map(|(key, record)| size_of(&key, &Known::Record(record)))
            }
            Known::Absent => {
                let old = entries.absent.push(key, ());
                old.map(|(key, ())| size_of(&key, &Known::Absent))
            }
        };
        entries.bytes = (entries.bytes + size).saturating_sub(driven_out.unwrap_or(0));
        while entries.bytes > self.bytes_max {
            let oldest = match entries.absent.pop_lru() {
                Some((key, ())) => size_of(&key, &Known::Absent),
                None => match entries.records.pop_lru() {
                    Some((key, record)) => size_of(&key, &Known::Record(record)),
                    None => break,
                },
            };
            entries.bytes = entries.bytes.saturating_sub(oldest);
        }
    }

    /// A transaction up to this revision is about to write these keys.
    pub(crate) fn writing<'a>(&self, keys: impl Iterator<Item = &'a StoredKey>, revision: u64) {
        if self.bytes_max == 0 {
            return;
        }
        let mut entries = self.entries();
        for key in keys {
            entries.forget(key);
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
        entries.absent.clear();
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

impl Entries {
    /// Takes out what is known of a key.
    fn forget(&mut self, key: &StoredKey) {
        let record = self.records.pop(key).map(Known::Record);
        let absent = self.absent.pop(key).map(|()| Known::Absent);
        for known in record.into_iter().chain(absent) {
            self.bytes = self.bytes.saturating_sub(size_of(key, &known));
        }
    }
}

fn size_of(key: &StoredKey, known: &Known) -> usize {
    let value = match known {
        Known::Record(record) => record.value.len(),
        Known::Absent => 0,
    };
    ENTRY_BYTES + 2 * key.as_bytes().len() + value
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    fn stored(name: &str) -> StoredKey {
        StoredKey::from_bytes(name.as_bytes().to_vec())
    }

    fn record(bytes: usize) -> Known {
        let version = Version::from_number(1);
        Known::Record(Record { key: Key::new("x"), value: vec![0; bytes].into(), version, expires: None })
    }

    #[test]
    fn what_was_read_before_a_write_began_is_not_kept() {
        for known in [record(1), Known::Absent] {
            let cache = Cache::new(10, 1 << 20);
            cache.keep(stored("a"), known.clone(), 4);
            assert_eq!(cache.get(&stored("a")), Some(known.clone()));
            cache.writing([stored("a")].iter(), 5);
            assert!(cache.get(&stored("a")).is_none());
            cache.keep(stored("a"), known.clone(), 4);
            assert!(cache.get(&stored("a")).is_none(), "a reader that began before the write");
            cache.keep(stored("a"), known.clone(), 5);
            assert!(cache.get(&stored("a")).is_some(), "a reader that began after it");
            cache.clear(9);
            cache.keep(stored("a"), known, 8);
            assert!(cache.get(&stored("a")).is_none(), "somebody else wrote meanwhile");
        }
    }

    #[test]
    fn the_last_that_is_known_of_a_key_counts() {
        let cache = Cache::new(10, 1 << 20);
        for known in [Known::Absent, record(1), Known::Absent] {
            cache.keep(stored("a"), known.clone(), 0);
            assert_eq!(cache.get(&stored("a")), Some(known));
        }
        assert_eq!(cache.entries().bytes, size_of(&stored("a"), &Known::Absent));
    }

    #[test]
    fn whoever_writes_sees_what_whoever_reads_does_and_keeps_nothing_from_going() {
        let cache = Cache::new(4, 1 << 20);
        let (version, expires) = (Version::from_number(1), None);
        cache.keep(stored("a"), record(1), 0);
        cache.keep(stored("none"), Known::Absent, 0);
        assert_eq!(cache.standing(&stored("a")), Some(Standing::Record { version, expires }));
        assert_eq!(cache.standing(&stored("none")), Some(Standing::Absent));
        assert_eq!(cache.standing(&stored("unknown")), None);
        for name in ["b", "c"] {
            cache.keep(stored(name), record(1), 0);
            assert!(cache.standing(&stored("a")).is_some());
        }
        cache.keep(stored("d"), record(1), 0);
        assert!(cache.standing(&stored("a")).is_none(), "the oldest goes");
        cache.writing([stored("d")].iter(), 1);
        assert!(cache.standing(&stored("d")).is_none());
        assert!(Cache::new(0, 1 << 20).standing(&stored("a")).is_none());
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let by_number = Cache::new(3, 1 << 20);
        let name = |number: usize| stored(&number.to_string());
        (0..4).for_each(|number| by_number.keep(name(number), record(1), 0));
        assert!(by_number.get(&name(0)).is_none() && by_number.get(&name(3)).is_some());
        let by_bytes = Cache::new(100, 10_000);
        (0..50).for_each(|number| by_bytes.keep(name(number), record(1_000), 0));
        let entries = by_bytes.entries();
        assert!(entries.bytes <= 10_000 && entries.records.len() >= 7, "{}", entries.bytes);
        let counted: usize =
            entries.records.iter().map(|(key, record)| size_of(key, &Known::Record(record.clone()))).sum();
        assert_eq!(counted, entries.bytes);
        drop(entries);
        by_bytes.keep(name(99), record(10_001), 0);
        assert!(by_bytes.get(&name(99)).is_none(), "larger than the whole cache");
        let nothing = Cache::new(0, 1 << 20);
        nothing.keep(name(1), record(1), 0);
        assert!(nothing.get(&name(1)).is_none());
    }

    #[test]
    fn names_that_do_not_exist_drive_no_record_out() {
        let cache = Cache::new(8, 1 << 20);
        let name = |number: usize| stored(&number.to_string());
        (0..6).for_each(|number| cache.keep(name(number), record(1), 0));
        (100..200).for_each(|number| cache.keep(name(number), Known::Absent, 0));
        assert!((0..6).all(|number| cache.get(&name(number)).is_some()));
        assert_eq!(cache.entries().absent.len(), 2);
        // Nor by bytes: they go first.
        let by_bytes = Cache::new(100, 3_000);
        by_bytes.keep(name(0), record(1_000), 0);
        (100..200).for_each(|number| by_bytes.keep(name(number), Known::Absent, 0));
        assert!(by_bytes.get(&name(0)).is_some());
        by_bytes.keep(name(1), record(1_000), 0);
        assert!(by_bytes.get(&name(0)).is_some() && by_bytes.get(&name(1)).is_some());
        let entries = by_bytes.entries();
        assert!(entries.bytes <= 3_000 && entries.absent.len() < 25, "{}", entries.bytes);
    }
}
