//! What one core may spend on showing the firewall requests that are refused anyway.

use std::cell::Cell;
use std::time::Duration;

use model::Clock;

/// The span over which spending is counted.
const SPAN: Duration = Duration::from_secs(1);

/// Processor time of one core for requests that are refused anyway: somebody who floods
/// with those gains no more than its share of the core by it.
#[derive(Debug)]
pub(crate) struct Allowance {
    spent_max: Duration,
    span: Cell<u128>,
    spent: Cell<Duration>,
}

impl Allowance {
    /// So much of each second.
    pub(crate) const fn new(spent_max: Duration) -> Self {
        Self { spent_max, span: Cell::new(0), spent: Cell::new(Duration::ZERO) }
    }

    /// Does a slice of work and books it before anybody else can spend; `None` when nothing
    /// is left for it. Requests that take turns together overspend by one slice at most.
    pub(crate) fn slice<T>(&self, clock: &dyn Clock, work: impl FnOnce() -> T) -> Option<T> {
        let begun = clock.monotonic();
        if !self.has_some(begun) {
            return None;
        }
        let done = work();
        let time = clock.monotonic().saturating_sub(begun);
        self.spent.set(self.spent.get().saturating_add(time));
        Some(done)
    }

    /// Whether there is some left; `now` is monotonic.
    fn has_some(&self, now: Duration) -> bool {
        let span = now.as_nanos() / SPAN.as_nanos();
        if self.span.replace(span) != span {
            self.spent.set(Duration::ZERO);
        }
        self.spent.get() < self.spent_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Timestamp;

    /// Time as the test sets it.
    #[derive(Debug, Default)]
    struct Hands(std::sync::Mutex<Duration>);

    impl Hands {
        fn go_on(&self, by: Duration) {
            *self.0.lock().unwrap() += by;
        }
    }

    impl Clock for Hands {
        fn now(&self) -> Timestamp {
            Timestamp::from_unix_seconds(0)
        }

        fn monotonic(&self) -> Duration {
            *self.0.lock().unwrap()
        }
    }

    #[test]
    fn a_span_has_its_bound_and_the_next_one_starts_anew() {
        let (clock, most) = (Hands::default(), Duration::from_millis(50));
        clock.go_on(Duration::from_secs(10));
        let allowance = Allowance::new(most);
        let slice = |millis| allowance.slice(&clock, || clock.go_on(Duration::from_millis(millis)));
        assert!(slice(20).is_some() && slice(29).is_some());
        // A millisecond is left: a slice may begin and pass the bound.
        assert!(slice(10).is_some());
        assert!(slice(1).is_none());
        clock.go_on(Duration::from_millis(1000 - 59));
        assert!(slice(50).is_some() && slice(1).is_none());
    }

    #[test]
    fn who_takes_turns_overspends_together_by_one_slice() {
        let (clock, most) = (Hands::default(), Duration::from_millis(50));
        let allowance = Allowance::new(most);
        // Ten requests that all began before anything was spent, a slice each in turn.
        let mut shown = 0;
        for _turn in 0..20 {
            for _request in 0..10 {
                let done = allowance.slice(&clock, || clock.go_on(Duration::from_millis(1)));
                shown += usize::from(done.is_some());
            }
        }
        assert_eq!(shown, 50);
    }
}
