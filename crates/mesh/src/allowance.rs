//! Allowances: how often somebody may have something done for which all others pay (a signature, a write, an
//! event of the audit log), so that whoever asks without end takes their own share and no other.

use std::fmt;
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

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Asked {
    /// A certificate or a token.
    Document,
    /// That an address is registered still.
    Renewal,
    /// That an address is registered anew, or no longer.
    Change,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Document => "documents",
            Self::Renewal => "renewals of addresses",
            Self::Change => "registrations of addresses",
        })
    }
}

/// An allowance for each kind that is asked for.
#[derive(Debug)]
pub(crate) struct ByKind<K> {
    documents: Allowance<K>,
    renewals: Allowance<K>,
    changes: Allowance<K>,
}

impl<K: Eq + Hash> ByKind<K> {
    /// So often for each.
    pub(crate) fn new(documents: Rate, renewals: Rate, changes: Rate) -> Self {
        let [documents, renewals, changes] = [documents, renewals, changes].map(Allowance::new);
        Self { documents, renewals, changes }
    }

    /// So many of each, and none in their place for as long as a test lasts.
    #[cfg(test)]
    pub(crate) fn few(at_once: u64) -> Self {
        let rate = Rate { at_once, every_ms: 3_600_000 };
        Self::new(rate, rate, rate)
    }

    /// Takes one of what `who` may have; `false`: there is none left now.
    pub(crate) fn take(&self, who: K, asked: Asked) -> bool {
        let allowance = match asked {
            Asked::Document => &self.documents,
            Asked::Renewal => &self.renewals,
            Asked::Change => &self.changes,
        };
        allowance.take(who).is_some()
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
