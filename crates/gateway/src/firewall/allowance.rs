//! What one core may spend on showing the firewall requests that are refused anyway.

use std::cell::Cell;
use std::time::Duration;

/// The span over which spending is counted.
const SPAN: Duration = Duration::from_secs(1);
/// Most of a span that may be spent.
const SPENT_MAX: Duration = Duration::from_millis(50);

/// Processor time of one core for requests without a credential or a permit: somebody
/// who floods with those gains no more than a twentieth of the core by it.
#[derive(Debug, Default)]
pub(crate) struct Allowance {
    span: Cell<u128>,
    spent: Cell<Duration>,
}

impl Allowance {
    /// Whether there is some left; `now` is monotonic.
    pub(crate) fn has_some(&self, now: Duration) -> bool {
        let span = now.as_nanos() / SPAN.as_nanos();
        if self.span.replace(span) != span {
            self.spent.set(Duration::ZERO);
        }
        self.spent.get() < SPENT_MAX
    }

    /// So much was spent.
    pub(crate) fn spend(&self, time: Duration) {
        self.spent.set(self.spent.get().saturating_add(time));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_its_bound_and_the_next_one_starts_anew() {
        let allowance = Allowance::default();
        let at = |millis: u64| Duration::from_millis(10_000 + millis);
        assert!(allowance.has_some(at(0)));
        allowance.spend(SPENT_MAX - Duration::from_nanos(1));
        assert!(allowance.has_some(at(500)));
        allowance.spend(Duration::from_nanos(1));
        assert!(!allowance.has_some(at(999)));
        assert!(allowance.has_some(at(1000)));
    }
}
