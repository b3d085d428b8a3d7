//! Allowances: how often somebody may have something done for which all others pay (a signature, a write, an
//! event of the audit log), so that whoever asks without end takes their own share and no other.

use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use model::seldom::{Rate, Seldom};
use tokio::time::Instant;

/// Of how many it is known what they have taken lately: more than there are workloads, or nodes with a
/// connection, so that none is refused because others ask too.
pub(crate) const SOURCES_MAX: usize = 2 * crate::workload::WORKLOADS_MAX;

/// What each of some has taken of the same allowance. The lock is held for a look-up.
#[derive(Debug)]
pub(crate) struct Allowance<K> {
    since: Instant,
    taken: Mutex<Seldom<K>>,
}

impl<K: Eq + Hash> Allowance<K> {
    /// So often for each.
    pub(crate) fn new(rate: Rate) -> Self {
        Self {
            since: Instant::now(),
            taken: Mutex::new(Seldom::new(rate, None).with_sources_max(SOURCES_MAX)),
        }
    }

    /// Takes one of those of `who`, and gives how many more were wanted before it; `None`: none is left now. By a
    /// clock that nobody sets.
    pub(crate) fn take(&self, who: K) -> Option<u64> {
        let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).take(who, passed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_taken_all_of_his_own_has_more_in_time_and_takes_nothing_of_others() {
        const RATE: Rate = Rate { at_once: 5, every_ms: 100 };
        let allowance = Allowance::new(RATE);
        let taken = |who: &str| (0..9).filter(|_| allowance.take(who.to_owned()).is_some()).count();
        assert_eq!((taken("one"), taken("one"), taken("other")), (5, 0, 5));
        tokio::time::advance(Duration::from_millis(200)).await;
        assert_eq!(taken("one"), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!((taken("one"), taken("other")), (5, 5));
    }

    /// As after the control plane was away.
    #[tokio::test(start_paused = true)]
    async fn none_is_refused_because_all_others_ask_at_the_same_moment() {
        let allowance = Allowance::new(Rate { at_once: 5, every_ms: 100 });
        assert!((0..SOURCES_MAX).all(|who| allowance.take(who).is_some()));
    }
}
