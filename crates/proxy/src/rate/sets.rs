//! The memory of the cells: zeroed by the operating system when it is first touched, so
//! that a table for half a million keys costs a process without traffic next to nothing.
//!
//! What it must never do: give a set that shares a cache line with another one.

use std::sync::atomic::{AtomicU64, Ordering};

use zerocopy::FromZeros;

/// Cells in a set: with the two words before them they fill two cache lines.
pub(super) const WAYS: usize = 7;
/// Words of a set: lock, debt, and tag and time of each cell.
const WORDS: usize = 2 + 2 * WAYS;
/// Two cache lines: the processor fetches them in pairs.
const ALIGNMENT: usize = 128;

/// All sets; their number is a power of two.
#[derive(Debug)]
pub(super) struct Sets {
    words: Box<[AtomicU64]>,
    /// Words before the first aligned set.
    skipped: usize,
    count: usize,
}

/// One set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Set<'t> {
    /// Lowest bit: taken. The rest: the watermark in nanoseconds.
    pub(super) lock: &'t AtomicU64,
    /// Until when something is owed to shared cells by keys of this set. Read and
    /// written only under the lock.
    pub(super) owed_until: &'t AtomicU64,
    cells: &'t [AtomicU64],
}

/// One cell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cell<'t> {
    pub(super) tag: &'t AtomicU64,
    pub(super) tat: &'t AtomicU64,
}

impl Sets {
    /// So many sets, rounded up to a power of two; every word is 0.
    pub(super) fn new(count: usize) -> Self {
        let count = count.max(1).next_power_of_two();
        let length = count * WORDS + ALIGNMENT / size_of::<AtomicU64>();
        // Without memory for it a process ends as it does at any other allocation.
        let words = <[AtomicU64]>::new_box_zeroed_with_elems(length)
            .unwrap_or_else(|_| (0..length).map(|_| AtomicU64::new(0)).collect());
        let misplaced = words.as_ptr().addr() % ALIGNMENT;
        let skipped = (ALIGNMENT - misplaced) % ALIGNMENT / size_of::<AtomicU64>();
        Self { words, skipped, count }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Bytes of all of them once they are used.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&*self.words)
    }

    /// The set of this number, modulo their count.
    pub(super) fn get(&self, number: usize) -> Set<'_> {
        let start = self.skipped + (number & (self.count - 1)) * WORDS;
        #[expect(clippy::indexing_slicing, reason = "masked with the count; `new` allocates so many")]
        let words = &self.words[start..start + WORDS];
        #[expect(clippy::indexing_slicing, reason = "a set has `WORDS` words, which are more than two")]
        Set { lock: &words[0], owed_until: &words[1], cells: &words[2..] }
    }
}

impl<'t> Set<'t> {
    /// Its cells.
    pub(super) fn cells(self) -> impl Iterator<Item = Cell<'t>> {
        self.cells.as_chunks::<2>().0.iter().map(|[tag, tat]| Cell { tag, tat })
    }
}

impl Cell<'_> {
    /// Whether it is this key's.
    pub(super) fn is_of(self, tag: u64) -> bool {
        self.tag.load(Ordering::Acquire) == tag
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_zero_apart_from_each_other_and_aligned() {
        let sets = Sets::new(5);
        assert_eq!(sets.count(), 8);
        let mut before = None;
        for number in 0..8 {
            let set = sets.get(number);
            let address = std::ptr::from_ref(set.lock).addr();
            assert_eq!(address % ALIGNMENT, 0);
            assert!(before.is_none_or(|before| address == before + ALIGNMENT));
            before = Some(address);
            assert_eq!(set.cells().count(), WAYS);
            assert!(set.cells().all(|cell| cell.tag.load(Ordering::Relaxed) == 0));
            set.lock.store(1, Ordering::Relaxed);
            set.cells().for_each(|cell| cell.tat.store(2, Ordering::Relaxed));
        }
        // Past the last comes the first again.
        assert_eq!(sets.get(8).lock.load(Ordering::Relaxed), 1);
        assert_eq!(sets.get(0).cells().last().unwrap().tat.load(Ordering::Relaxed), 2);
        assert_eq!(sets.get(0).owed_until.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_table_that_nobody_uses_costs_no_memory() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/statm").unwrap();
            status.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
        };
        let before = resident();
        // Large beside what other tests take at the same time.
        let sets = Sets::new(1 << 21);
        let grown = resident().saturating_sub(before);
        assert!(sets.bytes() >= 256 << 20 && grown < sets.bytes() / 2, "{grown} of {}", sets.bytes());
    }
}
