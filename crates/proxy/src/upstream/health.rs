//! Passive ejection: an endpoint that keeps failing is left alone for a while.
//!
//! All cores share one [`Health`] per endpoint, so that five failures are five,
//! whichever cores saw them. After its time the endpoint gets requests again; the
//! first failure then ejects it at once, the first success forgives it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// When an endpoint is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eject {
    /// So many failures in a row: refused or lost connections, timeouts, responses that
    /// cannot be read, and statuses 502, 503 and 504. 0 switches ejection off.
    pub failures: u32,
    /// How long it gets no requests.
    pub duration: Duration,
}

impl Default for Eject {
    fn default() -> Self {
        Self { failures: 5, duration: Duration::from_secs(10) }
    }
}

/// One endpoint's health.
#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    /// Milliseconds of [`crate::deadline::Ticker`]; 0: not ejected.
    ejected_until_ms: AtomicU64,
    ejections: AtomicU64,
}

impl Health {
    /// Whether it gets no requests now.
    pub fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until_ms.load(Ordering::Relaxed) > now_ms
    }

    /// When it gets requests again; 0 when it was never ejected.
    pub fn ejected_until_ms(&self) -> u64 {
        self.ejected_until_ms.load(Ordering::Relaxed)
    }

    /// How often it was ejected.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// It answered.
    pub fn succeeded(&self) {
        // Read first: a healthy endpoint's line stays shared by all cores.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            self.ejected_until_ms.store(0, Ordering::Relaxed);
        }
    }

    /// It failed. True when this ejected it.
    pub fn failed(&self, now_ms: u64, eject: &Eject) -> bool {
        let count = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if eject.failures == 0 || count < eject.failures {
            return false;
        }
        let until = now_ms.saturating_add(u64::try_from(eject.duration.as_millis()).unwrap_or(u64::MAX));
        let before = self.ejected_until_ms.fetch_max(until, Ordering::Relaxed);
        if before > now_ms {
            return false;
        }
        self.ejections.fetch_add(1, Ordering::Relaxed);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Eject = Eject { failures: 3, duration: Duration::from_millis(1000) };

    #[test]
    fn ejects_at_the_number_and_not_one_before() {
        let health = Health::default();
        assert!(!health.failed(10, &RULE));
        assert!(!health.failed(10, &RULE));
        assert!(!health.is_ejected(10));
        assert!(health.failed(10, &RULE));
        assert!(health.is_ejected(10));
        assert!(health.is_ejected(1009));
        assert!(!health.is_ejected(1010), "re-admitted after its time");
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let health = Health::default();
        for _ in 0..10 {
            health.failed(10, &RULE);
            health.failed(10, &RULE);
            health.succeeded();
        }
        assert!(!health.is_ejected(10));
    }

    #[test]
    fn one_failure_after_readmission_ejects_again_and_one_success_forgives() {
        let health = Health::default();
        (0..3).for_each(|_| assert!(health.failed(10, &RULE) == health.is_ejected(10)));
        assert!(health.failed(2000, &RULE));
        assert!(health.is_ejected(2500));
        health.succeeded();
        assert!(!health.is_ejected(2500));
        assert!(!health.failed(2500, &RULE));
    }

    #[test]
    fn zero_failures_switches_it_off() {
        let health = Health::default();
        let off = Eject { failures: 0, ..RULE };
        (0..100).for_each(|_| assert!(!health.failed(10, &off)));
        assert!(!health.is_ejected(10));
    }
}
