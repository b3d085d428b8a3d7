//! The cells: a set-associative table of theoretical arrival times.
//!
//! Each set of [`Sets`] holds [`WAYS`](super::sets::WAYS) cells of a tag (a keyed hash of rule and subject) and a
//! theoretical arrival time (`tat`, nanoseconds). A charge of a key that has a cell
//! takes no lock: it reads tag and `tat`, reads the tag again, and moves the `tat` by
//! compare-and-swap. A key without a cell goes through the set's lock, so that one key
//! never gets two cells; it takes over a cell whose `tat` lies *before* now.
//!
//! INVARIANT: after a cell has changed hands its `tat` is above every value that it
//! had under the old key, so a compare-and-swap that began under the old key fails.
//! The taker first swaps the old `tat` for [`CLAIMED`], then stores the tag, then the
//! new `tat`.
//!
//! INVARIANT: the lock word carries the latest time at which the set was searched in
//! vain. Insertions count from there, so that a core whose `now` is a little older
//! than the one that evicted a key cannot bring that key back with a fresher past.

use std::hash::Hasher;
#[expect(deprecated, reason = "the standard library's only keyed hash whose keys can be given")]
use std::hash::SipHasher;
use std::hint::spin_loop;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::sets::{Cell, Set, Sets, WAYS};
use super::{Decision, Rule, Subject};

/// Cells shared by neighbours whose sets are full.
const SHARED_CELLS: usize = 8192;
/// A `tat` that says: this cell is changing hands.
const CLAIMED: u64 = u64::MAX;
/// Added to every time, so that an unused cell (`tat` 0) lies in the past.
const START_NANOS: u64 = 1 << 32;
/// How often to spin for a set before giving the core away.
const SPINS_MAX: u32 = 64;

/// Where a rule and a subject are kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    tag: u64,
    set: usize,
    shared: usize,
}

/// A charge that was made and may be taken back.
#[derive(Debug)]
pub(super) struct Charged<'a> {
    tat: &'a AtomicU64,
    before: u64,
    after: u64,
}

impl Charged<'_> {
    /// Undoes the charge if nothing has happened to the cell since.
    pub(super) fn take_back(self) {
        // Failure means that somebody else was charged since: what would then be right
        // cannot be known from the `tat` alone, and less must not be guessed.
        let _ = self.tat.compare_exchange(self.after, self.before, Ordering::AcqRel, Ordering::Relaxed);
    }
}

#[derive(Debug)]
pub(super) struct Table {
    sets: Sets,
    /// Made when a set is full for the first time.
    shared: OnceLock<Box<[AtomicU64]>>,
    shared_total: AtomicU64,
    seed: [u64; 2],
}

/// What one try on one cell came to.
enum Try<'a> {
    Allowed(Charged<'a>),
    Refused {
        tat: u64,
    },
    /// The cell is another key's, or becoming so.
    Gone,
}

impl Table {
    pub(super) fn new(capacity: usize, seed: [u64; 2]) -> Self {
        Self {
            sets: Sets::new(capacity.div_ceil(WAYS)),
            shared: OnceLock::new(),
            shared_total: AtomicU64::new(0),
            seed,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.sets.bytes() + SHARED_CELLS * size_of::<AtomicU64>()
    }

    pub(super) fn shared_total(&self) -> u64 {
        self.shared_total.load(Ordering::Relaxed)
    }

    /// Monotonic time as cells keep it.
    pub(super) fn instant(now: Duration) -> u64 {
        // Half the range is left for the lock bit and for times ahead of now.
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).min(u64::MAX >> 2) + START_NANOS
    }

    #[expect(deprecated, reason = "see the import")]
    fn hasher(&self, rule: &Rule) -> SipHasher {
        let mut hasher = SipHasher::new_with_keys(self.seed[0], self.seed[1]);
        hasher.write_u64(rule.id);
        hasher.write_u64(rule.interval_nanos);
        hasher.write_u64(rule.ahead_nanos);
        hasher
    }

    pub(super) fn place(&self, rule: &Rule, subject: Subject<'_>) -> Place {
        let mut hasher = self.hasher(rule);
        let mut neighbours = hasher.clone();
        subject.feed(&mut hasher);
        let hash = hasher.finish();
        neighbours.write_u64(subject.prefix(hash));
        Place {
            // 0 marks a cell that nobody ever had.
            tag: hash.max(1),
            set: hash as usize & (self.sets.count() - 1),
            shared: neighbours.finish() as usize & (SHARED_CELLS - 1),
        }
    }

    #[cfg(test)]
    pub(super) fn set_number(&self, rule: &Rule, subject: Subject<'_>) -> usize {
        self.place(rule, subject).set
    }

    fn set(&self, place: Place) -> Set<'_> {
        self.sets.get(place.set)
    }

    fn shared(&self, place: Place) -> &AtomicU64 {
        let cells = self.shared.get_or_init(|| (0..SHARED_CELLS).map(|_| AtomicU64::new(0)).collect());
        #[expect(clippy::indexing_slicing, reason = "`place` masks with the length, a power of two")]
        &cells[place.shared]
    }

    /// What the rule says when it would refuse; charges nothing. A key without a cell
    /// counts as not refused: charging will tell.
    pub(super) fn would_refuse(&self, rule: &Rule, place: Place, now: u64) -> Option<Decision> {
        for cell in self.set(place).cells() {
            if !cell.is_of(place.tag) {
                continue;
            }
            let tat = cell.tat.load(Ordering::Acquire);
            if tat == CLAIMED || !cell.is_of(place.tag) {
                return None;
            }
            let refused = tat.max(now) + rule.interval_nanos > now + rule.ahead_nanos;
            return refused.then(|| Decision::of(rule, false, tat, now, false));
        }
        None
    }

    /// Charges one, if the rule allows it.
    pub(super) fn charge(&self, rule: &Rule, place: Place, now: u64) -> (Decision, Option<Charged<'_>>) {
        let set = self.set(place);
        for cell in set.cells() {
            if cell.is_of(place.tag) {
                match charge_cell(rule, cell, place.tag, now) {
                    Try::Gone => break,
                    done => return told(rule, done, now, false),
                }
            }
        }
        self.charge_locked(rule, place, now)
    }

    /// The slow way, for a key that has no cell or is just losing it.
    fn charge_locked(&self, rule: &Rule, place: Place, now: u64) -> (Decision, Option<Charged<'_>>) {
        let set = self.set(place);
        let watermark = set.acquire();
        let later = now.max(watermark);
        let outcome = match self.find_or_take(rule, set, place, later) {
            Some(done) => told(rule, done, now, false),
            None => {
                self.shared_total.fetch_add(1, Ordering::Relaxed);
                // Under the lock: whoever gives this key a cell of its own next must
                // see what was charged here.
                let done = charge_shared(rule, self.shared(place), later);
                if let Try::Allowed(charged) = &done {
                    let owed = set.owed_until.load(Ordering::Relaxed).max(charged.after);
                    set.owed_until.store(owed, Ordering::Relaxed);
                }
                told(rule, done, now, true)
            }
        };
        set.release(later);
        outcome
    }

    /// The key's cell if it has one, else one whose time has passed; `None` when
    /// there is neither. Only with the set's lock held.
    fn find_or_take<'a>(&'a self, rule: &Rule, set: Set<'a>, place: Place, now: u64) -> Option<Try<'a>> {
        for cell in set.cells() {
            if cell.is_of(place.tag) {
                // Cells change hands only under the lock that we hold.
                return Some(charge_cell(rule, cell, place.tag, now));
            }
        }
        for cell in set.cells() {
            let old = cell.tat.load(Ordering::Acquire);
            // Strictly before now: the new `tat` must be above the old one. The owner
            // may charge it in this moment; then it is not free after all.
            if old < now
                && cell.tat.compare_exchange(old, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
            {
                // What the key may have had from the shared cell stays had. It had
                // nothing there if no key of this set did.
                let owes = set.owed_until.load(Ordering::Relaxed) > now;
                let shared = if owes { self.shared(place).load(Ordering::Acquire) } else { 0 };
                let before = now.max(shared);
                let after = before + rule.interval_nanos;
                let allowed = after <= now + rule.ahead_nanos;
                cell.tag.store(place.tag, Ordering::Release);
                cell.tat.store(if allowed { after } else { before }, Ordering::Release);
                return Some(if allowed {
                    Try::Allowed(Charged { tat: cell.tat, before, after })
                } else {
                    Try::Refused { tat: before }
                });
            }
        }
        None
    }
}

fn told<'a>(rule: &Rule, done: Try<'a>, now: u64, shared: bool) -> (Decision, Option<Charged<'a>>) {
    match done {
        Try::Allowed(charged) => (Decision::of(rule, true, charged.after, now, shared), Some(charged)),
        Try::Refused { tat } => (Decision::of(rule, false, tat, now, shared), None),
        // Cannot be: only the unlocked way meets it, and goes on to the locked one.
        Try::Gone => (Decision::of(rule, false, now + rule.ahead_nanos, now, shared), None),
    }
}

/// GCRA on a cell that is believed to be `tag`'s.
fn charge_cell<'a>(rule: &Rule, cell: Cell<'a>, tag: u64, now: u64) -> Try<'a> {
    let mut tat = cell.tat.load(Ordering::Acquire);
    loop {
        // The tag is read after the `tat`: if it is still ours, then that `tat` was
        // ours, and the swap fails if the cell changes hands after this.
        if tat == CLAIMED || !cell.is_of(tag) {
            return Try::Gone;
        }
        let before = tat.max(now);
        let after = before + rule.interval_nanos;
        if after > now + rule.ahead_nanos {
            return Try::Refused { tat };
        }
        match cell.tat.compare_exchange_weak(tat, after, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Try::Allowed(Charged { tat: cell.tat, before, after }),
            Err(found) => tat = found,
        }
    }
}

/// GCRA on a cell that several keys share.
fn charge_shared<'a>(rule: &Rule, cell: &'a AtomicU64, now: u64) -> Try<'a> {
    let mut tat = cell.load(Ordering::Acquire);
    loop {
        let before = tat.max(now);
        let after = before + rule.interval_nanos;
        if after > now + rule.ahead_nanos {
            return Try::Refused { tat };
        }
        match cell.compare_exchange_weak(tat, after, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Try::Allowed(Charged { tat: cell, before, after }),
            Err(found) => tat = found,
        }
    }
}

impl Set<'_> {
    /// Takes the set and gives its watermark.
    fn acquire(self) -> u64 {
        let mut spins = 0;
        loop {
            let word = self.lock.load(Ordering::Relaxed);
            if word & 1 == 0
                && self
                    .lock
                    .compare_exchange_weak(word, word | 1, Ordering::Acquire, Ordering::Relaxed)
                    .is_ok()
            {
                return word >> 1;
            }
            spins += 1;
            if spins < SPINS_MAX {
                spin_loop();
            } else {
                // The holder has lost its core: let it run.
                std::thread::yield_now();
            }
        }
    }

    fn release(self, watermark: u64) {
        self.lock.store(watermark << 1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_that_is_another_keys_or_changing_hands_is_not_charged() {
        let rule = Rule::new(1, "test", 1, Duration::from_secs(1), 5).unwrap();
        for (tag, tat) in [(2, START_NANOS), (1, CLAIMED), (0, 0)] {
            let words = [AtomicU64::new(tag), AtomicU64::new(tat)];
            let cell = Cell { tag: &words[0], tat: &words[1] };
            assert!(matches!(charge_cell(&rule, cell, 1, START_NANOS), Try::Gone), "tag {tag} tat {tat}");
            assert_eq!(words[1].load(Ordering::Relaxed), tat);
        }
        let words = [AtomicU64::new(1), AtomicU64::new(0)];
        let own = Cell { tag: &words[0], tat: &words[1] };
        assert!(matches!(charge_cell(&rule, own, 1, START_NANOS), Try::Allowed(_)));
    }

    #[test]
    fn a_charge_is_taken_back_only_while_it_is_the_last() {
        let rule = Rule::new(1, "test", 1, Duration::from_secs(1), 5).unwrap();
        let cell = AtomicU64::new(0);
        let charged = || match charge_shared(&rule, &cell, START_NANOS) {
            Try::Allowed(charged) => charged,
            _ => panic!("five fit"),
        };
        charged().take_back();
        assert_eq!(cell.load(Ordering::Relaxed), START_NANOS);
        let first = charged();
        let _second = charged();
        first.take_back();
        assert_eq!(cell.load(Ordering::Relaxed), START_NANOS + 2 * rule.interval_nanos);
    }
}
