//! The X.509 documents of one caller, kept fresh: renewed at half of their life, at once
//! when they or their authority are taken back, and kept while they are good when renewal
//! fails.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keys::svid::WorkloadKey;
use keys::{Algorithm, LocalSigner};
use model::{SpiffeId, Timestamp};
use tokio::sync::watch;
use zeroize::Zeroizing;

use super::{Event, Foreign, Refused, World};
use crate::allowance::Asked;
use crate::attest::Caller;
use crate::authority_set::AuthoritySet;
use crate::backoff;
use crate::bundle::Bundle;
use crate::error::Error;
use crate::revocation::Revoked;
use crate::trust_domain::IssuedX509;
use crate::workload::{WORKLOADS_MAX, Workload, Workloads};

/// How long is waited at most without a look at the clock, which somebody may have moved.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// And at least.
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A document with its key.
pub(crate) struct Document {
    pub(crate) issued: IssuedX509,
    /// PKCS #8, DER.
    pub(crate) key: Zeroizing<Vec<u8>>,
}

/// The newest document of each workload: a process that connects again, and others of the same
/// workload, get the same one while it is fresh.
#[derive(Clone, Default)]
pub struct SvidCache(Arc<Mutex<HashMap<SpiffeId, Place>>>);

/// Where the document of one workload lies.
type Place = Arc<tokio::sync::Mutex<Option<Held>>>;

impl SvidCache {
    fn place(&self, workload: &Workload) -> Place {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // More than can be registered are left over from registrations of before.
        if places.len() > WORKLOADS_MAX {
            places.clear();
        }
        Arc::clone(places.entry(workload.id.clone()).or_default())
    }
}

#[derive(Clone)]
struct Held {
    workload: Workload,
    document: Arc<Document>,
    issued_at: Timestamp,
    renew_at: Timestamp,
}

/// A document, and whose it is.
pub(crate) type Given = (Workload, Arc<Document>);

/// What a caller is told at a moment.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) documents: Vec<Given>,
    pub(crate) own: Bundle,
    pub(crate) foreign: Arc<Foreign>,
}

impl Told {
    /// Whether this says the same as another one.
    fn says(&self, other: &Self) -> bool {
        let same =
            |(one, other): (&Given, &Given)| one.0 == other.0 && one.1.issued.serial == other.1.issued.serial;
        self.documents.len() == other.documents.len()
            && self.documents.iter().zip(&other.documents).all(same)
            && self.own.x509 == other.own.x509
            && self.foreign == other.foreign
    }
}

/// Who asks.
#[derive(Clone)]
pub(crate) enum Asks {
    /// A process at the socket.
    Process(Arc<Caller>),
    /// This process itself, as this workload.
    Ourselves(Arc<Workload>),
}

/// The documents of whoever asks.
pub(crate) struct Source {
    world: Arc<World>,
    asks: Asks,
    call: &'static str,
    authorities: watch::Receiver<Arc<AuthoritySet>>,
    workloads: watch::Receiver<Arc<Workloads>>,
    foreign: watch::Receiver<Arc<Foreign>>,
    revoked: watch::Receiver<Arc<Revoked>>,
    held: Vec<Held>,
    told: Option<Told>,
    /// Whether the last renewal failed, and how many in a row have.
    failing: bool,
    failures: u32,
    bundles_alone: bool,
}

impl Source {
    pub(crate) fn new(world: Arc<World>, asks: Asks, call: &'static str) -> Self {
        let (authorities, workloads, foreign) =
            (world.domain.watch(), world.workloads.clone(), world.foreign.clone());
        let revoked = world.domain.watch_revoked();
        Self {
            world,
            asks,
            call,
            authorities,
            workloads,
            foreign,
            revoked,
            held: Vec::new(),
            told: None,
            failing: false,
            failures: 0,
            bundles_alone: false,
        }
    }

    /// Whether bundles are all that is wanted: no document is made then.
    pub(crate) fn want(&mut self, bundles_alone: bool) {
        self.bundles_alone = bundles_alone;
        self.told = None;
    }

    /// What is to be told next: now the first time, then whenever it is something else.
    ///
    /// # Errors
    /// The caller is nobody (any more), or has nothing good any more.
    pub(crate) async fn next(&mut self) -> Result<Told, Refused> {
        loop {
            self.authorities.mark_unchanged();
            self.workloads.mark_unchanged();
            self.foreign.mark_unchanged();
            self.revoked.mark_unchanged();
            let told = self.refreshed().await?;
            if self.told.as_ref().is_none_or(|before| !before.says(&told)) {
                self.told = Some(told.clone());
                return Ok(told);
            }
            self.wait().await;
        }
    }

    async fn refreshed(&mut self) -> Result<Told, Refused> {
        let workloads = match &self.asks {
            Asks::Process(caller) => self.world.attest(caller).await?,
            Asks::Ourselves(workload) => self.world.not_revoked(vec![Workload::clone(workload)])?,
        };
        let mut before = std::mem::take(&mut self.held);
        let mut failed = None;
        for workload in workloads.into_iter().filter(|_| !self.bundles_alone) {
            let place = before.iter().position(|held| held.workload == workload);
            let kept = place.map(|place| before.swap_remove(place));
            let now = self.world.domain.now();
            if let Some(held) = kept.as_ref().filter(|held| self.is_fresh(held, now)) {
                self.held.push(Held { workload, document: Arc::clone(&held.document), ..*held });
                continue;
            }
            match self.obtain(&workload).await {
                Ok((held, refused)) => {
                    self.held.push(held);
                    failed = failed.or(refused);
                }
                Err(refused) => {
                    self.held.extend(kept.filter(|held| self.is_good(held, now)));
                    failed = Some(refused);
                }
            }
        }
        self.failing = failed.is_some();
        if !self.failing {
            self.failures = 0;
        }
        match failed {
            // What was asked for and is gone is no answer.
            Some(refused) if self.held.is_empty() => return Err(refused),
            Some(refused) => self.say_failed(&refused),
            None => {}
        }
        let documents = self.held.iter().map(|held| (held.workload.clone(), Arc::clone(&held.document)));
        Ok(Told {
            documents: documents.collect(),
            own: self.world.domain.authorities().bundle.clone(),
            foreign: Arc::clone(&self.foreign.borrow()),
        })
    }

    /// Says that a renewal failed; of one user, who may come anew each time, only so often.
    fn say_failed(&self, refused: &Refused) {
        let said = match &self.asks {
            Asks::Process(caller) => self.world.refusals.take(caller.uid, self.world.domain.now()),
            Asks::Ourselves(_) => Some(0),
        };
        if let Some(more) = said {
            tracing::warn!(
                ?refused,
                more,
                "mesh: a renewal failed; documents that are still valid stay in use"
            );
        }
    }

    /// Neither ended nor revoked.
    fn is_good(&self, held: &Held, now: Timestamp) -> bool {
        let issued = &held.document.issued;
        now <= issued.not_after
            && self.world.domain.revoked().certificate(&issued.id, &issued.serial).is_none()
    }

    /// Not yet at half of its life, by a clock that did not go back behind its beginning.
    fn is_fresh(&self, held: &Held, now: Timestamp) -> bool {
        let trusted = self.world.domain.authorities().is_good(&held.document.issued.authority);
        trusted && self.is_good(held, now) && held.issued_at <= now && now < held.renew_at
    }

    /// A document of a workload for whoever asks: the one that its other processes have, while
    /// that is fresh, else a new one; the old one while it is good when no new one can be made,
    /// with the reason. Each giving is written down.
    async fn obtain(&self, workload: &Workload) -> Result<(Held, Option<Refused>), Refused> {
        if matches!(self.asks, Asks::Process(_)) {
            self.world.allowances.take(&workload.id, Asked::Document)?;
        }
        let place = self.world.svid_cache.place(workload);
        // Of several that ask at once, one has it made.
        let mut shelved = place.lock().await;
        let now = self.world.domain.now();
        let there = shelved.as_ref().filter(|held| held.workload == *workload);
        let (held, failed) = match there {
            Some(held) if self.is_fresh(held, now) => (held.clone(), None),
            there => match (self.issue(workload).await, there) {
                (Ok(held), _) => (held, None),
                (Err(refused), Some(held)) if self.is_good(held, now) => (held.clone(), Some(refused)),
                (Err(refused), _) => return Err(refused),
            },
        };
        *shelved = Some(held.clone());
        drop(shelved);
        let event = Event {
            id: Some(workload.id.clone()),
            document: format!("x509 {}", held.document.issued.serial),
            expires: Some(held.document.issued.not_after),
            ..match &self.asks {
                Asks::Process(caller) => self.world.event(self.call, caller),
                Asks::Ourselves(_) => self.world.own_event(self.call),
            }
        };
        self.world.give(event).await?;
        Ok((held, failed))
    }

    async fn issue(&self, workload: &Workload) -> Result<Held, Refused> {
        let unavailable = |error: String| Refused::Unavailable(error);
        let domain = &self.world.domain;
        let now = domain.now();
        // A fresh key for each document.
        let (signer, key) = LocalSigner::generate(Algorithm::Es256, domain.random())
            .map_err(|error| unavailable(error.to_string()))?;
        let public = WorkloadKey::of(Arc::new(signer)).map_err(|error| unavailable(error.to_string()))?;
        let issued = domain.x509(&workload.id, &public).await;
        let issued = issued.map_err(|error| match error {
            Error::Exhausted(why) => Refused::Exhausted(why),
            other => unavailable(other.to_string()),
        })?;
        let life = issued.not_after.since(now);
        // Between 45 and 55 parts of a hundred: what was issued together is not renewed so.
        let renew_at = now.plus(life / 1_000 * (450 + backoff::below(100, domain.random())));
        let document = Arc::new(Document { issued, key });
        Ok(Held { workload: workload.clone(), document, issued_at: now, renew_at })
    }

    /// Waits until something may be to do.
    async fn wait(&mut self) {
        let now = self.world.domain.now();
        let due = self.held.iter().map(|held| held.renew_at).min();
        let pause = if self.failing {
            let ends = self.held.iter().map(|held| held.document.issued.not_after).min();
            let ends_in = ends.map_or(Duration::ZERO, |ends| ends.since(now));
            backoff::before_end(ends_in, &mut self.failures, self.world.domain.random())
        } else {
            due.map_or(LOOK_EVERY, |due| due.since(now)).clamp(LOOK_PAUSE, LOOK_EVERY)
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = self.authorities.changed() => {}
            _ = self.workloads.changed() => {}
            _ = self.foreign.changed() => {}
            _ = self.revoked.changed() => {}
        }
    }
}
