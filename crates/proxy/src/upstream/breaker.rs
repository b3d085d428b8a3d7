//! The circuit breaker of a service: when most of its attempts fail, requests are
//! refused at once for a while instead of waiting for it to fail again; then a few are
//! let through to see.
//!
//! ```text
//! closed ── too many failures ──▶ open ── its time is over ──▶ half-open
//!    ▲                             ▲                             │ │
//!    └───────── all trials good ───│─────────────────────────────┘ │
//!                                  └───────── one trial bad ───────┘
//! ```
//!
//! All cores share the one word that holds the state; it is written when the state
//! changes and in half-open, not by requests that go well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::tally::Counted;

/// When a breaker opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BreakerRule {
    /// It opens when so many of a hundred attempts of the last ten seconds failed.
    pub failures_percent: u32,
    /// And there were at least so many attempts.
    pub requests_min: u32,
    /// How long requests are refused.
    pub open: Duration,
    /// So many requests are let through afterwards; when all go well it closes.
    pub trials: u16,
}

impl Default for BreakerRule {
    fn default() -> Self {
        Self { failures_percent: 50, requests_min: 20, open: Duration::from_secs(5), trials: 3 }
    }
}

/// What a breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Lets everything through.
    Closed,
    /// Lets a few requests through to see how they end.
    HalfOpen,
    /// Refuses everything.
    Open,
}

/// The shared state of one service's breaker, kept over reloads.
#[derive(Debug, Default)]
pub struct Breaker {
    word: AtomicU64,
    opened: AtomicU64,
    refused: AtomicU64,
}

/// The state as it stands in the word: two bits of kind, 14 of era, 48 of content. The
/// era counts the openings, so that a late trial of an earlier one changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    /// Since a moment.
    Closed(u64),
    /// Until a moment.
    Open(u64),
    HalfOpen {
        let_in: u16,
        good: u16,
    },
}

const CONTENT: u64 = (1 << 48) - 1;
const ERA: u64 = (1 << 14) - 1;

const fn unpack(word: u64) -> (u64, Held) {
    let content = word & CONTENT;
    let held = match word >> 62 {
        0 => Held::Closed(content),
        1 => Held::Open(content),
        _ => Held::HalfOpen { let_in: (content & 0xffff) as u16, good: ((content >> 16) & 0xffff) as u16 },
    };
    ((word >> 48) & ERA, held)
}

fn pack(era: u64, held: Held) -> u64 {
    let (kind, content) = match held {
        Held::Closed(since) => (0, since & CONTENT),
        Held::Open(until) => (1, until & CONTENT),
        Held::HalfOpen { let_in, good } => (2, u64::from(let_in) | u64::from(good) << 16),
    };
    kind << 62 | (era & ERA) << 48 | content
}

/// The right to send one request.
#[derive(Debug)]
#[must_use = "a trial that is dropped counts as never made"]
pub(crate) struct Pass<'b> {
    /// The breaker and its era, when this is a trial.
    trial: Option<(&'b Breaker, u64)>,
}

impl Breaker {
    /// What it does now.
    pub fn state(&self, now_ms: u64) -> BreakerState {
        match unpack(self.word.load(Ordering::Acquire)).1 {
            Held::Closed(_) => BreakerState::Closed,
            Held::Open(until) if now_ms < until => BreakerState::Open,
            Held::Open(_) | Held::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    /// How often it opened.
    pub fn opened_total(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// How many requests it refused.
    pub fn refused_total(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Lets a request through, or says how long it should wait.
    pub(crate) fn admit(&self, now_ms: u64, rule: &BreakerRule) -> Result<Pass<'_>, Duration> {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let (era, held) = unpack(word);
            let next = match held {
                Held::Closed(_) => return Ok(Pass { trial: None }),
                Held::Open(until) if now_ms < until => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(Duration::from_millis(until - now_ms));
                }
                Held::Open(_) => Held::HalfOpen { let_in: 1, good: 0 },
                Held::HalfOpen { let_in, good } if let_in < rule.trials.max(1) => {
                    Held::HalfOpen { let_in: let_in + 1, good }
                }
                Held::HalfOpen { .. } => {
                    self.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(Duration::from_secs(1));
                }
            };
            match self.word.compare_exchange(word, pack(era, next), Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Ok(Pass { trial: Some((self, era)) }),
                Err(found) => word = found,
            }
        }
    }

    /// An attempt failed while it was closed. `counted` sums the attempts since a
    /// moment. True when this opened it.
    pub(crate) fn failed(&self, now_ms: u64, rule: &BreakerRule, counted: impl Fn(u64) -> Counted) -> bool {
        let word = self.word.load(Ordering::Acquire);
        let (era, Held::Closed(since)) = unpack(word) else { return false };
        let sum = counted(since);
        let too_many = sum.total() >= u64::from(rule.requests_min)
            && sum.bad.saturating_mul(100) >= sum.total().saturating_mul(u64::from(rule.failures_percent));
        too_many && self.open(word, era, now_ms, rule)
    }

    fn open(&self, word: u64, era: u64, now_ms: u64, rule: &BreakerRule) -> bool {
        let until = now_ms.saturating_add(u64::try_from(rule.open.as_millis()).unwrap_or(CONTENT));
        let next = pack(era.wrapping_add(1), Held::Open(until.min(CONTENT)));
        let opened = self.word.compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if opened {
            self.opened.fetch_add(1, Ordering::Relaxed);
        }
        opened
    }

    /// Changes the state of half-open, when it is still of this era.
    fn trial(&self, era: u64, change: impl Fn(u16, u16) -> Held) {
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| match unpack(word) {
            (now, Held::HalfOpen { let_in, good }) if now == era => Some(pack(era, change(let_in, good))),
            _ => None,
        });
    }
}

impl Pass<'_> {
    /// Whether the breaker watches how this very request ends.
    pub(crate) fn is_trial(&self) -> bool {
        self.trial.is_some()
    }

    /// It was answered.
    pub(crate) fn succeeded(&mut self, now_ms: u64, rule: &BreakerRule) {
        let Some((breaker, era)) = self.trial.take() else { return };
        breaker.trial(era, |let_in, good| {
            if good + 1 >= rule.trials.max(1) {
                Held::Closed(now_ms)
            } else {
                Held::HalfOpen { let_in, good: good + 1 }
            }
        });
    }

    /// It failed. True when this opened the breaker again.
    pub(crate) fn failed(&mut self, now_ms: u64, rule: &BreakerRule) -> bool {
        let Some((breaker, era)) = self.trial.take() else { return false };
        let word = breaker.word.load(Ordering::Acquire);
        match unpack(word) {
            (now, Held::HalfOpen { .. }) if now == era => breaker.open(word, era, now_ms, rule),
            _ => false,
        }
    }
}

impl Drop for Pass<'_> {
    /// Nobody knows how it would have ended: another may try.
    fn drop(&mut self) {
        if let Some((breaker, era)) = self.trial.take() {
            breaker.trial(era, |let_in, good| Held::HalfOpen { let_in: let_in.saturating_sub(1), good });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: BreakerRule =
        BreakerRule { failures_percent: 50, requests_min: 10, open: Duration::from_millis(1000), trials: 2 };

    fn counted(good: u64, bad: u64) -> impl Fn(u64) -> Counted {
        move |_| Counted { good, bad }
    }

    fn opened() -> Breaker {
        let breaker = Breaker::default();
        assert!(breaker.failed(100, &RULE, counted(0, 10)));
        breaker
    }

    #[test]
    fn opens_at_the_share_and_the_number_and_not_one_before() {
        for (good, bad, opens) in [(0, 9, false), (0, 10, true), (6, 5, false), (5, 5, true), (4, 5, false)] {
            let breaker = Breaker::default();
            assert_eq!(breaker.failed(100, &RULE, counted(good, bad)), opens, "{good} {bad}");
            let state = if opens { BreakerState::Open } else { BreakerState::Closed };
            assert_eq!(breaker.state(100), state);
            assert_eq!(breaker.admit(100, &RULE).is_err(), opens);
            assert_eq!(breaker.opened_total(), u64::from(opens));
        }
    }

    #[test]
    fn refuses_until_its_time_is_over_and_says_how_long() {
        let breaker = opened();
        assert_eq!(breaker.admit(100, &RULE).err(), Some(Duration::from_millis(1000)));
        assert_eq!(breaker.admit(1099, &RULE).err(), Some(Duration::from_millis(1)));
        assert_eq!(breaker.refused_total(), 2);
        assert!(breaker.admit(1100, &RULE).unwrap().is_trial());
    }

    #[test]
    fn half_open_lets_so_many_through_and_closes_when_all_are_good() {
        let breaker = opened();
        let mut first = breaker.admit(1100, &RULE).unwrap();
        let mut second = breaker.admit(1100, &RULE).unwrap();
        assert!(breaker.admit(1100, &RULE).is_err(), "one past the trials");
        first.succeeded(1200, &RULE);
        assert_eq!(breaker.state(1200), BreakerState::HalfOpen);
        second.succeeded(1200, &RULE);
        assert_eq!(breaker.state(1200), BreakerState::Closed);
        assert!(!breaker.admit(1200, &RULE).unwrap().is_trial());
        // What failed before it closed does not open it again.
        assert!(
            !breaker.failed(1300, &RULE, |since| Counted { good: 0, bad: if since < 1200 { 99 } else { 1 } })
        );
    }

    #[test]
    fn one_bad_trial_opens_again() {
        let breaker = opened();
        let mut first = breaker.admit(1100, &RULE).unwrap();
        let mut second = breaker.admit(1100, &RULE).unwrap();
        assert!(first.failed(1200, &RULE));
        assert_eq!(breaker.state(1200), BreakerState::Open);
        // The other one is of an era that is over.
        second.succeeded(1200, &RULE);
        assert!(!second.failed(1200, &RULE));
        assert_eq!((breaker.state(2199), breaker.opened_total()), (BreakerState::Open, 2));
    }

    #[test]
    fn a_trial_that_is_given_up_makes_room_for_another() {
        let breaker = opened();
        let first = breaker.admit(1100, &RULE).unwrap();
        let second = breaker.admit(1100, &RULE).unwrap();
        assert!(breaker.admit(1100, &RULE).is_err());
        drop(first);
        let third = breaker.admit(1100, &RULE);
        assert!(third.is_ok());
        drop(second);
    }

    #[test]
    fn threads_open_it_once_and_let_exactly_the_trials_in() {
        let breaker = Breaker::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1000).for_each(|_| _ = breaker.failed(100, &RULE, counted(0, 10))));
            }
        });
        assert_eq!(breaker.opened_total(), 1);
        let kept = std::sync::Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| kept.lock().unwrap().extend(breaker.admit(1100, &RULE).ok()));
            }
        });
        assert_eq!(kept.lock().unwrap().len(), 2);
    }
}
