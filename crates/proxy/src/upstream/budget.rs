//! How many retries a service may cost: a share of its requests, and a few per second
//! that it may always have. Without such a bound, retries multiply the load of a
//! service that is failing because of its load.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::tally::WINDOW_MS;

const BUCKETS: u64 = 8;
const BUCKET_MS: u64 = WINDOW_MS / BUCKETS;
const COUNT_BITS: u32 = 32;

/// The bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Retries per hundred requests of the last ten seconds, over all cores.
    pub percent: u32,
    /// Retries per second that are always allowed, on average over ten seconds.
    pub per_second_min: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { percent: 20, per_second_min: 10 }
    }
}

/// What a service has spent, shared by all cores and kept over reloads.
#[derive(Debug, Default)]
pub struct Retries {
    /// Epoch and count in each word.
    buckets: [AtomicU64; BUCKETS as usize],
    spent: AtomicU64,
    refused: AtomicU64,
}

impl Retries {
    /// Retries since the start.
    pub fn spent_total(&self) -> u64 {
        self.spent.load(Ordering::Relaxed)
    }

    /// Retries that the budget forbade since the start.
    pub fn refused_total(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes one retry. `attempts` is the number of attempts in the window, retries
    /// included. Never allows more than the budget, whichever cores ask at once: each
    /// takes first and gives back what was too much.
    pub(crate) fn take(&self, now_ms: u64, budget: Budget, attempts: u64) -> bool {
        let epoch = now_ms / BUCKET_MS;
        let Some(bucket) = self.buckets.get((epoch % BUCKETS) as usize) else { return false };
        let of = (epoch & u64::from(u32::MAX)) << COUNT_BITS;
        let is_now = |word: u64| word >> COUNT_BITS == of >> COUNT_BITS;
        let add = |word: u64| Some(if is_now(word) { word + 1 } else { of + 1 });
        let _ = bucket.fetch_update(Ordering::AcqRel, Ordering::Acquire, add);
        let spent = self.in_window(epoch);
        let requests = attempts.saturating_sub(spent.saturating_sub(1));
        let always = u64::from(budget.per_second_min) * Duration::from_millis(WINDOW_MS).as_secs();
        let allowed = always.saturating_add(requests.saturating_mul(u64::from(budget.percent)) / 100);
        if spent <= allowed {
            self.spent.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        let back = |word: u64| (is_now(word) && word & u64::from(u32::MAX) > 0).then(|| word - 1);
        let _ = bucket.fetch_update(Ordering::AcqRel, Ordering::Acquire, back);
        self.refused.fetch_add(1, Ordering::Relaxed);
        false
    }

    fn in_window(&self, epoch: u64) -> u64 {
        let words = self.buckets.iter().map(|word| word.load(Ordering::Acquire));
        let is_in = |word: &u64| {
            let age = (epoch & u64::from(u32::MAX)).wrapping_sub(word >> COUNT_BITS);
            age < BUCKETS
        };
        words.filter(is_in).map(|word| word & u64::from(u32::MAX)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(retries: &Retries, budget: Budget, now: u64, attempts: u64) -> usize {
        (0..1000).filter(|_| retries.take(now, budget, attempts)).count()
    }

    #[test]
    fn a_share_of_the_requests_and_not_one_more() {
        for (percent, per_second_min, requests, allowed) in
            [(20, 0, 500, 100), (0, 1, 500, 10), (20, 1, 100, 30), (0, 0, 500, 0), (20, 0, 4, 0)]
        {
            let retries = Retries::default();
            let budget = Budget { percent, per_second_min };
            let mut count = 0;
            // Each retry is an attempt too, and must not raise the allowance.
            while count < 1000 && retries.take(5_000, budget, requests + count) {
                count += 1;
            }
            assert_eq!(count, allowed, "{budget:?} of {requests}");
            assert_eq!(retries.spent_total(), allowed);
            assert_eq!(retries.refused_total(), 1);
        }
    }

    #[test]
    fn what_was_spent_comes_back_when_the_window_has_passed() {
        let retries = Retries::default();
        let budget = Budget { percent: 0, per_second_min: 1 };
        assert_eq!(taken(&retries, budget, 0, 0), 10);
        assert_eq!(taken(&retries, budget, WINDOW_MS - 1, 0), 0);
        assert_eq!(taken(&retries, budget, WINDOW_MS, 0), 10);
    }

    #[test]
    fn threads_never_take_more_than_the_budget() {
        let retries = Retries::default();
        let budget = Budget { percent: 0, per_second_min: 10 };
        let taken: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| taken(&retries, budget, 77, 0))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!(taken <= 100, "{taken}");
        // Those who took back at the same moment may have left something.
        let rest = (0..100).filter(|_| retries.take(77, budget, 0)).count();
        assert_eq!(taken + rest, 100);
    }
}
