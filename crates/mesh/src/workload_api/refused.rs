//! Refusals of the Workload API: which of them are written down, so that no user fills the log and
//! pushes its history out, and how many are not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use model::Timestamp;

/// Of one user: so many may follow each other at once …
const AT_ONCE: u64 = 10;
/// … and one more in each such time, milliseconds.
const EVERY_MS: u64 = 1_000;
/// Users who are told apart; what further ones do at the same time is only counted.
const USERS_MAX: usize = 4_096;

/// What is remembered of a user.
#[derive(Debug, Default)]
struct User {
    /// The theoretical arrival time (GCRA).
    tat_ms: u64,
    left_out: u64,
}

/// The refusals of all users. The lock is taken for those alone.
#[derive(Clone, Debug, Default)]
pub struct Refusals(Arc<Mutex<HashMap<u32, User>>>);

impl Refusals {
    /// Whether one is written down; then how many of the same user were not, before it.
    pub(crate) fn take(&self, uid: u32, now: Timestamp) -> Option<u64> {
        let now_ms = now.unix_millis();
        let mut users = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !users.contains_key(&uid) && users.len() >= USERS_MAX {
            // Of whom nothing is held back any more, nothing has to be known.
            users.retain(|_, user| user.tat_ms > now_ms);
            if users.len() >= USERS_MAX {
                return None;
            }
        }
        let user = users.entry(uid).or_default();
        let longest = now_ms + AT_ONCE * EVERY_MS;
        // What lies further ahead was said by a clock that has been set back since.
        let tat_ms = if user.tat_ms > longest { now_ms } else { user.tat_ms.max(now_ms) };
        let next = tat_ms + EVERY_MS;
        if next > longest {
            user.left_out += 1;
            return None;
        }
        user.tat_ms = next;
        Some(std::mem::take(&mut user.left_out))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

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
        let most = u32::try_from(USERS_MAX).unwrap();
        assert!((0..most).all(|uid| refusals.take(uid, START) == Some(0)));
        assert_eq!(refusals.take(most, START), None);
        assert_eq!(refusals.take(most, START.plus(Duration::from_secs(2))), Some(0));
    }
}
