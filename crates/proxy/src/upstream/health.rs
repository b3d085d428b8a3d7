//! What is known of an endpoint: how its attempts ended, whether it is ejected, what
//! the probes say.
//!
//! All cores share one [`Health`] per endpoint, so that five failures are five,
//! whichever cores saw them. After its time an ejected endpoint gets requests again;
//! the first failure then ejects it at once, the first success forgives it. A success
//! before that ends a row of failures, and the ejection with it; it says nothing about one
//! that succeeds too seldom, which stays ejected.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use model::Switch;

use super::tally::{Counted, Tally};

/// When an endpoint is ejected, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eject {
    /// So many failures in a row: refused or lost connections, timeouts, responses that
    /// cannot be read, and statuses 502, 503 and 504. 0 switches this off.
    pub failures: u32,
    /// How long it gets no requests.
    pub duration: Duration,
    /// It is ejected too when fewer of a hundred attempts of the last ten seconds
    /// succeed. 0 switches this off.
    pub success_percent_min: u32,
    /// But not before there were so many attempts.
    pub requests_min: u32,
}

impl Default for Eject {
    fn default() -> Self {
        Self { failures: 5, duration: Duration::from_secs(10), success_percent_min: 0, requests_min: 20 }
    }
}

/// What the probes say of an endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probed {
    /// No probe has ended yet, or there are none: it gets requests.
    #[default]
    Unknown,
    /// It is well.
    Up,
    /// It is not.
    Down,
}

/// One endpoint's health.
#[derive(Debug, Default)]
pub struct Health {
    failures: AtomicU32,
    /// Milliseconds of [`crate::deadline::Ticker`]; 0: not ejected.
    ejected_until_ms: AtomicU64,
    /// The same of its last ejection by success rate: until then no success lifts any.
    seldom_until_ms: AtomicU64,
    ejections: AtomicU64,
    /// What failed before this moment no longer counts for the success rate.
    counted_since_ms: AtomicU64,
    tally: Tally,
    probed: AtomicU8,
    /// Probes in a row that said otherwise than `probed`.
    otherwise: AtomicU32,
    probes_good: AtomicU64,
    probes_bad: AtomicU64,
}

impl Health {
    /// Whether it gets no requests now, because it failed.
    pub fn is_ejected(&self, now_ms: u64) -> bool {
        self.ejected_until_ms.load(Ordering::Relaxed) > now_ms
    }

    /// Whether it gets no requests now while another endpoint is well.
    pub fn is_unwell(&self, now_ms: u64) -> bool {
        self.is_ejected(now_ms) || (self.probed() == Probed::Down && !Switch::Health.is_off())
    }

    /// When it gets requests again; 0 when it was never ejected.
    pub fn ejected_until_ms(&self) -> u64 {
        self.ejected_until_ms.load(Ordering::Relaxed)
    }

    /// How often it was ejected.
    pub fn ejections(&self) -> u64 {
        self.ejections.load(Ordering::Relaxed)
    }

    /// How its attempts ended in the last ten seconds, but not before a moment.
    pub(crate) fn counted(&self, now_ms: u64, since_ms: u64) -> Counted {
        self.tally.sum(now_ms, since_ms)
    }

    /// It answered.
    pub(crate) fn succeeded(&self, core: usize, now_ms: u64) {
        self.tally.count(core, now_ms, true);
        // Read first: a healthy endpoint's line stays shared by all cores.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
            let until = self.ejected_until_ms.load(Ordering::Acquire);
            if self.seldom_until_ms.load(Ordering::Relaxed) <= now_ms {
                // Unless another core has ejected it since.
                let _ =
                    self.ejected_until_ms.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
            }
        }
    }

    /// It failed. True when this ejected it.
    pub(crate) fn failed(&self, core: usize, now_ms: u64, eject: &Eject) -> bool {
        self.tally.count(core, now_ms, false);
        let count = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let in_a_row = eject.failures != 0 && count >= eject.failures;
        let too_seldom = self.succeeds_too_seldom(now_ms, eject);
        if !in_a_row && !too_seldom {
            return false;
        }
        let until = now_ms.saturating_add(u64::try_from(eject.duration.as_millis()).unwrap_or(u64::MAX));
        if too_seldom {
            self.seldom_until_ms.store(until, Ordering::Relaxed);
        }
        let before = self.ejected_until_ms.fetch_max(until, Ordering::AcqRel);
        if before > now_ms {
            return false;
        }
        // After its return it is judged by what it does then.
        self.counted_since_ms.store(until, Ordering::Relaxed);
        self.ejections.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn succeeds_too_seldom(&self, now_ms: u64, eject: &Eject) -> bool {
        if eject.success_percent_min == 0 {
            return false;
        }
        let counted = self.counted(now_ms, self.counted_since_ms.load(Ordering::Relaxed));
        let (good, total) = (counted.good, counted.total());
        total >= u64::from(eject.requests_min)
            && good.saturating_mul(100) < total.saturating_mul(u64::from(eject.success_percent_min))
    }

    /// What the probes say.
    pub fn probed(&self) -> Probed {
        match self.probed.load(Ordering::Relaxed) {
            0 => Probed::Unknown,
            1 => Probed::Up,
            _ => Probed::Down,
        }
    }

    /// Probes that went well, and that did not.
    pub fn probes(&self) -> (u64, u64) {
        (self.probes_good.load(Ordering::Relaxed), self.probes_bad.load(Ordering::Relaxed))
    }

    /// A probe has ended: what the probes say now, when that changed. The first one
    /// decides at once; later it takes `up_after` good or `down_after` bad ones in a
    /// row. Only the prober calls this.
    pub(crate) fn probe_ended(&self, good: bool, up_after: u32, down_after: u32) -> Option<Probed> {
        let counter = if good { &self.probes_good } else { &self.probes_bad };
        counter.fetch_add(1, Ordering::Relaxed);
        let (said, enough) = if good { (Probed::Up, up_after) } else { (Probed::Down, down_after) };
        let before = self.probed();
        if before == said {
            self.otherwise.store(0, Ordering::Relaxed);
            return None;
        }
        let otherwise = self.otherwise.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if before != Probed::Unknown && otherwise < enough {
            return None;
        }
        self.otherwise.store(0, Ordering::Relaxed);
        self.probed.store(if good { 1 } else { 2 }, Ordering::Relaxed);
        Some(said)
    }

    /// It is no longer probed: what was said counts no more.
    pub(crate) fn probes_stopped(&self) {
        self.probed.store(0, Ordering::Relaxed);
        self.otherwise.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: Eject = Eject {
        failures: 3,
        duration: Duration::from_millis(1000),
        success_percent_min: 0,
        requests_min: 10,
    };

    #[test]
    fn ejects_at_the_number_and_not_one_before() {
        let health = Health::default();
        assert!(!health.failed(0, 10, &RULE));
        assert!(!health.failed(1, 10, &RULE));
        assert!(!health.is_ejected(10));
        assert!(health.failed(2, 10, &RULE));
        assert!(health.is_ejected(10));
        assert!(health.is_ejected(1009));
        assert!(!health.is_ejected(1010), "re-admitted after its time");
    }

    #[test]
    fn a_success_between_failures_starts_the_count_again() {
        let health = Health::default();
        for _ in 0..10 {
            health.failed(0, 10, &RULE);
            health.failed(0, 10, &RULE);
            health.succeeded(0, 10);
        }
        assert!(!health.is_ejected(10));
    }

    #[test]
    fn one_failure_after_readmission_ejects_again_and_one_success_forgives() {
        let health = Health::default();
        (0..3).for_each(|_| assert!(health.failed(0, 10, &RULE) == health.is_ejected(10)));
        assert!(health.failed(0, 2000, &RULE));
        assert!(health.is_ejected(2500));
        health.succeeded(0, 2500);
        assert!(!health.is_ejected(2500));
        assert!(!health.failed(0, 2500, &RULE));
    }

    #[test]
    fn zero_failures_switches_it_off() {
        let health = Health::default();
        let off = Eject { failures: 0, ..RULE };
        (0..100).for_each(|_| assert!(!health.failed(0, 10, &off)));
        assert!(!health.is_ejected(10));
    }

    #[test]
    fn succeeding_too_seldom_ejects_although_failures_are_never_in_a_row() {
        // Every second attempt fails: 50 of 100 succeed.
        for (success_percent_min, ejected) in [(50, false), (51, true), (0, false)] {
            let health = Health::default();
            let rule = Eject { success_percent_min, ..RULE };
            let mut ejections = Vec::new();
            for n in 0..20 {
                health.succeeded(0, 10);
                if health.failed(1, 10, &rule) {
                    ejections.push(n);
                    break;
                }
            }
            // Ten attempts are the least that counts.
            assert_eq!(ejections, if ejected { vec![4] } else { vec![] }, "{success_percent_min}");
        }
    }

    #[test]
    fn what_succeeds_too_seldom_stays_ejected_although_it_succeeds_meanwhile() {
        // With failures in a row as well, and without.
        for failures in [0, 10, 1000] {
            let health = Health::default();
            let rule = Eject { failures, success_percent_min: 90, ..RULE };
            (0..10).for_each(|_| _ = health.failed(0, 10, &rule));
            assert!(health.is_ejected(10), "{failures}");
            // What was under way when it was ejected.
            (0..3).for_each(|_| health.succeeded(0, 500));
            assert!(health.is_ejected(1009), "{failures}");
            assert!(!health.is_ejected(1010), "{failures}");
            health.succeeded(0, 1010);
            health.failed(0, 1010, &Eject { failures: 2, ..rule });
            assert!(!health.is_ejected(1010), "forgiven after its time: {failures}");
        }
    }

    #[test]
    fn what_failed_before_an_ejection_does_not_eject_again() {
        let health = Health::default();
        let rule = Eject { failures: 0, success_percent_min: 90, ..RULE };
        for n in 0..10 {
            assert_eq!(health.failed(0, 10, &rule), n == 9);
        }
        assert!(!health.failed(0, 3000, &rule), "one failure after its return");
    }

    #[test]
    fn the_first_probe_decides_and_later_so_many_in_a_row() {
        let health = Health::default();
        let probe = |good| health.probe_ended(good, 2, 3);
        assert_eq!(health.probed(), Probed::Unknown);
        assert_eq!(probe(false), Some(Probed::Down));
        assert_eq!([probe(true), probe(false), probe(true)], [None; 3]);
        assert_eq!(probe(true), Some(Probed::Up));
        assert_eq!([probe(false), probe(false), probe(true), probe(false), probe(false)], [None; 5]);
        assert_eq!(probe(false), Some(Probed::Down));
        assert_eq!(health.probes(), (4, 7));
        health.probes_stopped();
        assert_eq!(health.probed(), Probed::Unknown);
    }
}
