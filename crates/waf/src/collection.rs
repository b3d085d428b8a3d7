//! Collections that outlive a transaction (IP, GLOBAL, SESSION, USER, RESOURCE): bounded
//! memory that the caller owns, with expiry by the caller's clock.

use crate::{transaction::Value, variable::Variable};
use lru::LruCache;
use std::{
    hash::BuildHasher,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Parts of the memory that are locked apart.
const SHARDS: usize = 16;
/// Longest key that is kept as it is, bytes; longer ones are kept as their SHA-1.
pub(crate) const KEY_BYTES_MAX: usize = 512;
/// Longest name of a variable that is kept, bytes; one with a longer name is not.
pub(crate) const NAME_BYTES_MAX: usize = 512;

/// How much a [`Memory`] may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryLimits {
    /// Most collections (an address, a session, …) at once. The one that was not used for
    /// the longest time goes first.
    pub collections_max: usize,
    /// Most variables of one collection; further ones are not kept.
    pub variables_max: usize,
    /// Longest value, bytes; longer ones are cut.
    pub value_bytes_max: usize,
    /// Bytes of all collections together. Past it, too, the one that was not used for the
    /// longest time goes first.
    pub bytes_max: usize,
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self { collections_max: 100_000, variables_max: 128, value_bytes_max: 4_096, bytes_max: 64 << 20 }
    }
}

/// A variable of a collection.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kept {
    pub(crate) name: Vec<u8>,
    pub(crate) value: Value,
    /// When it was last changed, milliseconds since 1970.
    pub(crate) changed_ms: i64,
    /// When it is forgotten.
    pub(crate) expires_ms: Option<i64>,
}

impl Kept {
    pub(crate) fn is_live(&self, now_ms: i64) -> bool {
        self.value != Value::Unset && self.expires_ms.is_none_or(|at| at > now_ms)
    }
}

/// A collection as it is kept between transactions.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) variables: Vec<Kept>,
    pub(crate) created_ms: i64,
    pub(crate) updated_ms: i64,
    pub(crate) updates: i64,
}

impl Record {
    /// What it takes in memory with its key, about.
    fn bytes(&self, key: &[u8]) -> usize {
        let text = |value: &Value| match value {
            Value::Text(text) => text.len(),
            Value::Unset | Value::Number(_) => 0,
        };
        let variables = self.variables.iter().map(|kept| kept.name.len() + text(&kept.value));
        let own = size_of::<Self>() + size_of::<Kept>() * self.variables.len();
        own + key.len() + variables.sum::<usize>()
    }
}

type Key = (Variable, Vec<u8>);

/// A part of the memory.
#[derive(Debug)]
struct Shard {
    records: LruCache<Key, Record, foldhash::quality::RandomState>,
    /// Of all records, as [`Record::bytes`] counts.
    bytes: usize,
}

impl Shard {
    /// Takes out what is over the limits, but for the record used last.
    fn shrink(&mut self, records_max: usize, bytes_max: usize) {
        while self.records.len() > records_max || (self.bytes > bytes_max && self.records.len() > 1) {
            let Some(((_, key), record)) = self.records.pop_lru() else { return };
            self.bytes = self.bytes.saturating_sub(record.bytes(&key));
        }
    }
}

/// The persistent collections of one rule set, shared by all its transactions.
#[derive(Debug)]
pub struct Memory {
    limits: MemoryLimits,
    shards: Vec<Mutex<Shard>>,
    hasher: foldhash::quality::RandomState,
}

impl Memory {
    /// Empty, within `limits`.
    #[must_use]
    pub fn new(limits: MemoryLimits) -> Self {
        let shard = || {
            let records = LruCache::unbounded_with_hasher(foldhash::quality::RandomState::default());
            Mutex::new(Shard { records, bytes: 0 })
        };
        let shards = std::iter::repeat_with(shard).take(SHARDS).collect();
        Self { limits, shards, hasher: foldhash::quality::RandomState::default() }
    }

    /// The limits it was made with.
    #[must_use]
    pub fn limits(&self) -> MemoryLimits {
        self.limits
    }

    /// How many collections it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).records.len()).sum()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A copy of a collection, when it was used within `timeout_ms`.
    pub(crate) fn load(&self, kind: Variable, key: &[u8], now_ms: i64, timeout_ms: i64) -> Option<Record> {
        let mut shard = self.shard(kind, key)?;
        let shard = &mut *shard;
        let place = (kind, key.to_vec());
        let found = shard.records.get(&place)?;
        if found.updated_ms.saturating_add(timeout_ms) > now_ms {
            return Some(found.clone());
        }
        shard.bytes = shard.bytes.saturating_sub(found.bytes(key));
        shard.records.pop(&place);
        None
    }

    /// Changes a collection, made where it is not there yet.
    pub(crate) fn change(
        &self,
        kind: Variable,
        key: &[u8],
        now_ms: i64,
        timeout_ms: i64,
        change: impl FnOnce(&mut Record, &MemoryLimits),
    ) {
        let Some(mut shard) = self.shard(kind, key) else { return };
        let shard = &mut *shard;
        let fresh = || Record { created_ms: now_ms, updated_ms: now_ms, ..Record::default() };
        let known = shard.records.len();
        let record = shard.records.get_or_insert_mut((kind, key.to_vec()), fresh);
        let before = record.bytes(key);
        if record.updated_ms.saturating_add(timeout_ms) <= now_ms {
            *record = fresh();
        }
        record.variables.retain(|kept| kept.is_live(now_ms));
        change(record, &self.limits);
        record.updated_ms = now_ms;
        record.updates += 1;
        let after = record.bytes(key);
        if shard.records.len() == known {
            shard.bytes = shard.bytes.saturating_sub(before);
        }
        shard.bytes += after;
        let each = |limit: usize| limit.div_ceil(SHARDS);
        shard.shrink(each(self.limits.collections_max).max(1), each(self.limits.bytes_max));
    }

    fn shard(&self, kind: Variable, key: &[u8]) -> Option<MutexGuard<'_, Shard>> {
        let hash = self.hasher.hash_one((kind, key));
        let at = usize::try_from(hash % SHARDS as u64).ok()?;
        self.shards.get(at).map(lock)
    }
}

/// A panic elsewhere leaves a shard whole: each change is one assignment at a time.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unused_longest_goes_first_at_the_limit() {
        let limits = MemoryLimits { collections_max: SHARDS * 2, ..MemoryLimits::default() };
        let memory = Memory::new(limits);
        for number in 0..1_000 {
            memory.change(Variable::Ip, format!("a{number}").as_bytes(), 0, 1_000, |_, _| {});
        }
        assert_eq!(memory.len(), SHARDS * 2);
    }

    #[test]
    fn all_together_holds_so_many_bytes_and_what_was_used_last() {
        let limits = MemoryLimits { bytes_max: SHARDS * 10_000, ..MemoryLimits::default() };
        let memory = Memory::new(limits);
        let kept =
            |bytes| Kept { name: b"a".to_vec(), value: Value::Text(vec![b'x'; bytes]), ..Kept::default() };
        let held = |memory: &Memory| -> usize {
            let bytes = |shard: &Shard| {
                shard.records.iter().map(|((_, key), record)| record.bytes(key)).sum::<usize>()
            };
            let shards = memory.shards.iter().map(lock);
            let counted = shards.map(|shard| {
                assert_eq!(shard.bytes, bytes(&shard));
                shard.bytes
            });
            counted.sum()
        };
        for number in 0..2_000_usize {
            let (key, grows) = (format!("a{}", number % 700), number % 3);
            memory.change(Variable::Ip, key.as_bytes(), 0, 1_000, |record, _| {
                record.variables = vec![kept(1_000); grows];
            });
            assert!(held(&memory) <= limits.bytes_max, "after {number}");
            assert!(memory.load(Variable::Ip, key.as_bytes(), 0, 1_000).is_some());
        }
        assert!(held(&memory) > limits.bytes_max / 2 && memory.len() > SHARDS);
        (0..700)
            .for_each(|number| _ = memory.load(Variable::Ip, format!("a{number}").as_bytes(), 2_000, 1_000));
        assert_eq!((held(&memory), memory.len()), (0, 0), "what expired takes nothing");
    }

    #[test]
    fn a_collection_is_forgotten_after_its_timeout() {
        let memory = Memory::new(MemoryLimits::default());
        memory.change(Variable::Ip, b"a", 1_000, 500, |record, _| record.updates = 6);
        assert_eq!(memory.load(Variable::Ip, b"a", 1_499, 500).unwrap().updates, 7);
        assert!(memory.load(Variable::Session, b"a", 1_499, 500).is_none());
        assert!(memory.load(Variable::Ip, b"a", 1_500, 500).is_none());
        assert!(memory.is_empty());
    }
}
