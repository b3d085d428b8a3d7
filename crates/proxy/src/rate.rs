//! Rate limits: GCRA with burst, exact across cores, in fixed memory.
//!
//! The way through it: a [`Rule`] says how much, a [`Subject`] says whose; a
//! [`Limiter`] answers [`Limiter::check`] with a [`Decision`] and mints the [`Grant`]
//! without which nothing is forwarded; [`header`] tells the client.
//!
//! **What a rule admits.** `count` per `per`, and `burst` at one instant after rest:
//! any stretch of time of length `per` admits at most `count + burst` requests, no
//! matter how many connections and cores they come over. The emission interval
//! `per / count` is rounded *up* to whole nanoseconds, so rounding never admits more.
//!
//! **Where it is kept.** One table of cells for all rules, made once and never grown:
//! see [`table`]. A cell whose time has passed may be given to another key; one whose
//! time has not passed never is. A key that finds no free cell in its set is charged to
//! a cell that it shares with its neighbours (the same /16 of IPv4, /32 of IPv6, or
//! one of 256 groups), which admits them at one subject's rate together.
//!
//! What it must never do: admit more than a rule says, take a lock that a request on
//! another core can be suspended under (an insertion holds a spin flag of its set for
//! some tens of nanoseconds), allocate after it was made.

pub mod header;
mod sets;
mod subject;
mod table;

#[cfg(test)]
mod tests;

use std::time::Duration;

use smallvec::SmallVec;

use crate::concurrency::{Concurrency, Slot};

pub use subject::Subject;
use table::{Charged, Table};

/// Highest `burst × per / count`: how far ahead of now a cell may be charged.
pub const AHEAD_MAX: Duration = Duration::from_secs(366 * 86_400);

/// How much may be done: `count` per `per`, with `burst` at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    id: u64,
    name: String,
    count: u32,
    per: Duration,
    burst: u32,
    interval_nanos: u64,
    ahead_nanos: u64,
}

/// Why a rule cannot be kept.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UnfitRule {
    /// Nothing would ever be admitted.
    #[error("limit {name:?}: a count of 0 admits nothing; expected 1 or more")]
    NoCount {
        /// The rule's name.
        name: String,
    },
    /// Nothing would ever be admitted at an instant.
    #[error("limit {name:?}: a burst of 0 admits nothing; expected 1 or more")]
    NoBurst {
        /// The rule's name.
        name: String,
    },
    /// More than one per nanosecond.
    #[error("limit {name:?}: {count} in {per:?} is more than one per nanosecond")]
    TooFast {
        /// The rule's name.
        name: String,
        /// Its count.
        count: u32,
        /// Its period.
        per: Duration,
    },
    /// Over [`AHEAD_MAX`].
    #[error("limit {name:?}: a burst of {burst} takes longer than 366 days to come back; expected less")]
    TooSlow {
        /// The rule's name.
        name: String,
        /// Its burst.
        burst: u32,
    },
}

impl Rule {
    /// `count` per `per`, `burst` at one instant. `id` keeps rules apart that would
    /// otherwise be equal for the same subject; `name` is shown to clients in
    /// `RateLimit` and to operators in metrics. When a configuration names no burst,
    /// `burst = count` is the customary reading of "100 per minute".
    ///
    /// A rule whose numbers change starts with fresh cells; one that stays the same
    /// (by id and numbers) keeps its cells over a reload.
    ///
    /// # Errors
    /// [`UnfitRule`] says which number cannot be kept.
    pub fn new(
        id: u64,
        name: impl Into<String>,
        count: u32,
        per: Duration,
        burst: u32,
    ) -> Result<Self, UnfitRule> {
        let name = name.into();
        if count == 0 {
            return Err(UnfitRule::NoCount { name });
        }
        if burst == 0 {
            return Err(UnfitRule::NoBurst { name });
        }
        if per.as_nanos() < u128::from(count) {
            return Err(UnfitRule::TooFast { name, count, per });
        }
        let interval = per.as_nanos().div_ceil(u128::from(count));
        let ahead = interval * u128::from(burst);
        let (Ok(interval_nanos), Ok(ahead_nanos), true) =
            (u64::try_from(interval), u64::try_from(ahead), ahead <= AHEAD_MAX.as_nanos())
        else {
            return Err(UnfitRule::TooSlow { name, burst });
        };
        Ok(Self { id, name, count, per, burst, interval_nanos, ahead_nanos })
    }

    /// What keeps it apart from other rules.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// What clients and operators call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How many per period.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The period.
    pub fn per(&self) -> Duration {
        self.per
    }

    /// How many at one instant after rest.
    pub fn burst(&self) -> u32 {
        self.burst
    }
}

/// What a rule says about one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass. It is charged only then.
    pub allowed: bool,
    /// How many more would pass at this instant.
    pub remaining: u32,
    /// Until the whole burst is there again.
    pub reset_after: Duration,
    /// Until one would pass; zero when one would pass now.
    pub retry_after: Duration,
    /// Whether the subject had no cell of its own and was charged with its neighbours.
    pub shared: bool,
}

impl Decision {
    /// For a cell that stands at `tat` (theoretical arrival time) after the charge, or
    /// that refused it.
    fn of(rule: &Rule, allowed: bool, tat: u64, now: u64, shared: bool) -> Self {
        let ahead = tat.saturating_sub(now);
        let room = rule.ahead_nanos.saturating_sub(ahead);
        let remaining = room / rule.interval_nanos;
        let short = (ahead + rule.interval_nanos).saturating_sub(rule.ahead_nanos);
        Self {
            allowed,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset_after: Duration::from_nanos(ahead),
            retry_after: Duration::from_nanos(short),
            shared,
        }
    }
}

/// One rule applied to one subject.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// How much.
    pub rule: &'a Rule,
    /// Whose.
    pub subject: Subject<'a>,
}

/// How a granted request stands with one rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// [`Rule::id`].
    pub rule: u64,
    /// How many more would pass at once.
    pub remaining: u32,
    /// Whole seconds, rounded up, until the burst is there again.
    pub reset_seconds: u32,
}

/// The limiter's word that a request fits. Made by [`Limiter::grant`] alone; a
/// request without limits gets one too, but nobody else can say that it has none.
/// Dropping it releases its concurrency slots; what was charged stays charged.
///
/// ```compile_fail
/// // There is no way to make one by hand.
/// let grant = proxy::rate::Grant { slots: Default::default(), standings: Default::default() };
/// ```
#[must_use = "a grant holds concurrency slots until it is dropped"]
#[derive(Debug)]
pub struct Grant {
    slots: SmallVec<[Slot; 2]>,
    standings: SmallVec<[Standing; 4]>,
}

impl Grant {
    /// How the request stands with each rule that it was charged to.
    pub fn standings(&self) -> &[Standing] {
        &self.standings
    }
}

/// Which limit refused, as an index into what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A rate limit: the place in `charges`, and what it said.
    Rate {
        /// Place in the charges.
        charge: usize,
        /// What the rule said.
        decision: Decision,
    },
    /// A concurrency limit: the place in `concurrency`.
    Concurrency {
        /// Place in the concurrency limits.
        limit: usize,
    },
}

impl Refused {
    /// How long to wait before the next try; one second when that cannot be known.
    pub fn retry_after(&self) -> Duration {
        match self {
            Self::Rate { decision, .. } => decision.retry_after,
            Self::Concurrency { .. } => Duration::from_secs(1),
        }
    }
}

/// All rate limits of the process. Shared by all cores.
#[derive(Debug)]
pub struct Limiter {
    table: Table,
}

impl Limiter {
    /// With place for at least `capacity` subjects × rules, at 18 bytes and a bit
    /// each, and 64 KiB more for shared cells. `seed` keys the hash, so that nobody
    /// outside can aim at a set; it must be random.
    pub fn new(capacity: usize, seed: [u64; 2]) -> Self {
        Self { table: Table::new(capacity, seed) }
    }

    /// Asks one rule and charges when it allows. `now` is monotonic time
    /// ([`model::Clock::monotonic`]).
    pub fn check(&self, rule: &Rule, subject: Subject<'_>, now: Duration) -> Decision {
        self.table.charge(rule, self.table.place(rule, subject), Table::instant(now)).0
    }

    /// Asks all rules. When all allow, all are charged and a [`Grant`] is made; when
    /// one refuses, none is charged.
    ///
    /// The rules are first read and then charged. When another core takes the last of
    /// one between the two, the charges already made are taken back, except where a
    /// third request was charged to the same cell in that same instant: then the
    /// charge stays, which is too strict by one and never too lenient.
    ///
    /// # Errors
    /// The first limit that refuses, in the order of `charges`.
    pub fn grant(&self, charges: &[Charge<'_>], now: Duration) -> Result<Grant, Refused> {
        self.grant_with(charges, &[], now)
    }

    /// Like [`Limiter::grant`], with concurrency limits besides. They are asked
    /// between reading and charging the rates, so that a refusal costs nothing.
    ///
    /// # Errors
    /// The first limit that refuses.
    pub fn grant_with(
        &self,
        charges: &[Charge<'_>],
        concurrency: &[&Concurrency],
        now: Duration,
    ) -> Result<Grant, Refused> {
        let mut grant = Grant { slots: SmallVec::new(), standings: SmallVec::new() };
        self.extend(&mut grant, charges, concurrency, now)?;
        Ok(grant)
    }

    /// Adds the word on further limits to a grant: the way asks by address before it
    /// knows who asks, and by principal after.
    ///
    /// # Errors
    /// The first limit that refuses. The grant then stands as it was; the caller
    /// drops it.
    pub fn extend(
        &self,
        grant: &mut Grant,
        charges: &[Charge<'_>],
        concurrency: &[&Concurrency],
        now: Duration,
    ) -> Result<(), Refused> {
        let now = Table::instant(now);
        let places: SmallVec<[_; 4]> = charges.iter().map(|c| self.table.place(c.rule, c.subject)).collect();
        if charges.len() + concurrency.len() > 1 {
            for (at, (charge, place)) in charges.iter().zip(&places).enumerate() {
                if let Some(decision) = self.table.would_refuse(charge.rule, *place, now) {
                    return Err(Refused::Rate { charge: at, decision });
                }
            }
        }
        let mut slots: SmallVec<[Slot; 2]> = SmallVec::new();
        for (at, limit) in concurrency.iter().enumerate() {
            slots.push(limit.acquire().ok_or(Refused::Concurrency { limit: at })?);
        }
        let mut charged: SmallVec<[Charged<'_>; 4]> = SmallVec::new();
        let mut standings: SmallVec<[Standing; 4]> = SmallVec::new();
        for (at, (charge, place)) in charges.iter().zip(places).enumerate() {
            let (decision, receipt) = self.table.charge(charge.rule, place, now);
            let Some(receipt) = receipt else {
                charged.into_iter().rev().for_each(Charged::take_back);
                return Err(Refused::Rate { charge: at, decision });
            };
            charged.push(receipt);
            standings.push(Standing {
                rule: charge.rule.id,
                remaining: decision.remaining,
                reset_seconds: header::seconds_up(decision.reset_after),
            });
        }
        grant.slots.extend(slots);
        grant.standings.extend(standings);
        Ok(())
    }

    /// Memory held, bytes. Never changes.
    pub fn bytes(&self) -> usize {
        self.table.bytes()
    }

    /// How many charges found no cell of their own since the start.
    pub fn shared_total(&self) -> u64 {
        self.table.shared_total()
    }
}
