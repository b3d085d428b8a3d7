//! The issuers and their keys, shared by all cores and kept fresh on the control
//! plane's runtime.
//!
//! One task per issuer ([`Issuers::run`]) is the only one that fetches: at a due
//! time, or when a core meets a `kid` that it does not know. All who wait for the same
//! fetch wait for one. How often unknown `kid`s may cause one is limited per issuer,
//! so that a flood of invented `kid`s is a few requests per minute to the issuer and
//! nothing more.
//!
//! A fetch that fails changes nothing but the fault that is reported: known keys stay
//! in use until they are older than the issuer's `key_age_max`, then none is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{Clock, Timestamp};
use tokio::sync::{Notify, watch};

use crate::discovery::Metadata;
use crate::error::Error;
use crate::fetch::{Fetch, FetchRequest, Fetched};
use crate::issuer::{IssuerSettings, KeySource, check_issuers};
use crate::jwk::{JWKS_BYTES_MAX, KeySet};
use crate::revocation::Revocations;

/// Shortest time between two background refreshes, whatever `max-age` says.
pub const REFRESH_LEAST: Duration = Duration::from_secs(60);
/// Longest time between two background refreshes, whatever `max-age` says.
pub const REFRESH_MOST: Duration = Duration::from_secs(3600);
/// Time between two background refreshes when the issuer gives none.
pub const REFRESH_DEFAULT: Duration = Duration::from_secs(300);
/// First pause after a failed refresh; doubled until [`REFRESH_LEAST`].
pub const RETRY_FIRST: Duration = Duration::from_secs(2);
/// An unknown `kid` may cause one refresh per issuer in this time …
pub const UNKNOWN_KEY_EVERY: Duration = Duration::from_secs(10);
/// … and so many at once after a quiet time.
pub const UNKNOWN_KEY_BURST: u32 = 4;
/// Longest that a request waits for a refresh.
pub(crate) const KEY_WAIT_MAX: Duration = Duration::from_secs(10);

/// What [`Issuers::new`] is made from.
#[derive(Debug, Default)]
pub struct IssuersSettings {
    /// The issuers.
    pub issuers: Vec<IssuerSettings>,
    /// The declared roles; role names in tokens that are not here are dropped.
    pub roles: BTreeSet<String>,
    /// What clients' names begin with that others than issuers give; empty ones count for nothing.
    pub other_prefixes: Vec<String>,
}

/// All issuers of one configuration and their current keys.
#[derive(Debug)]
pub struct Issuers {
    pub(crate) roles: BTreeSet<String>,
    pub(crate) entries: Vec<Issuer>,
    /// Moves whenever the keys of any issuer were looked at again; cores compare it
    /// with what they have seen. Shared with what these replace, whose last fetch may
    /// end later.
    keys_generation: Arc<AtomicU64>,
    /// Tokens that count no more.
    revocations: Mutex<Arc<Revocations>>,
    /// Moves whenever the list above changed; cached tokens from before it are judged
    /// again.
    revocation_generation: AtomicU64,
}

#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) settings: IssuerSettings,
    pub(crate) other_prefixes: Vec<String>,
    held: Arc<Held>,
}

/// The keys of an issuer and what is known about fetching them: over all configurations
/// that take them from the same source.
#[derive(Debug)]
struct Held {
    state: Mutex<KeyState>,
    budget: AtomicU64,
    asked: AtomicBool,
    wake: Notify,
    attempts: watch::Sender<u64>,
    /// Held by the one fetch that is under way.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

/// The keys of an issuer at one time.
#[derive(Clone, Debug)]
pub(crate) struct KeyState {
    /// Another `Arc` when the keys became others.
    pub(crate) keys: Arc<KeySet>,
    /// From when on they are too old; the epoch before the first fetch.
    pub(crate) usable_until: Timestamp,
    /// What went wrong at the last attempt.
    pub(crate) fault: Option<String>,
    due: Timestamp,
    failures: u32,
}

impl Issuers {
    /// Checks the settings and takes over the keys that `previous` holds for issuers
    /// with the same source, so that a reload does not forget them.
    ///
    /// # Errors
    /// [`Error::Issuer`], see [`check_issuers`].
    pub fn new(settings: IssuersSettings, previous: Option<&Self>) -> Result<Arc<Self>, Error> {
        check_issuers(&settings.issuers)?;
        let of_issuers = settings.issuers.iter().map(|issuer| issuer.prefix.clone());
        let prefixes: Vec<String> = of_issuers.chain(settings.other_prefixes).collect();
        let entry = |issuer: IssuerSettings| {
            let other = |prefix: &&String| !prefix.is_empty() && **prefix != issuer.prefix;
            let other_prefixes = prefixes.iter().filter(other).cloned().collect();
            let kept = previous.and_then(|previous| previous.kept(&issuer));
            let held = kept.unwrap_or_else(|| Arc::new(Held::new(KeyState::first(&issuer))));
            Issuer { other_prefixes, settings: issuer, held }
        };
        Ok(Arc::new(Self {
            roles: settings.roles,
            entries: settings.issuers.into_iter().map(entry).collect(),
            keys_generation: previous.map_or_else(
                || Arc::new(AtomicU64::new(1)),
                |previous| Arc::clone(&previous.keys_generation),
            ),
            revocations: Mutex::new(previous.map(Self::revocations).unwrap_or_default()),
            revocation_generation: AtomicU64::new(0),
        }))
    }

    /// Whether both judge every token alike, given the same keys and revocations.
    pub fn judges_like(&self, other: &Self) -> bool {
        let alike = |(one, two): (&Issuer, &Issuer)| {
            one.settings == two.settings && one.other_prefixes == two.other_prefixes
        };
        self.roles == other.roles
            && self.entries.len() == other.entries.len()
            && self.entries.iter().zip(&other.entries).all(alike)
    }

    fn kept(&self, wanted: &IssuerSettings) -> Option<Arc<Held>> {
        let same = |entry: &&Issuer| {
            let settings = &entry.settings;
            settings.issuer == wanted.issuer
                && settings.algorithms == wanted.algorithms
                && settings.key_age_max == wanted.key_age_max
                && match (&settings.source, &wanted.source) {
                    (KeySource::Discovery, KeySource::Discovery) => true,
                    (KeySource::JwksUrl(one), KeySource::JwksUrl(two)) => one == two,
                    (KeySource::JwksFile(one), KeySource::JwksFile(two)) => one == two,
                    _ => false,
                }
        };
        let entry = self.entries.iter().find(same)?;
        // What is under way does not go on by rules that are another configuration's.
        let alike = entry.settings.allow_private_addresses == wanted.allow_private_addresses;
        Some(if alike { Arc::clone(&entry.held) } else { Arc::new(Held::new(entry.state().clone())) })
    }

    /// How often keys changed or were confirmed.
    pub fn keys_generation(&self) -> u64 {
        self.keys_generation.load(Ordering::Acquire)
    }

    /// How often something was revoked.
    pub fn revocation_generation(&self) -> u64 {
        self.revocation_generation.load(Ordering::Acquire)
    }

    /// Tokens that count no more.
    pub fn revocations(&self) -> Arc<Revocations> {
        Arc::clone(&self.revocations.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes another list of them; every core judges every cached token again at its
    /// next use.
    pub fn set_revocations(&self, list: Arc<Revocations>) {
        *self.revocations.lock().unwrap_or_else(PoisonError::into_inner) = list;
        self.revocation_generation.fetch_add(1, Ordering::AcqRel);
    }

    /// One line per issuer for health and `check`: its name, and what is wrong with
    /// its keys now.
    pub fn health(&self, now: Timestamp) -> Vec<(String, Result<(), String>)> {
        let line = |entry: &Issuer| {
            let state = entry.state();
            let health = match (state.usable_until > now, &state.fault) {
                (true, _) => Ok(()),
                (false, fault) => Err(fault.clone().unwrap_or_else(|| "not fetched yet".to_owned())),
            };
            (entry.settings.issuer.clone(), health)
        };
        self.entries.iter().map(line).collect()
    }

    /// Fetches the keys of every issuer once, at start or for `check`.
    ///
    /// # Errors
    /// Every fault, one per issuer. Those that could be fetched are in use.
    pub async fn refresh_all(&self, fetch: &dyn Fetch, clock: &dyn Clock) -> Result<(), Vec<Error>> {
        let mut faults = Vec::new();
        for entry in &self.entries {
            // What stands in the configuration is there.
            if matches!(entry.settings.source, KeySource::Pinned(_)) {
                continue;
            }
            if let Err(error) = self.refresh(entry, fetch, clock).await {
                faults.push(error);
            }
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Keeps the keys fresh, for as long as it is polled. Spawn it on the control
    /// plane's runtime and abort it when the configuration is replaced: a fetch that is
    /// under way then still comes to its end, also for what replaces these.
    pub async fn run(self: Arc<Self>, fetch: Arc<dyn Fetch>, clock: Arc<dyn Clock>) {
        let mut tasks = tokio::task::JoinSet::new();
        for place in 0..self.entries.len() {
            let (issuers, fetch, clock) = (Arc::clone(&self), Arc::clone(&fetch), Arc::clone(&clock));
            tasks.spawn(async move {
                let Some(entry) = issuers.entries.get(place) else { return };
                if matches!(entry.settings.source, KeySource::Pinned(_)) {
                    return;
                }
                loop {
                    entry.due(clock.as_ref()).await;
                    let Ok(turn) = Arc::clone(&entry.held.fetching).try_lock_owned() else {
                        // Somebody before us fetches: what is due is another question then.
                        drop(entry.held.fetching.lock().await);
                        continue;
                    };
                    let issuers = Arc::clone(&issuers);
                    let (fetch, clock) = (Arc::clone(&fetch), Arc::clone(&clock));
                    let fetching = async move {
                        issuers.refresh_at(place, fetch.as_ref(), clock.as_ref()).await;
                        drop(turn);
                    };
                    if tokio::spawn(fetching).await.is_err() {
                        return;
                    }
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn refresh_at(&self, place: usize, fetch: &dyn Fetch, clock: &dyn Clock) {
        let Some(entry) = self.entries.get(place) else { return };
        if let Err(error) = self.refresh(entry, fetch, clock).await {
            tracing::warn!(issuer = entry.settings.issuer, %error, "keys were not refreshed");
        }
    }

    async fn refresh(&self, entry: &Issuer, fetch: &dyn Fetch, clock: &dyn Clock) -> Result<(), Error> {
        // What this fetch brings is as old as its beginning.
        let begun = clock.now();
        let fetched = entry.fetch(fetch).await;
        let result = entry.take(fetched, begun, clock.now());
        self.keys_generation.fetch_add(1, Ordering::AcqRel);
        entry.held.asked.store(false, Ordering::Release);
        entry.held.attempts.send_modify(|attempts| *attempts += 1);
        result
    }
}

impl KeyState {
    fn first(settings: &IssuerSettings) -> Self {
        let pinned = match &settings.source {
            KeySource::Pinned(keys) => Some(keys.own_copy()),
            _ => None,
        };
        Self {
            usable_until: match pinned {
                Some(_) => Timestamp::from_unix_nanos(u64::MAX),
                None => Timestamp::default(),
            },
            keys: Arc::new(pinned.unwrap_or_default()),
            fault: None,
            due: Timestamp::default(),
            failures: 0,
        }
    }
}

impl Held {
    fn new(state: KeyState) -> Self {
        Self {
            state: Mutex::new(state),
            budget: AtomicU64::new(0),
            asked: AtomicBool::new(false),
            wake: Notify::new(),
            attempts: watch::Sender::new(0),
            fetching: Arc::default(),
        }
    }
}

impl Issuer {
    pub(crate) fn state(&self) -> MutexGuard<'_, KeyState> {
        self.held.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a refresh. `None` when none is due: too many were asked for lately, or
    /// the keys are pinned and never change.
    pub(crate) fn ask(&self, now: Timestamp) -> Option<KeyWait> {
        if matches!(self.settings.source, KeySource::Pinned(_)) {
            return None;
        }
        if let Some(wait) = self.join() {
            return Some(wait);
        }
        if !take_token(&self.held.budget, now) {
            return None;
        }
        let wait = KeyWait { attempts: self.held.attempts.subscribe() };
        self.held.asked.store(true, Ordering::Release);
        self.held.wake.notify_one();
        Some(wait)
    }

    /// Waits with those who asked already; `None` when nobody did.
    pub(crate) fn join(&self) -> Option<KeyWait> {
        // A flood of invented `kid`s ends here, without writing to anything shared.
        if !self.held.asked.load(Ordering::Acquire) {
            return None;
        }
        // Asked once more behind the subscription: if it is still under way now, its
        // end wakes this waiter.
        let wait = KeyWait { attempts: self.held.attempts.subscribe() };
        self.held.asked.load(Ordering::Acquire).then_some(wait)
    }

    async fn due(&self, clock: &dyn Clock) {
        let wait = match self.held.asked.load(Ordering::Acquire) {
            // Whoever was woken for it may have been replaced.
            true => Duration::ZERO,
            // A clock that was set back must not stop the refreshes.
            false => self.state().due.since(clock.now()).min(REFRESH_MOST),
        };
        // Either way it is time.
        let _ = tokio::time::timeout(wait, self.held.wake.notified()).await;
    }

    async fn fetch(&self, fetch: &dyn Fetch) -> Result<Fetched, Error> {
        match &self.settings.source {
            KeySource::Pinned(_) => Err(Error::KeySet("pinned keys are never fetched".to_owned())),
            KeySource::JwksFile(path) => {
                let file = |source| Error::File { path: path.clone(), source };
                let body = crate::file::read_bounded(path, JWKS_BYTES_MAX).map_err(file)?;
                Ok(Fetched { body, cache_control: None })
            }
            KeySource::JwksUrl(url) => self.get(fetch, url, JWKS_BYTES_MAX).await,
            KeySource::Discovery => {
                let (issuer, private) = (&self.settings.issuer, self.settings.allow_private_addresses);
                let metadata = Metadata::discover(fetch, issuer, private).await?;
                let fault = |why| Error::Fetch { url: issuer.clone(), why };
                self.get(fetch, metadata.endpoint("jwks_uri").map_err(fault)?, JWKS_BYTES_MAX).await
            }
        }
    }

    async fn get(&self, fetch: &dyn Fetch, url: &str, bytes_max: usize) -> Result<Fetched, Error> {
        let allow_private_addresses = self.settings.allow_private_addresses;
        let request = FetchRequest { url: url.to_owned(), allow_private_addresses, bytes_max };
        let fault = |why| Error::Fetch { url: url.to_owned(), why };
        let fetched = fetch.fetch(request).await.map_err(|failure| fault(failure.0))?;
        if fetched.body.len() > bytes_max {
            return Err(fault(format!("{} bytes, at most {bytes_max} are read", fetched.body.len())));
        }
        Ok(fetched)
    }

    fn take(&self, fetched: Result<Fetched, Error>, begun: Timestamp, now: Timestamp) -> Result<(), Error> {
        let parsed = fetched.and_then(|fetched| {
            let (keys, skipped) = KeySet::parse(&fetched.body, &self.settings.algorithms)?;
            Ok((keys, skipped, fetched.max_age()))
        });
        let mut state = self.state();
        match parsed {
            Ok((keys, skipped, max_age)) => {
                if !skipped.is_empty() {
                    let issuer = &self.settings.issuer;
                    tracing::debug!(issuer, skipped = skipped.join("; "), "keys that cannot be used");
                }
                if !state.keys.same_as(&keys) {
                    state.keys = Arc::new(keys);
                }
                let most = REFRESH_MOST.min(self.settings.key_age_max / 2);
                let pause = max_age.unwrap_or(REFRESH_DEFAULT).max(REFRESH_LEAST).min(most);
                state.usable_until = begun.plus(self.settings.key_age_max);
                state.due = now.plus(pause);
                state.failures = 0;
                state.fault = None;
                Ok(())
            }
            Err(error) => {
                let pause = RETRY_FIRST.saturating_mul(1_u32.checked_shl(state.failures).unwrap_or(u32::MAX));
                state.due = now.plus(pause.min(REFRESH_LEAST));
                state.failures = (state.failures + 1).min(16);
                state.fault = Some(error.to_string());
                Err(error)
            }
        }
    }
}

/// GCRA: `budget` holds the theoretical arrival time in nanoseconds.
fn take_token(budget: &AtomicU64, now: Timestamp) -> bool {
    let every = u64::try_from(UNKNOWN_KEY_EVERY.as_nanos()).unwrap_or(u64::MAX);
    let burst = every.saturating_mul(u64::from(UNKNOWN_KEY_BURST));
    let now = now.unix_nanos();
    let step = |arrival: u64| {
        // Further away than it can be: the wall clock was set back. Start anew.
        let arrival = if arrival > now.saturating_add(burst) { now } else { arrival.max(now) };
        (arrival.saturating_add(every) <= now.saturating_add(burst)).then(|| arrival.saturating_add(every))
    };
    budget.fetch_update(Ordering::AcqRel, Ordering::Acquire, step).is_ok()
}

/// Resolves when the refresh that was asked for has ended, one way or the other, or
/// after `KEY_WAIT_MAX`. Then verify again: the answer is final then.
#[derive(Debug)]
pub struct KeyWait {
    attempts: watch::Receiver<u64>,
}

impl KeyWait {
    /// Waits. `false`: it took too long, or nobody fetches any more.
    pub async fn ended(mut self) -> bool {
        matches!(tokio::time::timeout(KEY_WAIT_MAX, self.attempts.changed()).await, Ok(Ok(())))
    }
}
