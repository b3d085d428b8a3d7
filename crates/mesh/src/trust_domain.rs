//! A trust domain at work: its authorities in the store, rotated by one process at a time,
//! and the documents that they sign.

use std::sync::Arc;
use std::time::Duration;

use keys::SecureRandom;
use keys::svid::WorkloadKey;
use model::{SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};
use store::limits::SCAN_RECORDS_MAX;
use store::{Expect, Key, Lease, Store, Transaction, Value, Version};
use tokio::sync::watch;

use crate::authority::{Kind, Record};
use crate::authority_set::AuthoritySet;
use crate::directory::Listed;
use crate::error::Error;
use crate::jwt_svid;
use crate::node;
use crate::registry::{self, Registry};
use crate::renew::{renew, renew_by};
use crate::revocation::{self, REVOKED_MAX, Revocation, Revoked, Target};
use crate::scan::each;
use crate::settings::Settings;
use crate::workload_api::AuditRecorder;

/// The longest time between two looks at the authorities.
const KEEP_EVERY: Duration = Duration::from_secs(30);
/// The shortest time between two looks at them, and between two attempts at one change.
const KEEP_PAUSE: Duration = Duration::from_millis(100);
/// How long it waits before it tries again what failed.
const RETRY_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// How long one process may take for a rotation.
const LEASE_LIFETIME: Duration = Duration::from_secs(3);
/// How often a change is tried that others' changes undo: longer than a lease lives.
const ATTEMPTS_MAX: u32 = 10;
/// Most certificates of one workload that are good at once on one node: what a node that is not
/// itself any more leaves to be revoked has a bound.
pub const ISSUED_PER_NODE_MAX: usize = 1_000;
/// Most certificates that are looked through for one that is to be revoked.
const ISSUED_MAX: usize = 1_000_000;

/// Which segment of a key is the serial number of a certificate that was issued on a node, behind the
/// node's name.
const SERIAL_ON_NODE_AT: usize = 4;

/// An issued X.509-SVID.
#[derive(Clone, Debug)]
pub struct IssuedX509 {
    /// Whose.
    pub id: SpiffeId,
    /// The SVID, then what leads to the anchor, DER.
    pub chain: Vec<Vec<u8>>,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// Last second at which it is valid.
    pub not_after: Timestamp,
    /// The authority that signed it.
    pub authority: String,
}

/// What is kept of an issued X.509-SVID until it ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuedRecord {
    /// Whose.
    pub id: SpiffeId,
    /// Lower-case hexadecimal.
    pub serial: String,
    /// When it was issued.
    pub issued: Timestamp,
    /// Last second at which it is valid.
    pub not_after: Timestamp,
    /// The authority that signed it.
    pub authority: String,
}

/// A step of an authority's life that a person takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Another authority of this kind is made.
    Prepare(Kind),
    /// A prepared one signs from now on.
    Activate(String),
    /// One signs no more.
    Taint(String),
    /// A tainted one is in no bundle.
    Revoke(String),
}

/// A trust domain, open.
pub struct TrustDomain {
    settings: Settings,
    store: Store,
    random: Arc<dyn SecureRandom + Send + Sync>,
    authorities: watch::Sender<Arc<AuthoritySet>>,
    revoked: watch::Sender<Arc<Revoked>>,
    registry: Registry,
    listed: Listed,
    turns: Turns,
}

/// Of what is taken over from the store, and put in the place of what was known before.
///
/// INVARIANT: each is held from before the store is asked until that is done, so that nobody who
/// asked earlier puts what was then in the place of what was written since.
#[derive(Default)]
struct Turns {
    authorities: tokio::sync::Mutex<()>,
    revoked: tokio::sync::Mutex<()>,
    registered: tokio::sync::Mutex<()>,
}

/// What is kept in the store and followed by every process.
#[derive(Clone, Copy, Debug)]
enum Followed {
    Revocations,
    Registrations,
}

impl std::fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TrustDomain").field("name", &self.settings.trust_domain).finish_non_exhaustive()
    }
}

fn authorities() -> Key {
    Key::new("mesh").name("authorities")
}

/// Below it, one record for each X.509-SVID that is still good.
fn issued() -> Key {
    Key::new("mesh").name("issued")
}

fn issued_to(id: &SpiffeId) -> Key {
    issued().hidden(revocation::segment(id))
}

/// The node on which a certificate was issued that is kept there; `None`: beside the control plane.
fn issued_on(key: &Key) -> Option<&str> {
    key.text(SERIAL_ON_NODE_AT).and_then(|_| key.text(SERIAL_ON_NODE_AT - 1))
}

impl TrustDomain {
    /// Opens it, and makes its authorities when there are none.
    ///
    /// # Errors
    /// The settings contradict themselves; the store holds another trust domain's
    /// authorities; the store or the cryptographic library fails.
    pub async fn open(
        settings: Settings,
        store: Store,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Result<Arc<Self>, Error> {
        settings.check()?;
        check_name(&store, &settings).await?;
        let record = rotate(&store, &settings, random.as_ref()).await?;
        let authorities = AuthoritySet::at(&record, &settings, store.clock().now())?;
        let (authorities, _) = watch::channel(Arc::new(authorities));
        let (revoked, _) =
            watch::channel(Arc::new(Revoked::new(&revocation::read(&store, REVOKED_MAX).await?)));
        let (registry, listed, turns) = (Registry::default(), Listed::default(), Turns::default());
        let domain = Self { settings, store, random, authorities, revoked, registry, listed, turns };
        domain.take_registered().await?;
        domain.take_endpoints().await?;
        Ok(Arc::new(domain))
    }

    /// What it is.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Where it is kept.
    pub(crate) fn store(&self) -> &Store {
        &self.store
    }

    /// Held by whoever takes over who is registered.
    pub(crate) async fn turn_of_registered(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.turns.registered.lock().await
    }

    /// Who is known.
    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Where services are, as far as this process knows.
    pub(crate) fn listed(&self) -> &Listed {
        &self.listed
    }

    /// The time of its store.
    pub fn now(&self) -> Timestamp {
        self.store.clock().now()
    }

    /// Its source of random numbers.
    pub fn random(&self) -> &(dyn SecureRandom + Send + Sync) {
        self.random.as_ref()
    }

    /// The authorities of now.
    pub fn authorities(&self) -> Arc<AuthoritySet> {
        Arc::clone(&self.authorities.borrow())
    }

    /// The authorities, and each change of them.
    pub fn watch(&self) -> watch::Receiver<Arc<AuthoritySet>> {
        self.authorities.subscribe()
    }

    /// What is revoked.
    pub fn revoked(&self) -> Arc<Revoked> {
        Arc::clone(&self.revoked.borrow())
    }

    /// What is revoked, and each change of it.
    pub fn watch_revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.revoked.subscribe()
    }

    /// Keeps the authorities: makes, prepares and forgets them as their times say, and takes
    /// over what other processes make, revoke and register. `recorder` writes down which addresses ended
    /// because nobody renewed them. Never ends.
    pub async fn run(self: Arc<Self>, recorder: Arc<dyn AuditRecorder>) {
        tokio::join!(
            self.keep_authorities(),
            self.follow(Followed::Revocations),
            self.follow(Followed::Registrations),
            self.keep_endpoints(recorder.as_ref())
        );
    }

    /// Follows what is changed in the store, by whatever process.
    async fn follow(&self, what: Followed) {
        let place = match what {
            Followed::Revocations => revocation::all(),
            Followed::Registrations => registry::all(),
        };
        let mut changes = self.store.watch(&place, self.store.version());
        // What was changed between the opening and the watch.
        let mut look = true;
        loop {
            if !look {
                match changes.next().await {
                    Ok(_) => {}
                    Err(store::Error::Closed) => return,
                    Err(error) => {
                        tracing::error!(%error, ?what, "mesh: changes in the store cannot be watched");
                        tokio::time::sleep(RETRY_AFTER_FAILURE).await;
                    }
                }
            }
            look = false;
            let taken = match what {
                Followed::Revocations => self.take_revoked().await,
                Followed::Registrations => self.take_registered().await,
            };
            if let Err(error) = taken {
                tracing::error!(%error, ?what, "mesh: the store cannot be read; what was read last stays in use");
                tokio::time::sleep(RETRY_AFTER_FAILURE).await;
                look = true;
            }
        }
    }

    async fn take_revoked(&self) -> Result<(), Error> {
        let _turn = self.turns.revoked.lock().await;
        renew(&self.revoked, Revoked::new(&revocation::read(&self.store, REVOKED_MAX).await?));
        Ok(())
    }

    async fn keep_authorities(&self) {
        let mut changes = self.store.watch(&authorities(), self.store.version());
        loop {
            if let Err(error) = self.look_after().await {
                tracing::error!(trust_domain = self.settings.trust_domain, %error, "mesh: the authorities could not be checked for rotation; the present ones stay in use");
                tokio::time::sleep(RETRY_AFTER_FAILURE).await;
            }
            let now = self.now();
            let turn = self.authorities.borrow().next.map_or(KEEP_EVERY, |next| next.since(now));
            let often = KEEP_EVERY.min(self.settings.lifetimes.authority / 24);
            let wait = turn.min(often).max(KEEP_PAUSE);
            // Either way it is time to look.
            if let Ok(Err(error)) = tokio::time::timeout(wait, changes.next()).await {
                if matches!(error, store::Error::Closed) {
                    return;
                }
                tokio::time::sleep(RETRY_AFTER_FAILURE).await;
            }
        }
    }

    /// Does what is due now.
    ///
    /// # Errors
    /// The store or the cryptographic library fails; the authorities of before go on.
    pub async fn look_after(&self) -> Result<(), Error> {
        let _turn = self.turns.authorities.lock().await;
        let record = rotate(&self.store, &self.settings, self.random.as_ref()).await?;
        self.take(&record)
    }

    fn take(&self, record: &Record) -> Result<(), Error> {
        let authorities = AuthoritySet::at(record, &self.settings, self.now())?;
        renew_by(&self.authorities, authorities, AuthoritySet::differs);
        Ok(())
    }

    /// The authorities as they are kept.
    ///
    /// # Errors
    /// The store fails.
    pub async fn record(&self) -> Result<Record, Error> {
        Ok(read(&self.store).await?.0)
    }

    /// Takes a step of an authority's life, and gives what all of them are after it.
    ///
    /// # Errors
    /// [`Error::Authority`]: the step is not possible. [`Error::UnknownAuthority`]. The store fails.
    pub async fn step(&self, step: &Step) -> Result<Record, Error> {
        let _turn = self.turns.authorities.lock().await;
        let record = self::step(&self.store, &self.settings, self.random.as_ref(), step).await?;
        self.take(&record)?;
        Ok(record)
    }

    /// Issues an X.509-SVID for a key, and keeps its serial number until it ends. What is
    /// given out is kept.
    ///
    /// # Errors
    /// The name is of another trust domain; no authority signs; the store fails.
    pub async fn issue_x509(&self, id: &SpiffeId, key: &WorkloadKey) -> Result<IssuedX509, Error> {
        self.issue_below(issued_to(id), Transaction::new(), id, key).await
    }

    /// The same for a node, which may ask as often as it likes.
    ///
    /// # Errors
    /// As [`Self::issue_x509`]; [`Error::Revoked`]: the node was evicted; [`Error::Exhausted`]:
    /// [`ISSUED_PER_NODE_MAX`] are good there. (Calls at the same moment may go past that, each by one.)
    pub async fn issue_x509_on(
        &self,
        node: &str,
        id: &SpiffeId,
        key: &WorkloadKey,
    ) -> Result<IssuedX509, Error> {
        if node::is_kept_out(&self.store, node).await? {
            return Err(Error::Revoked(format!("{node} was evicted")));
        }
        let place = issued_to(id).hidden(node);
        let good = self.store.scan(&place, None, ISSUED_PER_NODE_MAX).await?.records.len();
        if good >= ISSUED_PER_NODE_MAX {
            return Err(Error::Exhausted(format!("{good} certificates of {id} are good on {node} already")));
        }
        // INVARIANT: nobody evicts the node between the look and the issuing: what was issued there is
        // revoked with the eviction.
        let stays = Transaction::new().require(node::evicted(node), Expect::Absent);
        self.issue_below(place, stays, id, key).await
    }

    async fn issue_below(
        &self,
        kept_at: Key,
        stays: Transaction,
        id: &SpiffeId,
        key: &WorkloadKey,
    ) -> Result<IssuedX509, Error> {
        // INVARIANT: nobody revokes it between the look and the issuing.
        let unchanged = self.unless_revoked(stays, id).await?;
        let (authorities, now) = (self.authorities(), self.now());
        let issuing = authorities.issuing.as_ref().ok_or(Error::NoAuthority("they are being rotated"))?;
        let lifetime = self.settings.lifetimes.x509_svid;
        let svid = issuing.authority.issue(id, key, now, lifetime, self.random.as_ref())?;
        let kept = IssuedRecord {
            id: id.clone(),
            serial: svid.serial.clone(),
            issued: now,
            not_after: svid.not_after,
            authority: issuing.id.clone(),
        };
        let place = kept_at.hidden(svid.serial.as_str());
        let end = svid.not_after.plus(Duration::from_secs(1));
        let mut transaction = unchanged.put(place, Value::from_json(&kept)?, Some(end), Expect::Absent);
        // INVARIANT: nor removes it, whatever the list says by which somebody was found to be it.
        if let Some((registration, version)) = self.grounds(id).await? {
            transaction = transaction.require(registration, Expect::Version(version));
        }
        self.store.commit(transaction).await?;
        let chain = std::iter::once(svid.certificate).chain(issuing.chain.iter().cloned()).collect();
        Ok(IssuedX509 {
            id: id.clone(),
            chain,
            serial: svid.serial,
            not_after: svid.not_after,
            authority: issuing.id.clone(),
        })
    }

    /// A transaction that happens only if a workload of this domain, which is not revoked now, is not
    /// revoked until then either.
    pub(crate) async fn unless_revoked(
        &self,
        transaction: Transaction,
        id: &SpiffeId,
    ) -> Result<Transaction, Error> {
        self.check_own(id)?;
        let place = revocation::of_identity(id);
        let word = self.store.get(&place).await?;
        if let Some(Revocation::Identity { lifted: None, .. }) =
            word.as_ref().map(store::Record::json).transpose()?
        {
            return Err(Error::Revoked(format!("{id} is revoked")));
        }
        let expect = word.map_or(Expect::Absent, |word| Expect::Version(word.version));
        Ok(transaction.require(place, expect))
    }

    /// Issues a JWT-SVID for these audiences, and says when it ends. It never outlives the
    /// key that signed it.
    ///
    /// # Errors
    /// The name is of another trust domain; no audience, or too many; no key signs; the store
    /// fails.
    pub async fn issue_jwt(&self, id: &SpiffeId, audiences: &[String]) -> Result<(String, Timestamp), Error> {
        // INVARIANT: the time is of before the look, so that what is taken back after it takes
        // this back too.
        let (authorities, now) = (self.authorities(), self.now());
        if self.revoked().has_identity(id) {
            return Err(Error::Revoked(format!("{id} is revoked")));
        }
        self.unless_revoked(Transaction::new(), id).await?;
        self.grounds(id).await?;
        let (signer, ends) = authorities.jwt.as_ref().ok_or(Error::NoAuthority("they are being rotated"))?;
        let until = now.plus(self.settings.lifetimes.jwt_svid).min(*ends);
        if until.unix_seconds() <= now.unix_seconds() {
            return Err(Error::NoAuthority("the key for JWT-SVIDs has ended"));
        }
        Ok((jwt_svid::sign(signer, id, audiences, now, until)?, until))
    }

    /// X.509-SVIDs that are still good, at most `most`.
    ///
    /// # Errors
    /// The store fails; there are more.
    pub async fn issued(&self, most: usize) -> Result<Vec<IssuedRecord>, Error> {
        let records = self.store.scan_all(&issued(), most).await?;
        records.iter().map(|record| Ok(record.json()?)).collect()
    }

    /// Looks at each X.509-SVID that is still good, however many there are.
    ///
    /// # Errors
    /// The store fails.
    pub async fn each_issued(&self, take: impl FnMut(IssuedRecord)) -> Result<(), Error> {
        each(&self.store, &issued(), take).await
    }

    /// Revokes: a certificate that is good, or a workload with all its certificates. Gives what
    /// was written.
    ///
    /// # Errors
    /// [`Error::Revoked`]: there is no such certificate, or the text is no serial number. The
    /// store fails.
    pub async fn revoke(&self, target: &Target) -> Result<Vec<Revocation>, Error> {
        let now = self.now();
        let mut done = Vec::new();
        let certificates = match target {
            Target::Serial(text) => {
                let number = revocation::serial(text).ok_or_else(|| {
                    Error::Revoked(format!("{text:?} is no serial number: expected hexadecimal digits"))
                })?;
                let is = |kept: &IssuedRecord| revocation::serial(&kept.serial).as_ref() == Some(&number);
                let mut found = Vec::new();
                self.each_issued(|kept| found.extend(Some(kept).filter(is))).await?;
                if found.is_empty() {
                    return Err(Error::Revoked(format!(
                        "no certificate that is good has the serial number {number}"
                    )));
                }
                found
            }
            Target::Identity(id) => {
                // First the right to new ones: what is issued from then on is refused.
                done.push(revocation::revoke_identity(&self.store, id, now).await?);
                self.withdraw_workload(id).await?;
                let records = self.store.scan_all(&issued_to(id), ISSUED_MAX).await?;
                records.iter().map(store::Record::json).collect::<Result<_, _>>()?
            }
        };
        done.extend(revocation::take_back(&self.store, &certificates, now).await?);
        self.take_revoked().await?;
        Ok(done)
    }

    /// Revokes every certificate that was issued on a node.
    pub(crate) async fn take_back_on(&self, node: &str) -> Result<(), Error> {
        let (now, mut after) = (self.now(), None);
        loop {
            let page = self.store.scan(&issued(), after.as_ref(), SCAN_RECORDS_MAX).await?;
            let of_it = page.records.iter().filter(|record| issued_on(&record.key) == Some(node));
            let certificates: Vec<IssuedRecord> = of_it.map(store::Record::json).collect::<Result<_, _>>()?;
            revocation::take_back(&self.store, &certificates, now).await?;
            match page.next {
                Some(cursor) => after = Some(cursor),
                None => break,
            }
        }
        self.take_revoked().await
    }

    /// Lifts a revocation; `false`: there is none. A workload that is lifted gets new
    /// documents; its certificates of before stay revoked.
    ///
    /// # Errors
    /// The store fails.
    pub async fn lift(&self, target: &Target) -> Result<bool, Error> {
        let now = self.now();
        let tokens_end = now.plus(self.settings.lifetimes.jwt_svid);
        let lifted = revocation::lift(&self.store, target, now, tokens_end).await?;
        self.take_revoked().await?;
        Ok(lifted)
    }

    /// Everything that is revoked, and since when.
    ///
    /// # Errors
    /// The store fails.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, Error> {
        revocation::read(&self.store, REVOKED_MAX).await
    }

    pub(crate) fn check_own(&self, id: &SpiffeId) -> Result<(), Error> {
        if id.trust_domain() == self.settings.trust_domain {
            return Ok(());
        }
        Err(Error::Settings(format!("{id} is not of the trust domain {}", self.settings.trust_domain)))
    }
}

/// One store holds one trust domain: keys that signed for one name never sign for another.
async fn check_name(store: &Store, settings: &Settings) -> Result<(), Error> {
    let key = Key::new("mesh").name("trust_domain");
    let own = settings.trust_domain.as_str();
    match store.put(key.clone(), own, None, Expect::Absent).await {
        Ok(_) => return Ok(()),
        Err(store::Error::Conflict { .. }) => {}
        Err(other) => return Err(other.into()),
    }
    let found = store.get(&key).await?.map(|record| String::from_utf8_lossy(&record.value).into_owned());
    match found {
        Some(found) if found != own => Err(Error::Settings(format!(
            "the store holds the authorities of the trust domain {found:?}; {own:?} needs another store"
        ))),
        _ => Ok(()),
    }
}

async fn read(store: &Store) -> Result<(Record, Option<Version>), Error> {
    match store.get(&authorities()).await? {
        Some(record) => Ok((record.json()?, Some(record.version))),
        None => Ok((Record::default(), None)),
    }
}

/// Takes a step of an authority's life in the store; running processes follow.
///
/// # Errors
/// As [`TrustDomain::step`].
pub async fn step(
    store: &Store,
    settings: &Settings,
    random: &(dyn SecureRandom + Send + Sync),
    step: &Step,
) -> Result<Record, Error> {
    change(store, |record, now| {
        let next = match step {
            Step::Prepare(kind) => record.prepared(*kind, settings, random, now)?,
            Step::Activate(id) => record.activated(id, now)?,
            Step::Taint(id) => record.tainted(id, now)?,
            Step::Revoke(id) => record.revoked(id, now)?,
        };
        // What is missing now is made at once: nobody is left without an authority.
        Ok(Some(next.rotated(settings, random, now)?.unwrap_or(next)))
    })
    .await
}

/// Does what is due, in one process at a time.
async fn rotate(
    store: &Store,
    settings: &Settings,
    random: &(dyn SecureRandom + Send + Sync),
) -> Result<Record, Error> {
    change(store, |record, now| record.rotated(settings, random, now)).await
}

/// Compare and set, under the lease of whoever rotates.
async fn change(
    store: &Store,
    next: impl Fn(&Record, Timestamp) -> Result<Option<Record>, Error>,
) -> Result<Record, Error> {
    for attempt in 0..ATTEMPTS_MAX {
        tokio::time::sleep(KEEP_PAUSE * attempt).await;
        let (record, version) = read(store).await?;
        let Some(changed) = next(&record, store.clock().now())? else { return Ok(record) };
        let Some(lease) = store.take_lease("mesh.rotation", LEASE_LIFETIME).await? else { continue };
        let written = write(store, &lease, &changed, version).await;
        lease.release(store).await?;
        if written? {
            return Ok(changed);
        }
    }
    Err(Error::Busy)
}

async fn write(
    store: &Store,
    lease: &Lease,
    record: &Record,
    version: Option<Version>,
) -> Result<bool, Error> {
    let expect = version.map_or(Expect::Absent, Expect::Version);
    let transaction = Transaction::new().put(authorities(), Value::from_json(record)?, None, expect);
    match store.commit(lease.fence(transaction)).await {
        Ok(_) => Ok(true),
        Err(store::Error::Conflict { .. }) => Ok(false),
        Err(other) => Err(other.into()),
    }
}

#[cfg(test)]
mod tests;
