//! How an endpoint's attempts ended in the last ten seconds: each core counts on a
//! cache line of its own, and only whoever judges a failure sums them up. So an answer
//! costs no line that two cores pass between them, and the sum is exact.

use std::sync::atomic::{AtomicU64, Ordering};

/// How far back is counted, in milliseconds.
pub(crate) const WINDOW_MS: u64 = 10_000;
const BUCKETS: usize = 8;
const BUCKET_MS: u64 = WINDOW_MS / BUCKETS as u64;
/// Most lines; cores past them share.
const LINES_MAX: usize = 64;

const COUNT_BITS: u32 = 22;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
const EPOCH_MAX: u64 = (1 << (64 - 2 * COUNT_BITS)) - 1;

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Attempts that brought an answer.
    pub(crate) good: u64,
    /// Attempts that failed.
    pub(crate) bad: u64,
}

impl Counted {
    /// All of them.
    pub(crate) fn total(self) -> u64 {
        self.good.saturating_add(self.bad)
    }

    /// Both together.
    #[must_use]
    pub(crate) fn plus(self, other: Self) -> Self {
        Self { good: self.good.saturating_add(other.good), bad: self.bad.saturating_add(other.bad) }
    }
}

/// One core's counts, by time: epoch, good, bad in each word.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Line([AtomicU64; BUCKETS]);

/// Counts of all cores.
#[derive(Debug)]
pub(crate) struct Tally(Box<[Line]>);

impl Default for Tally {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self((0..cores.min(LINES_MAX)).map(|_| Line::default()).collect())
    }
}

impl Tally {
    /// Counts one attempt.
    pub(crate) fn count(&self, core: usize, now_ms: u64, good: bool) {
        let epoch = now_ms / BUCKET_MS;
        let line = core.checked_rem(self.0.len()).and_then(|line| self.0.get(line));
        let Some(word) = line.and_then(|line| line.0.get((epoch % BUCKETS as u64) as usize)) else { return };
        let step = if good { 1 << COUNT_BITS } else { 1 };
        let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (of, counted) = unpack(word);
            let full = if good { counted.good } else { counted.bad } >= COUNT_MAX;
            Some(if of != epoch & EPOCH_MAX {
                pack(epoch) + step
            } else {
                word + if full { 0 } else { step }
            })
        });
    }

    /// What was counted in the window, but not before `since_ms`.
    pub(crate) fn sum(&self, now_ms: u64, since_ms: u64) -> Counted {
        let epoch = now_ms / BUCKET_MS;
        let oldest = epoch.saturating_sub(BUCKETS as u64 - 1).max(since_ms.div_ceil(BUCKET_MS));
        let words = self.0.iter().flat_map(|line| &line.0);
        words.fold(Counted::default(), |sum, word| {
            let (of, counted) = unpack(word.load(Ordering::Relaxed));
            let is_in = (oldest..=epoch).any(|epoch| epoch & EPOCH_MAX == of);
            if is_in { sum.plus(counted) } else { sum }
        })
    }
}

const fn pack(epoch: u64) -> u64 {
    (epoch & EPOCH_MAX) << (2 * COUNT_BITS)
}

const fn unpack(word: u64) -> (u64, Counted) {
    let counted = Counted { good: (word >> COUNT_BITS) & COUNT_MAX, bad: word & COUNT_MAX };
    (word >> (2 * COUNT_BITS), counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_within_the_window_and_forgets_what_is_older() {
        let tally = Tally::default();
        for core in 0..5 {
            tally.count(core, 20_000, true);
            tally.count(core, 20_000, false);
            tally.count(core, 21_300, false);
        }
        assert_eq!(tally.sum(21_300, 0), Counted { good: 5, bad: 10 });
        assert_eq!(tally.sum(20_000 + WINDOW_MS - 1, 0), Counted { good: 5, bad: 10 });
        assert_eq!(tally.sum(20_000 + WINDOW_MS, 0), Counted { good: 0, bad: 5 });
        assert_eq!(tally.sum(60_000, 0), Counted::default());
        // The place of an old bucket is used again.
        tally.count(0, 20_000 + WINDOW_MS, true);
        assert_eq!(tally.sum(20_000 + WINDOW_MS, 0), Counted { good: 1, bad: 5 });
    }

    #[test]
    fn what_was_before_a_moment_can_be_left_out() {
        let tally = Tally::default();
        tally.count(0, 20_000, false);
        tally.count(0, 22_600, false);
        assert_eq!(tally.sum(22_600, 20_001), Counted { good: 0, bad: 1 });
    }

    #[test]
    fn a_full_count_stays_full_and_spoils_nothing() {
        let tally = Tally::default();
        for _ in 0..COUNT_MAX + 10 {
            tally.count(0, 1, false);
        }
        tally.count(0, 1, true);
        assert_eq!(tally.sum(1, 0), Counted { good: 1, bad: COUNT_MAX });
    }

    #[test]
    fn threads_lose_no_count() {
        let tally = Tally::default();
        std::thread::scope(|scope| {
            for core in 0..8 {
                let tally = &tally;
                scope.spawn(move || (0..20_000).for_each(|n| tally.count(core, 1, n % 4 != 0)));
            }
        });
        assert_eq!(tally.sum(1, 0), Counted { good: 120_000, bad: 40_000 });
    }
}
