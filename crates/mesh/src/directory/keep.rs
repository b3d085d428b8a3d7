//! Registrations in the store: taken, renewed, ended, and followed by every process on it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::SpiffeId;
use store::{Event, Expect, Key, Record, Store, Transaction, Value, Version};
use tokio::sync::watch;

use super::table::{RegistrationKey, Table};
use super::{ALL_MAX, Directory, Endpoints, GRACE, KEPT_MAX, LEASE, Registration};
use crate::error::Error;
use crate::issuer::Answer;
use crate::node;
use crate::renew::renew;
use crate::revocation;
use crate::scan::delete_where;
use crate::trust_domain::TrustDomain;
use crate::workload_api::{self, AuditRecorder};

/// Most that are read: several processes may register the last ones at the same time.
const READ_MAX: usize = ALL_MAX + 1_000;
/// Which segment of a key is the node.
const NODE_AT: usize = 3;
/// The call that an event names when a lease ended, where others name what a process called.
pub(super) const EXPIRE: &str = "/bastide.mesh.v1.Endpoints/Expire";
/// After the store did not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// What one process knows of the registrations.
#[derive(Default)]
pub(crate) struct Listed {
    table: Mutex<Table>,
    endpoints: watch::Sender<Arc<Endpoints>>,
    /// Those who come anew are counted one after the other.
    turn: tokio::sync::Mutex<()>,
}

impl Listed {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `change` says whether others are to be told.
    fn change(&self, change: impl FnOnce(&mut Table) -> bool) {
        // Held while others are told: what is told last is the newest.
        let mut table = self.table();
        if change(&mut table) {
            renew(&self.endpoints, table.endpoints());
        }
    }
}

/// What became of a lease whose time is over here.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    /// This process has ended it.
    LocalAddress,
    /// Another one has, or it was withdrawn.
    Elsewhere,
    /// It was renewed, at another process, which was not heard yet.
    Renewed(Version),
}

/// Below it, every registration.
fn all() -> Key {
    Key::new("mesh").name("endpoints")
}

fn of(id: &SpiffeId) -> Key {
    all().hidden(revocation::segment(id))
}

fn key(place: &RegistrationKey) -> Key {
    of(&place.id).hidden(place.node.as_str()).hidden(place.address.to_string())
}

/// The place in a table of a key that [`key`] made; `None`: it is not there.
fn place(key: &Key, table: &Table) -> Option<RegistrationKey> {
    let [id, node, address] = [NODE_AT - 1, NODE_AT, NODE_AT + 1].map(|segment| key.text(segment));
    let (id, node, address) = (id?, node?, address?.parse().ok()?);
    match id.parse::<SpiffeId>() {
        Ok(id) => Some(RegistrationKey { id, node: node.to_owned(), address }),
        // The digest of a name that is too long for a key.
        Err(_) => table.at(node, address).find(|place| revocation::segment(&place.id) == id).cloned(),
    }
}

/// What a record says. One that cannot be read hides no other: it is a hint that is missed.
fn registration(record: &Record) -> Option<Registration> {
    let read = record.json().inspect_err(|error| {
        tracing::error!(%error, "mesh: a record of the service registry cannot be read");
    });
    read.ok()
}

/// Takes out what a node has registered.
pub(crate) async fn withdraw_node(store: &Store, node: &str) -> Result<(), Error> {
    delete_where(store, &all(), |record| Ok(record.key.text(NODE_AT) == Some(node))).await?;
    Ok(())
}

impl TrustDomain {
    /// The addresses that are registered: those whose leases are not over, as they are written down,
    /// which is by the clock of whichever process wrote them.
    ///
    /// # Errors
    /// The store fails.
    pub async fn endpoints(&self) -> Result<Vec<Registration>, Error> {
        let (now, list) = (self.now(), self.store().scan_all(&all(), READ_MAX).await?);
        let mut list: Vec<Registration> = list.iter().filter_map(registration).collect();
        list.retain(|kept| now < kept.ends());
        list.sort_by(|one, other| (&one.id, one.address).cmp(&(&other.id, other.address)));
        Ok(list)
    }

    /// Whether a node has registered this address.
    pub(crate) fn has_endpoint_of(&self, node: &str, id: &SpiffeId, address: SocketAddr) -> bool {
        let place = RegistrationKey { id: id.clone(), node: node.to_owned(), address };
        self.listed().table().since(&place).is_some()
    }

    /// Registers an address that a node (empty: beside the control plane) says, or renews that. Who
    /// says so has been attested to be the workload.
    ///
    /// # Errors
    /// [`Error::Revoked`]: the workload is, or was removed, or the node was evicted.
    /// [`Error::Exhausted`]: there are so many. The store fails.
    pub(crate) async fn register_at(
        &self,
        node: &str,
        id: &SpiffeId,
        address: SocketAddr,
    ) -> Result<(), Error> {
        let place = RegistrationKey { id: id.clone(), node: node.to_owned(), address };
        let since = || self.listed().table().since(&place);
        let (mut known, mut _turn) = (since(), None);
        if known.is_none() {
            _turn = Some(self.listed().turn.lock().await);
            known = since();
        }
        let full = || self.listed().table().full(&place);
        if let Some(why) = known.is_none().then(full).flatten() {
            return Err(Error::Exhausted(why));
        }
        let now = self.now();
        let kept = Registration {
            id: id.clone(),
            address,
            node: node.to_owned(),
            since: known.unwrap_or(now),
            renewed: now,
        };
        let version = match self.commit_registration(&kept).await {
            // What is known of the workload changed meanwhile: it was lifted, or registered anew.
            Err(Error::Store(store::Error::Conflict { .. })) => self.commit_registration(&kept).await,
            done => done,
        };
        let version = version.map_err(|error| match error {
            Error::Store(store::Error::Conflict { .. }) => {
                Error::Revoked(format!("{id} is revoked or was removed, or {node:?} was evicted"))
            }
            other => other,
        })?;
        self.listed().change(|table| table.put(&kept, self.lease_end(), version));
        Ok(())
    }

    async fn commit_registration(&self, kept: &Registration) -> Result<Version, Error> {
        // INVARIANT: nobody is revoked, removed or evicted between the look and the registration,
        // whatever the list says by which somebody was found to be it.
        let mut transaction = self.unless_revoked(Transaction::new(), &kept.id).await?;
        if let Some((registration, version)) = self.grounds(&kept.id).await? {
            transaction = transaction.require(registration, Expect::Version(version));
        }
        if !kept.node.is_empty() {
            transaction = transaction.require(node::evicted(&kept.node), Expect::Absent);
        }
        let (end, value) = (kept.renewed.plus(KEPT_MAX), Value::from_json(kept)?);
        let transaction = transaction.put(key(&RegistrationKey::of(kept)), value, Some(end), Expect::Any);
        Ok(self.store().commit(transaction).await?)
    }

    /// Takes an address out; `false`: it was not there.
    ///
    /// # Errors
    /// The store fails.
    pub(crate) async fn withdraw_at(
        &self,
        node: &str,
        id: &SpiffeId,
        address: SocketAddr,
    ) -> Result<bool, Error> {
        let place = RegistrationKey { id: id.clone(), node: node.to_owned(), address };
        let there = match self.store().delete(key(&place), Expect::Present).await {
            Ok(_) => true,
            Err(store::Error::Conflict { .. }) => false,
            Err(other) => return Err(other.into()),
        };
        self.listed().change(|table| table.remove(&place));
        Ok(there)
    }

    /// Takes out every address of a workload.
    pub(crate) async fn withdraw_workload(&self, id: &SpiffeId) -> Result<(), Error> {
        self.store().delete_all(&of(id)).await?;
        self.listed().change(|table| table.remove_all(id));
        Ok(())
    }

    fn monotonic(&self) -> Duration {
        self.store().clock().monotonic()
    }

    /// When a lease ends whose word is heard now.
    fn lease_end(&self) -> Duration {
        self.monotonic() + LEASE
    }

    /// Takes up what is kept. Who could not renew, because no control plane was there, has some time
    /// to do it now.
    pub(crate) async fn take_endpoints(&self) -> Result<(), Error> {
        // Longer than what is kept has left, whatever clock says when that was said.
        let grace = self.monotonic() + GRACE;
        let list = self.store().scan_all(&all(), READ_MAX).await?;
        let mut next = Table::default();
        for (kept, record) in list.iter().filter_map(|record| Some((registration(record)?, record))) {
            next.put(&kept, grace, record.version);
        }
        self.listed().change(|table| {
            *table = next;
            true
        });
        Ok(())
    }

    /// Ends what was not renewed in time, and writes that down. What the store cannot take out stays.
    pub(crate) async fn end_leases(&self, recorder: &dyn AuditRecorder) -> Result<(), Error> {
        for (place, version) in self.overdue() {
            let end = self.take_out(&place, version).await?;
            if let Some(event) = self.take_end(&place, version, end) {
                // It is gone, whether or not that can be written down.
                let _ = recorder.record(event).await;
            }
        }
        Ok(())
    }

    /// What was not renewed in time: it is there until [`Self::take_end`].
    pub(super) fn overdue(&self) -> Vec<(RegistrationKey, Version)> {
        self.listed().table().over(self.monotonic())
    }

    /// Takes what became of one; the event of one that ended.
    pub(super) fn take_end(
        &self,
        place: &RegistrationKey,
        version: Version,
        end: End,
    ) -> Option<workload_api::Event> {
        if let End::Renewed(version) = end {
            self.listed().table().prolong(place, self.lease_end(), version);
            return None;
        }
        // Who registered it anew meanwhile has not lost it.
        let mut ended = false;
        self.listed().change(|table| {
            ended = table.end(place, version);
            ended
        });
        (ended && matches!(end, End::LocalAddress)).then(|| {
            tracing::info!(id = %place.id, address = %place.address, node = place.node, "mesh: a registration expired: it was not renewed in time");
            self.ended(place)
        })
    }

    async fn take_out(&self, place: &RegistrationKey, version: Version) -> Result<End, Error> {
        match self.store().delete(key(place), Expect::Version(version)).await {
            Ok(_) => Ok(End::LocalAddress),
            Err(store::Error::Conflict { .. }) => {
                let left = self.store().get(&key(place)).await?;
                Ok(left.map_or(End::Elsewhere, |record| End::Renewed(record.version)))
            }
            Err(other) => Err(other.into()),
        }
    }

    /// The event of a lease that ended.
    fn ended(&self, place: &RegistrationKey) -> workload_api::Event {
        let RegistrationKey { id, node, address } = place;
        let document = format!("endpoint {address}, not renewed within {} s", LEASE.as_secs());
        let own = workload_api::Event::own(self.now(), EXPIRE);
        workload_api::Event { id: Some(id.clone()), node: node.clone(), document, ..own }
    }

    /// Follows what is registered, by whatever process, and ends what is not renewed. Never ends.
    pub(crate) async fn keep_endpoints(&self, recorder: &dyn AuditRecorder) {
        let mut changes = self.store().watch(&all(), self.store().version());
        // What was changed between the opening and the watch.
        let mut look = true;
        loop {
            let kept = match look {
                true => self.take_endpoints().await,
                false => self.end_leases(recorder).await,
            };
            if let Err(error) = kept {
                tracing::error!(%error, "mesh: the service registry cannot be read or written; the last known addresses stay in use");
                tokio::time::sleep(PAUSE).await;
                // Nobody could renew while the store did not answer: all get time for it afterwards.
                look = true;
                continue;
            }
            look = false;
            let next = self.listed().table().next_end();
            let wait = next.map_or(LEASE, |end| end.saturating_sub(self.monotonic()));
            match tokio::time::timeout(wait, changes.next()).await {
                Err(_) => {}
                Ok(Ok(event)) => look = self.take_event(&event),
                Ok(Err(store::Error::Closed)) => return,
                Ok(Err(error)) => {
                    tracing::error!(%error, "mesh: changes of the service registry cannot be watched");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// `true`: everything has to be read anew.
    fn take_event(&self, event: &Event) -> bool {
        match event {
            Event::Put(record) => {
                if let Some(kept) = registration(record) {
                    self.listed().change(|table| table.put(&kept, self.lease_end(), record.version));
                }
            }
            Event::Deleted { key, .. } => {
                let remove = |table: &mut Table| place(key, table).is_some_and(|place| table.remove(&place));
                self.listed().change(remove);
            }
            Event::Resync { .. } => return true,
        }
        false
    }
}

impl Directory for TrustDomain {
    fn here(&self) -> Option<IpAddr> {
        self.registry().here()
    }

    fn watch_endpoints(&self) -> watch::Receiver<Arc<Endpoints>> {
        self.listed().endpoints.subscribe()
    }

    fn register_endpoint<'a>(&'a self, id: &'a SpiffeId, address: SocketAddr) -> Answer<'a, ()> {
        Box::pin(self.register_at("", id, address))
    }

    fn withdraw_endpoint<'a>(&'a self, id: &'a SpiffeId, address: SocketAddr) -> Answer<'a, bool> {
        Box::pin(self.withdraw_at("", id, address))
    }

    /// What a node has said of the same address is another registration.
    fn has_endpoint(&self, id: &SpiffeId, address: SocketAddr) -> bool {
        self.has_endpoint_of("", id, address)
    }
}
