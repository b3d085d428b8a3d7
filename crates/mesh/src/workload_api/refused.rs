//! Refusals of the Workload API: which of them are written down, so that no user fills the log and
//! pushes its history out, and how many are not.

use std::sync::{Arc, Mutex, PoisonError};

use model::Timestamp;
use model::seldom::{Rate, Seldom};

/// Of one user.
const OF_ONE: Rate = Rate { at_once: 10, every_ms: 1_000 };

/// The refusals of all users. The lock is taken for those alone.
#[derive(Clone, Debug)]
pub struct Refusals(Arc<Mutex<Seldom<u32>>>);

impl Default for Refusals {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Seldom::new(OF_ONE, None))))
    }
}

impl Refusals {
    /// Whether one is written down; then how many of the same user were not, before it.
    pub(crate) fn take(&self, uid: u32, now: Timestamp) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take(uid, now.unix_millis())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use model::seldom::SOURCES_MAX;

    use super::*;

    const START: Timestamp = Timestamp::from_unix_seconds(1_000);

    #[test]
    fn one_user_is_written_down_up_to_the_rate_and_holds_nobody_back() {
        let refusals = Refusals::default();
        let written: Vec<u64> = (0..25).filter_map(|_| refusals.take(1, START)).collect();
        assert_eq!(written, [0; 10], "at the limit, and not one past it");
        assert_eq!(refusals.take(2, START), Some(0));
        let later = START.plus(Duration::from_secs(1));
        assert_eq!((refusals.take(1, later), refusals.take(1, later)), (Some(15), None));
        // After a while as many again, and when the clock was set back.
        for time in [START.plus(Duration::from_secs(60)), START.minus(Duration::from_secs(500))] {
            assert_eq!((0..25).filter_map(|_| refusals.take(1, time)).count(), 10, "{time:?}");
        }
    }

    #[test]
    fn only_so_many_users_are_known() {
        let refusals = Refusals::default();
        let most = u32::try_from(SOURCES_MAX).unwrap();
        assert!((0..most).all(|uid| refusals.take(uid, START) == Some(0)));
        assert_eq!(refusals.take(most, START), None);
        assert_eq!(refusals.take(most, START.plus(Duration::from_secs(2))), Some(0));
    }
}
