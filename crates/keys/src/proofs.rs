//! DPoP proofs that were seen (RFC 9449 §11.1): each is good once, whichever core it
//! comes to.
//!
//! Shared by all cores, bounded, and exact: a proof is remembered for longer than it is
//! taken, and when there is no place left the next one is refused. The places are shared
//! out by key, so that one client that sends many takes them from few others.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use foldhash::fast::RandomState;
use model::{Switch, Timestamp};

use crate::digest::sha256;
use crate::dpop::{PROOF_AGE_MAX, PROOF_AHEAD_MAX, Proof};
use crate::refusal::Refusal;

/// Parts that the places are shared out into.
const PARTS: usize = 16;
/// Most proofs that one part remembers of one [`PERIOD`].
pub(crate) const PROOFS_PER_PART_MAX: usize = 65_536;
/// For at least how long a proof is remembered: from its earliest moment to its latest.
const PERIOD: Duration = Duration::from_secs(PROOF_AGE_MAX.as_secs() + PROOF_AHEAD_MAX.as_secs());

/// A key that a proof showed to be in the client's hands, for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenKey(String);

impl ProvenKey {
    /// The key's thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> &str {
        &self.0
    }
}

/// The proofs that were seen lately.
pub struct SeenProofs {
    parts: [Mutex<Part>; PARTS],
    per_part_max: usize,
}

/// Two periods: what was seen in the last one is remembered through this one.
#[derive(Default)]
struct Part {
    begun: Timestamp,
    now: HashSet<u128, RandomState>,
    before: HashSet<u128, RandomState>,
}

impl fmt::Debug for SeenProofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SeenProofs").finish_non_exhaustive()
    }
}

impl Default for SeenProofs {
    fn default() -> Self {
        Self::with_places(PROOFS_PER_PART_MAX)
    }
}

impl SeenProofs {
    /// With so many places in each part.
    pub fn with_places(per_part_max: usize) -> Self {
        Self { parts: std::array::from_fn(|_| Mutex::default()), per_part_max }
    }

    /// Takes a verified proof, once.
    ///
    /// # Errors
    /// [`Refusal::ProofReplayed`]; [`Refusal::ProofsFull`] when it could not be remembered.
    pub fn take(&self, proof: Proof, now: Timestamp) -> Result<ProvenKey, Refusal> {
        let (place, name) = name_of(&proof);
        let part = self.parts.get(place % PARTS).ok_or(Refusal::ProofsFull)?;
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        part.turn(now);
        let known = part.now.contains(&name) || part.before.contains(&name);
        if known && !Switch::ProofReplay.is_off() {
            return Err(Refusal::ProofReplayed { id: crate::encoding::quote(&proof.id) });
        }
        if part.now.len() >= self.per_part_max {
            return Err(Refusal::ProofsFull);
        }
        part.now.insert(name);
        Ok(ProvenKey(proof.thumbprint))
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        let of = |part: &Mutex<Part>| {
            let part = part.lock().unwrap_or_else(PoisonError::into_inner);
            part.now.len() + part.before.len()
        };
        self.parts.iter().map(of).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Part {
    fn turn(&mut self, now: Timestamp) {
        let age = now.since(self.begun);
        if age >= PERIOD {
            let last = std::mem::take(&mut self.now);
            self.before = if age < PERIOD * 2 { last } else { HashSet::default() };
            self.begun = now;
        } else if self.begun.since(now) > PERIOD {
            // The clock was set back: what is remembered stays for a whole period more.
            self.begun = now;
        }
    }
}

/// Where a proof is looked for, and what it is called there: half a SHA-256 of key and
/// `jti`, as hard to hit for somebody else's proof as the whole one.
fn name_of(proof: &Proof) -> (usize, u128) {
    let [place, ..] = sha256(proof.thumbprint.as_bytes());
    let mut text = proof.thumbprint.clone();
    text.push(' ');
    text.push_str(&proof.id);
    let half = sha256(text.as_bytes()).first_chunk().copied().unwrap_or_default();
    (usize::from(place), u128::from_be_bytes(half))
}
