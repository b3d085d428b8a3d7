//! Processor time per rule.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use waf::{RuleSet, Watch};

/// How often the clock is read to know what reading it costs.
const CALIBRATIONS: usize = 2_000;

/// Processor time of this thread: what others do on the machine does not count.
fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What reading the clock twice costs at least.
pub(super) fn clock_cost() -> Duration {
    (0..CALIBRATIONS)
        .map(|_| now())
        .fold((Duration::MAX, now()), |(least, before), _| {
            let after = now();
            (least.min(after.saturating_sub(before)), after)
        })
        .0
}

/// The times of one round.
#[derive(Debug)]
pub(super) struct Stopwatch {
    /// By the rule's place in its rule set.
    times: Vec<Duration>,
    looks: Vec<u32>,
    at: usize,
    begun: Duration,
    clock_cost: Duration,
}

impl Stopwatch {
    pub(super) fn new(rules: &RuleSet, clock_cost: Duration) -> Self {
        let count = rules.statistics().rules;
        Self {
            times: vec![Duration::ZERO; count],
            looks: vec![0; count],
            at: 0,
            begun: Duration::ZERO,
            clock_cost,
        }
    }
}

impl Watch for Stopwatch {
    fn begin(&mut self, place: usize) {
        self.at = place;
        self.begun = now();
    }

    fn end(&mut self, _: bool) {
        let took = now().saturating_sub(self.begun).saturating_sub(self.clock_cost);
        if let Some(time) = self.times.get_mut(self.at) {
            *time += took;
        }
        if let Some(looks) = self.looks.get_mut(self.at) {
            *looks += 1;
        }
    }
}

/// What rules cost, the dearest first: the least of several rounds, so that what interrupts
/// one of them does not show.
#[derive(Debug)]
pub(super) struct Profile {
    /// Rule and time.
    pub(super) rules: Vec<(u64, Duration)>,
    /// All rules together.
    pub(super) total: Duration,
}

impl Profile {
    pub(super) fn of(rules: &RuleSet, rounds: &[Stopwatch]) -> Self {
        let least = |place: usize| {
            let times = rounds.iter().filter_map(|round| round.times.get(place));
            times.min().copied().unwrap_or_default()
        };
        let looked =
            |place: usize| rounds.iter().any(|round| round.looks.get(place).is_some_and(|looks| *looks > 0));
        let mut all: Vec<(u64, Duration)> = rules
            .ids()
            .enumerate()
            .filter(|(place, _)| looked(*place))
            .map(|(place, id)| (id, least(place)))
            .collect();
        let total = all.iter().map(|(_, time)| *time).sum();
        all.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
        Self { rules: all, total }
    }
}
