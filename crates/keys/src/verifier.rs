//! What each core verifies tokens with: its own copy of the keys, its own bounded
//! cache of tokens that it has verified.

use std::cell::Cell;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::Arc;

use foldhash::fast::RandomState;
use lru::LruCache;
use model::{Clock, Principal, Switch, Timestamp, growing};
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::binding::Bound;
use crate::digest::sha256;
use crate::encoding::{parse_object, quote};
use crate::jwk::KeySet;
use crate::jwks::{Issuers, KeyWait};
use crate::jws::{TOKEN_BYTES_MAX, Unverified, Verified};
use crate::jwt::{Accepted, ClaimContext, judge, unverified_issuer};
use crate::refusal::Refusal;
use crate::revocation::Revocations;

/// Most verified tokens that a core remembers.
pub const CACHE_ENTRIES_MAX: usize = 16_384;
/// Most bytes of tokens behind them: a principal is at most a small multiple of the
/// token that it came from.
pub const CACHE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Most unknown `kid`s that a core remembers to have asked for.
pub(crate) const ASKED_ENTRIES_MAX: usize = 1_024;
/// For how long an unknown `kid` is not asked for again, nanoseconds. Background
/// refreshes may bring it sooner.
const ASKED_FOR_NANOS: u64 = 60_000_000_000;

/// What a token amounts to.
#[derive(Debug)]
pub enum Verdict {
    /// It is good.
    Accepted(Arc<Principal>),
    /// It is good in the hands of whoever it is bound to.
    Bound(Bound),
    /// It is not.
    Refused(Refusal),
    /// It names a key that is not known here, and a refresh is under way: wait, then
    /// ask again. It is answered with one of the others then.
    NeedsKey(KeyWait),
}

impl Verdict {
    pub(crate) fn of(accepted: &Accepted) -> Self {
        let principal = Arc::clone(&accepted.principal);
        match &accepted.binding {
            Some(binding) if !Switch::TokenBinding.is_off() => {
                Self::Bound(Bound::new(principal, Arc::clone(binding)))
            }
            _ => Self::Accepted(principal),
        }
    }
}

/// Counters of one core, for metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifierCounts {
    /// Tokens found in the cache and still good.
    pub hits: u64,
    /// Tokens that were verified anew.
    pub misses: u64,
}

/// Verifies tokens on one core. Neither shared nor sent: it takes no lock unless keys
/// changed or a token names an unknown one.
#[derive(Debug)]
pub struct CoreVerifier {
    issuers: Arc<Issuers>,
    /// Counts the ways in which tokens were judged here.
    judgement: u64,
    /// The issuers' numbers that were seen last.
    keys_seen: u64,
    revocations_seen: u64,
    revocations: Arc<Revocations>,
    /// Counts the lists that were taken.
    revocations_taken: u64,
    sets: Vec<CoreKeys>,
    /// Counts the key sets that were taken.
    sets_taken: u64,
    by_name: HashMap<String, usize, RandomState>,
    cache: LruCache<CacheKey, CacheEntry, RandomState>,
    cache_bytes: usize,
    asked: LruCache<(usize, u64), Timestamp, RandomState>,
    hasher: RandomState,
    counts: VerifierCounts,
    _one_core: PhantomData<Cell<()>>,
}

/// One core's copy of an issuer's keys.
#[derive(Debug)]
struct CoreKeys {
    keys: KeySet,
    /// What they were copied from: the issuer's keys are others when this is another.
    source: Arc<KeySet>,
    /// Names these keys on this core, over reloads too.
    number: u64,
    usable_until: Timestamp,
    fault: Option<String>,
}

/// INVARIANT: the whole digest and the number of the judgement, so that neither a
/// collision nor another configuration's judgement can answer.
type CacheKey = (u64, [u8; 32]);

#[derive(Debug)]
struct CacheEntry {
    accepted: Accepted,
    issuer: usize,
    /// [`CoreKeys::number`] of the keys that verified it.
    keys: u64,
    /// The newest list that does not name it.
    not_in: u64,
    bytes: usize,
}

impl CoreVerifier {
    /// A verifier with an empty cache.
    pub fn new(issuers: Arc<Issuers>) -> Self {
        let mut verifier = Self {
            judgement: 0,
            keys_seen: 0,
            revocations_seen: 0,
            revocations: Arc::default(),
            revocations_taken: 0,
            sets: Vec::new(),
            sets_taken: 0,
            by_name: HashMap::default(),
            cache: growing(CACHE_ENTRIES_MAX),
            cache_bytes: 0,
            asked: growing(ASKED_ENTRIES_MAX),
            hasher: RandomState::default(),
            counts: VerifierCounts::default(),
            issuers,
            _one_core: PhantomData,
        };
        verifier.copy_keys();
        verifier.copy_revocations();
        verifier
    }

    /// Takes over a new configuration. What was judged under the old one is forgotten if
    /// the new one could judge otherwise; else each token stands for as long as the keys
    /// that verified it, so that a reload does not verify all of them anew.
    pub fn adopt(&mut self, issuers: Arc<Issuers>) {
        if !self.issuers.judges_like(&issuers) {
            self.judgement += 1;
            self.sets.clear();
            self.cache.clear();
            self.cache_bytes = 0;
        }
        self.issuers = issuers;
        self.asked.clear();
        self.copy_keys();
        self.copy_revocations();
    }

    /// Hits and misses since the start.
    pub fn counts(&self) -> VerifierCounts {
        self.counts
    }

    /// How many tokens are remembered, and the bytes of them.
    pub fn cached(&self) -> (usize, usize) {
        (self.cache.len(), self.cache_bytes)
    }

    /// Judges a compact JWS from an `Authorization: Bearer` field (without the
    /// scheme).
    pub fn verify(&mut self, token: &[u8], now: Timestamp) -> Verdict {
        if token.len() > TOKEN_BYTES_MAX {
            return Verdict::Refused(Refusal::TooLong { bytes: token.len() });
        }
        if self.issuers.keys_generation() != self.keys_seen {
            self.copy_keys();
        }
        if self.issuers.revocation_generation() != self.revocations_seen {
            self.copy_revocations();
        }
        let key = self.cache_key(token);
        if let Some(entry) = self.cache.get_mut(&key)
            && is_current(&self.sets, entry, now)
        {
            let mut judged = entry.accepted.check_time(now);
            if judged.is_ok() && entry.not_in != self.revocations_taken {
                judged = entry.accepted.check_revoked(&self.revocations);
                if judged.is_ok() {
                    entry.not_in = self.revocations_taken;
                }
            }
            return match judged {
                Ok(()) => {
                    self.counts.hits += 1;
                    Verdict::of(&entry.accepted)
                }
                Err(refusal) => Verdict::Refused(refusal),
            };
        }
        self.counts.misses += 1;
        match self.verify_anew(token, now) {
            Ok((accepted, issuer)) => {
                let verdict = Verdict::of(&accepted);
                self.remember(key, accepted, issuer, token.len());
                verdict
            }
            Err(verdict) => verdict,
        }
    }

    fn cache_key(&self, token: &[u8]) -> CacheKey {
        (self.judgement, sha256(token))
    }

    fn verify_anew(&mut self, token: &[u8], now: Timestamp) -> Result<(Accepted, usize), Verdict> {
        let (accepted, place, _) = self.verify_whole(token, now)?;
        Ok((accepted, place))
    }

    fn verify_whole(&mut self, token: &[u8], now: Timestamp) -> Result<(Accepted, usize, Verified), Verdict> {
        let refused = Verdict::Refused;
        let unverified = Unverified::parse(token).map_err(refused)?;
        let name = unverified_issuer(unverified.unverified_payload()).map_err(refused)?;
        let place = self.by_name.get(name.as_str()).copied();
        let (place, entry, set) = place
            .and_then(|place| Some((place, self.issuers.entries.get(place)?, self.sets.get(place)?)))
            .ok_or_else(|| Verdict::Refused(Refusal::IssuerUnknown { found: quote(&name) }))?;
        let found = unverified.algorithm();
        if !entry.settings.algorithms.contains(&found) {
            return Err(Verdict::Refused(Refusal::AlgorithmNotAllowed { found }));
        }
        if now >= set.usable_until {
            let why = set.fault.clone().unwrap_or_else(|| "they were not fetched yet".to_owned());
            let refusal = Refusal::KeysUnavailable { issuer: quote(&name), why };
            // Keys that are too old are asked for without regard to the `kid`.
            return Err(self.ask(place, None, now, refusal));
        }
        // Only an unknown `kid` needs the copy: the token itself is used up by verifying.
        let key_id = unverified.key_id().map(str::to_owned);
        let verified = match set.keys.verify(unverified, &name) {
            Ok(verified) => verified,
            Err(refusal @ Refusal::KeyUnknown { .. }) => return Err(self.ask(place, key_id, now, refusal)),
            Err(refusal) => return Err(Verdict::Refused(refusal)),
        };
        let context = ClaimContext {
            settings: &entry.settings,
            declared_roles: &self.issuers.roles,
            other_prefixes: &entry.other_prefixes,
        };
        let accepted = judge(&verified, context, now).map_err(refused)?;
        accepted.check_revoked(&self.revocations).map_err(refused)?;
        Ok((accepted, place, verified))
    }

    /// Asks for a refresh, once in a while for each `kid`; else the refusal is final.
    fn ask(&mut self, place: usize, key_id: Option<String>, now: Timestamp, refusal: Refusal) -> Verdict {
        use std::hash::BuildHasher as _;
        let asked_for = (place, self.hasher.hash_one(&key_id));
        let lately =
            |asked: &Timestamp| *asked <= now && now.unix_nanos() - asked.unix_nanos() < ASKED_FOR_NANOS;
        let joins_only = self.asked.get(&asked_for).is_some_and(lately);
        let Some(entry) = self.issuers.entries.get(place) else { return Verdict::Refused(refusal) };
        let wait = if joins_only { entry.join() } else { entry.ask(now) };
        match wait {
            Some(wait) => {
                if !joins_only {
                    self.asked.put(asked_for, now);
                }
                Verdict::NeedsKey(wait)
            }
            None => Verdict::Refused(refusal),
        }
    }

    fn remember(&mut self, key: CacheKey, accepted: Accepted, issuer: usize, bytes: usize) {
        let Some(set) = self.sets.get(issuer) else { return };
        let entry = CacheEntry { accepted, issuer, keys: set.number, not_in: self.revocations_taken, bytes };
        if let Some((_, old)) = self.cache.push(key, entry) {
            self.cache_bytes = self.cache_bytes.saturating_sub(old.bytes);
        }
        self.cache_bytes += bytes;
        while self.cache_bytes > CACHE_BYTES_MAX {
            let Some((_, old)) = self.cache.pop_lru() else { break };
            self.cache_bytes = self.cache_bytes.saturating_sub(old.bytes);
        }
    }

    fn copy_revocations(&mut self) {
        // First the number: a list that is newer than it is copied once more.
        self.revocations_seen = self.issuers.revocation_generation();
        let list = self.issuers.revocations();
        if !Arc::ptr_eq(&list, &self.revocations) {
            self.revocations = list;
            self.revocations_taken += 1;
        }
    }

    /// With the above the only place that takes the issuers' locks besides asking for a
    /// refresh.
    fn copy_keys(&mut self) {
        self.keys_seen = self.issuers.keys_generation();
        self.by_name.clear();
        let mut old = std::mem::take(&mut self.sets).into_iter();
        for (place, entry) in self.issuers.entries.iter().enumerate() {
            let state = entry.state().clone();
            self.by_name.insert(entry.settings.issuer.clone(), place);
            // Keys that were only confirmed are neither parsed again nor others. What they
            // are tells that, not a count: two configurations count apart.
            let same = old
                .next()
                .filter(|old| Arc::ptr_eq(&old.source, &state.keys) || old.source.same_as(&state.keys));
            let (keys, number) = match same {
                Some(old) => (old.keys, old.number),
                None => {
                    self.sets_taken += 1;
                    (state.keys.own_copy(), self.sets_taken)
                }
            };
            let (usable_until, fault) = (state.usable_until, state.fault);
            self.sets.push(CoreKeys { keys, source: state.keys, number, usable_until, fault });
        }
    }
}

/// A token that was verified for once, off the cores: with its claims as they stand there.
#[derive(Debug)]
pub struct Proven {
    /// What they amount to.
    pub accepted: Accepted,
    /// The claims.
    pub claims: Map<String, Value>,
    /// The algorithm of its signature.
    pub algorithm: Algorithm,
}

/// Verifies a token for once, and waits for its keys where they are not known yet.
///
/// # Errors
/// [`Refusal`], as for a token that a request brings.
pub async fn prove_once(issuers: &Arc<Issuers>, token: &[u8], clock: &dyn Clock) -> Result<Proven, Refusal> {
    let mut last = Refusal::KeysUnavailable { issuer: "the token's issuer".to_owned(), why: String::new() };
    for _ in 0..3 {
        let wait = match CoreVerifier::new(Arc::clone(issuers)).verify_whole(token, clock.now()) {
            Ok((accepted, _, verified)) => {
                let why = |error: serde_json::Error| quote(&error.to_string());
                let claims = parse_object(verified.payload())
                    .map_err(|error| Refusal::Json { part: "claims", why: why(error) })?;
                let algorithm = Unverified::parse(token)?.algorithm();
                return Ok(Proven { accepted, claims, algorithm });
            }
            Err(Verdict::NeedsKey(wait)) => wait,
            Err(Verdict::Refused(refusal)) => return Err(refusal),
            Err(Verdict::Accepted(_) | Verdict::Bound(_)) => return Err(last),
        };
        if !wait.ended().await {
            last = Refusal::KeysUnavailable {
                issuer: "the token's issuer".to_owned(),
                why: "they did not come in time".to_owned(),
            };
        }
    }
    Err(last)
}

/// Whether the signature that was verified then would verify now. Time and revocation
/// of the token are asked besides.
fn is_current(sets: &[CoreKeys], entry: &CacheEntry, now: Timestamp) -> bool {
    sets.get(entry.issuer).is_some_and(|set| set.number == entry.keys && now < set.usable_until)
}
