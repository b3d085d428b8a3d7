//! Places in the audit queue, or in that of the firewall's log, when there are none: a flood
//! on some connections fills it faster than the disk empties it. Whoever comes then waits a little, behind those who wait
//! already, so that each connection gets its turn and no request of another is refused.

use std::cell::Cell;
use std::time::Duration;

use tokio::sync::Mutex;

/// How long a request waits for a place before it is refused.
pub(crate) const WAIT_MAX: Duration = Duration::from_millis(250);
/// How often the one whose turn it is looks for a place: the writer wakes nobody.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Whose turn it is on one core.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    turn: Mutex<()>,
    /// How many wait for theirs.
    waiting: Cell<usize>,
}

/// One who waits.
struct Waiting<'t>(&'t Cell<usize>);

impl<'t> Waiting<'t> {
    fn begin(waiting: &'t Cell<usize>) -> Self {
        waiting.set(waiting.get() + 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

impl Turns {
    /// Waits until there is a place and nobody waits in front, or for [`WAIT_MAX`]. Whoever
    /// comes back takes the place before anything else is awaited.
    pub(crate) async fn wait(&self, has_place: impl Fn() -> bool) {
        if self.waiting.get() == 0 && has_place() {
            return;
        }
        let _waiting = Waiting::begin(&self.waiting);
        let turn = async {
            let _mine = self.turn.lock().await;
            while !has_place() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        // Out of time: the queue itself refuses then, and counts.
        let _ = tokio::time::timeout(WAIT_MAX, Box::pin(turn)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use tokio::time::{Instant, sleep};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_place_is_taken_at_once_and_none_is_waited_for_within_bounds() {
        let turns = Turns::default();
        let start = Instant::now();
        turns.wait(|| true).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        turns.wait(|| start.elapsed() >= Duration::from_millis(100)).await;
        assert!(start.elapsed() < Duration::from_millis(110), "{:?}", start.elapsed());
        let start = Instant::now();
        turns.wait(|| false).await;
        let waited = start.elapsed();
        assert!(waited >= WAIT_MAX && waited < WAIT_MAX + LOOK_EVERY * 2, "{waited:?}");
        assert_eq!(turns.waiting.get(), 0);
    }

    /// One place comes free every ten milliseconds; a connection that asks again and again
    /// gets no more of them than one that asks once.
    #[tokio::test(start_paused = true)]
    async fn each_gets_its_turn_in_the_order_in_which_they_came() {
        let (turns, places, order) = (Turns::default(), Cell::new(0_u32), RefCell::new(Vec::new()));
        let one = async |name: &'static str, times: u32| {
            for _ in 0..times {
                turns.wait(|| places.get() > 0).await;
                places.set(places.get().saturating_sub(1));
                order.borrow_mut().push(name);
            }
        };
        let writer = async {
            for _ in 0..8 {
                sleep(Duration::from_millis(10)).await;
                places.set(places.get() + 1);
            }
        };
        tokio::join!(writer, one("flood", 4), one("honest", 2), one("other", 2));
        let first: Vec<_> = order.borrow().iter().take(6).copied().collect();
        assert_eq!(first, ["flood", "honest", "other", "flood", "honest", "other"]);
    }
}
