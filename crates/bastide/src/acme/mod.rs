//! Certificates that are ordered from ACME servers (RFC 8555), renewed before they end,
//! and kept in the state folder. All of it runs on the control plane.
//!
//! The way through it: a configuration says which names are wanted ([`Orders::follow`]);
//! for each directory one task keeps looking which name is due (`renewal`, `schedule`),
//! orders its certificate over the guarded client (`order`, `http`), checks what came
//! (`issued`), puts it into the state folder (`storage`) and says that something changed
//! ([`Orders::changed`]), whereupon a snapshot is built with [`Orders::identities`].
//!
//! What it must never do: publish a certificate whose key, name or time is wrong, give up
//! the old one before the new one is there, order without a pause after a failure.

mod http;
mod issued;
mod order;
mod renewal;
mod schedule;
mod storage;

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway::metric::Exposition;
use keys::SystemRandom;
use model::{Clock, Timestamp};
use proxy::challenge::Challenges;
use proxy::tls::Identity;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::config::{self, AcmeAccount, AcmeChallenge, Certificates, Configuration};
use crate::process::metrics;
use issued::Issued;
use storage::AcmeStorage;

/// Most names without a certificate that `/readyz` speaks of.
const REASONS_MAX: usize = 5;

/// One certificate that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    account: AcmeAccount,
    name: String,
    challenge: AcmeChallenge,
    renew_before: Option<Duration>,
    profile: Option<String>,
}

/// Whose certificate: the directory and the name.
type Key = (String, String);

impl Wanted {
    fn key(&self) -> Key {
        (self.account.directory.clone(), self.name.clone())
    }
}

/// What is there of a certificate.
#[derive(Debug)]
struct Slot {
    issued: Option<Arc<Issued>>,
    /// When the one that is there is renewed.
    renew_at: Option<Timestamp>,
    /// Nothing is ordered before this, because of a failure.
    hold: Timestamp,
    /// When the server is asked again whether it should be renewed sooner (RFC 9773).
    ask_again: Timestamp,
    /// Orders in a row that failed, and why the last one did.
    failures: u32,
    fault: Option<String>,
    /// Whether it was said that the certificate has ended.
    ended: bool,
}

#[derive(Default)]
struct State {
    wanted: Vec<Wanted>,
    slots: BTreeMap<Key, Slot>,
    /// One for each directory; they end when this is replaced.
    tasks: JoinSet<()>,
}

/// All certificates that are ordered.
pub struct Orders {
    storage: AcmeStorage,
    challenges: Arc<Challenges>,
    clock: Arc<dyn Clock>,
    random: Arc<SystemRandom>,
    state: Mutex<State>,
    changed: Notify,
    issued_total: AtomicU64,
    failed_total: AtomicU64,
}

impl Orders {
    /// In this state folder. Proofs are offered to `challenges`.
    pub fn new(
        state: &std::path::Path,
        challenges: Arc<Challenges>,
        clock: Arc<dyn Clock>,
        random: Arc<SystemRandom>,
    ) -> Self {
        Self {
            storage: AcmeStorage::new(state),
            challenges,
            clock,
            random,
            state: Mutex::default(),
            changed: Notify::new(),
            issued_total: AtomicU64::new(0),
            failed_total: AtomicU64::new(0),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Orders what this configuration wants from now on, and nothing else. What it wanted
    /// before goes on undisturbed when it is the same.
    pub fn follow(self: &Arc<Self>, configuration: &Configuration) {
        let wanted = wanted(configuration);
        let mut state = self.state();
        if state.wanted == wanted {
            return;
        }
        state.tasks = JoinSet::new();
        let known: HashSet<Key> = wanted.iter().map(Wanted::key).collect();
        state.slots.retain(|key, _| known.contains(key));
        let mut by_directory: BTreeMap<&str, Vec<Wanted>> = BTreeMap::new();
        for one in &wanted {
            // What was decided for other settings is decided anew.
            if !state.wanted.contains(one) {
                state.slots.remove(&one.key());
            }
            by_directory.entry(&one.account.directory).or_default().push(one.clone());
        }
        for (_, list) in by_directory {
            state.tasks.spawn(Arc::clone(self).run(list));
        }
        state.wanted = wanted;
    }

    /// Orders nothing any more.
    pub fn stop(&self) {
        let mut state = self.state();
        state.tasks = JoinSet::new();
        state.wanted.clear();
    }

    /// Waits until a certificate was issued or has ended.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The certificates of a listener that are there and have not ended.
    pub fn identities(&self, acme: &config::Acme) -> Vec<Identity> {
        let now = self.clock.now();
        let usable = |name: &String| {
            let key = (acme.account.directory.clone(), name.clone());
            let issued = self.slot(&key, |slot| slot.issued.clone())?;
            (issued.not_after > now).then(|| issued.identity.clone())
        };
        acme.names.iter().filter_map(usable).collect()
    }

    /// Looks at a certificate, which is read from the state folder when it was not yet.
    fn slot<T>(&self, key: &Key, look: impl FnOnce(&mut Slot) -> T) -> T {
        let mut state = self.state();
        let slot = state.slots.entry(key.clone()).or_insert_with(|| self.shelved(key));
        look(slot)
    }

    fn shelved(&self, (directory, name): &Key) -> Slot {
        let now = self.clock.now();
        let issued = match self.storage.certificate(directory, name, now) {
            Ok(issued) => issued.map(Arc::new),
            Err(fault) => {
                tracing::warn!("the certificate for {name} is not used, a new one is ordered: {fault:#}");
                None
            }
        };
        let hold = self.storage.wait(directory, name).unwrap_or_default();
        Slot { issued, renew_at: None, hold, ask_again: now, failures: 0, fault: None, ended: false }
    }

    /// Why nothing can be served with the certificates that are ordered; empty when
    /// something can.
    pub fn unready(&self) -> Vec<String> {
        let wanted = self.state().wanted.clone();
        let now = self.clock.now();
        let mut reasons = Vec::new();
        for one in &wanted {
            let reason = self.slot(&one.key(), |slot| {
                if slot.issued.as_ref().is_some_and(|issued| issued.not_after > now) {
                    return None;
                }
                Some(slot.fault.clone().unwrap_or_else(|| "it is being ordered".to_owned()))
            });
            let Some(reason) = reason else { return Vec::new() };
            if reasons.len() < REASONS_MAX {
                reasons.push(format!("no certificate for {}: {reason}", one.name));
            }
        }
        reasons
    }

    /// Writes the metrics of orders.
    pub fn write(&self, out: &mut Exposition) {
        out.family(&metrics::ACME_ORDERS);
        out.sample(&[("result", "issued")], self.issued_total.load(Ordering::Relaxed));
        out.sample(&[("result", "failed")], self.failed_total.load(Ordering::Relaxed));
        out.family(&metrics::ACME_FAILING);
        let wanted = self.state().wanted.clone();
        for one in &wanted {
            let failing = self.slot(&one.key(), |slot| slot.fault.is_some());
            out.sample(&[("name", &one.name)], u64::from(failing));
        }
    }
}

/// What a configuration wants: each name once for each directory, as the first listener
/// wants it.
fn wanted(configuration: &Configuration) -> Vec<Wanted> {
    let mut list: Vec<Wanted> = Vec::new();
    let mut known: HashSet<Key> = HashSet::new();
    for listener in &configuration.listeners {
        let Some(Certificates::Acme(acme)) = listener.tls.as_ref().map(|tls| &tls.certificates) else {
            continue;
        };
        for name in &acme.names {
            let one = Wanted {
                account: acme.account.clone(),
                name: name.clone(),
                challenge: acme.challenge,
                renew_before: acme.renew_before,
                profile: acme.profile.clone(),
            };
            if known.insert(one.key()) {
                list.push(one);
            }
        }
    }
    list
}
