//! Who is known: the workloads that the configuration declares, and those that were registered
//! since, which are kept in the store. Every process on the store follows them.
//!
//! INVARIANT: the configuration wins. A registered workload with a name or a SPIFFE ID that it
//! declares is nobody.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use model::SpiffeId;
use store::{Expect, Key, Record, Transaction, Value, Version};
use tokio::sync::watch;

use crate::directory::LocalAddress;
use crate::error::Error;
use crate::renew::renew;
use crate::revocation::{self, Revocation, Target};
use crate::trust_domain::TrustDomain;
use crate::workload::{WORKLOADS_MAX, Workload, Workloads};

/// Most workloads that are registered beside those of the configuration.
pub const REGISTERED_MAX: usize = WORKLOADS_MAX;
/// Most that are read: several processes may register the last one at the same time.
const READ_MAX: usize = REGISTERED_MAX + 1_000;

/// What the configuration declares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Its workloads.
    pub workloads: Workloads,
    /// Who the process itself is; `None`: nobody.
    pub own: Option<SpiffeId>,
    /// The address at which this machine is reached by others.
    pub here: LocalAddress,
}

impl Declared {
    /// Why a workload cannot be registered beside these; `None`: it can.
    pub fn claims(&self, other: &Workload) -> Option<String> {
        let Workload { name, id, .. } = other;
        let mut list = self.workloads.list.iter();
        if let Some(rival) = list.find(|one| one.name == *name || one.id == *id) {
            let what = if rival.name == *name { String::new() } else { format!("{id} is ") };
            return Some(format!(
                "{what}the workload {:?} of the configuration: change it in `mesh.workloads`",
                rival.name
            ));
        }
        let own = self.own.as_ref().filter(|own| *own == id)?;
        Some(format!("{own} is the control plane itself, `mesh.identity` of the configuration"))
    }
}

#[derive(Default)]
struct Parts {
    declared: Declared,
    registered: Vec<Workload>,
}

/// Everybody who is known at a moment.
#[derive(Default)]
pub(crate) struct Registry {
    parts: Mutex<Parts>,
    everywhere: watch::Sender<Arc<Workloads>>,
    here: watch::Sender<Arc<Workloads>>,
}

impl Registry {
    fn change(&self, change: impl FnOnce(&mut Parts)) {
        // Held while others are told: what is told last is the newest.
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        let Parts { declared, registered } = &*parts;
        let mut list = declared.workloads.list.clone();
        list.extend(registered.iter().filter(|one| declared.claims(one).is_none()).cloned());
        let known = Workloads { list };
        renew(&self.here, known.on(None));
        renew(&self.everywhere, known);
    }

    /// What the configuration says of this machine.
    pub(crate) fn here(&self) -> Option<IpAddr> {
        let here = self.parts.lock().unwrap_or_else(PoisonError::into_inner).declared.here;
        here.address()
    }

    fn take(&self, registered: Vec<Workload>) {
        self.change(|parts| parts.registered = registered);
    }

    /// Where it stands that somebody is this workload, as far as this process knows; `None`: in
    /// the configuration.
    fn places(&self, id: &SpiffeId) -> Option<Vec<Key>> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let Parts { declared, registered } = &*parts;
        let is_own = declared.own.as_ref() == Some(id);
        if is_own || declared.workloads.list.iter().any(|one| one.id == *id) {
            return None;
        }
        let of_it = registered.iter().filter(|one| one.id == *id);
        Some(of_it.map(|one| place(&one.name)).collect())
    }
}

/// Below it, every registered workload.
pub(crate) fn all() -> Key {
    Key::new("mesh").name("workloads")
}

fn place(name: &str) -> Key {
    all().hidden(name)
}

impl TrustDomain {
    /// What the configuration declares from now on.
    pub fn declare(&self, declared: Declared) {
        self.registry().change(|parts| parts.declared = declared);
    }

    /// Everybody who is known, on whichever node, and each change of that.
    pub fn workloads(&self) -> watch::Receiver<Arc<Workloads>> {
        self.registry().everywhere.subscribe()
    }

    /// Who is known beside the control plane, and each change of that.
    pub fn workloads_here(&self) -> watch::Receiver<Arc<Workloads>> {
        self.registry().here.subscribe()
    }

    /// The registered workloads, those that are nobody too, by name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn registrations(&self) -> Result<Vec<(Workload, Version)>, Error> {
        let records = self.store().scan_all(&all(), READ_MAX).await?;
        let read = |record: &Record| Ok((record.json()?, record.version));
        let mut list: Vec<(Workload, Version)> = records.iter().map(read).collect::<Result<_, Error>>()?;
        list.sort_by(|(one, _), (other, _)| one.name.cmp(&other.name));
        Ok(list)
    }

    /// The registered workload of this name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn registration(&self, name: &str) -> Result<Option<(Workload, Version)>, Error> {
        let record = self.store().get(&place(name)).await?;
        record.map(|record| Ok((record.json()?, record.version))).transpose()
    }

    pub(crate) async fn take_registered(&self) -> Result<(), Error> {
        let _turn = self.turn_of_registered().await;
        let list = self.registrations().await?;
        self.registry().take(list.into_iter().map(|(workload, _)| workload).collect());
        Ok(())
    }

    /// Registers a workload under its name, or says anew what it is. It counts when this returns.
    ///
    /// # Errors
    /// [`Error::Registered`]: it cannot be. What is there is not as expected; the store fails.
    pub async fn register(&self, workload: &Workload, expect: Expect) -> Result<Version, Error> {
        let refused = |why: String| Err(Error::Registered(why));
        self.check_own(&workload.id)?;
        if workload.conditions.is_empty() {
            return refused(format!(
                "the workload {:?} has no condition: nobody could be it; say what its process is, such as its uid or path",
                workload.name
            ));
        }
        let before = self.registrations().await?;
        match before.iter().find(|(one, _)| one.name == workload.name) {
            // Whoever had the other name would keep it until it ends.
            Some((one, _)) if one.id != workload.id => {
                return refused(format!(
                    "the workload {:?} is {}: remove it before another takes its name",
                    one.name, one.id
                ));
            }
            None if before.len() >= REGISTERED_MAX => {
                return refused(format!("{REGISTERED_MAX} workloads are registered, and more cannot be"));
            }
            _ => {}
        }
        let value = Value::from_json(workload)?;
        let version = self.store().put(place(&workload.name), value, None, expect).await?;
        self.take_registered().await?;
        Ok(version)
    }

    /// The registration by which somebody may be this workload now; `None`: none is needed.
    ///
    /// # Errors
    /// [`Error::Revoked`]: it was removed, though who was found to be it before may not know yet,
    /// and this process neither. The store fails.
    pub(crate) async fn grounds(&self, id: &SpiffeId) -> Result<Option<(Key, Version)>, Error> {
        let Some(places) = self.registry().places(id) else { return Ok(None) };
        for place in &places {
            if let Some(record) = self.store().get(place).await?
                && record.json::<Workload>()?.id == *id
            {
                return Ok(Some((record.key, record.version)));
            }
        }
        // Its removal left a word, which is lifted for whoever is registered afterwards.
        if !places.is_empty() || self.store().get(&revocation::of_identity(id)).await?.is_some() {
            return Err(Error::Revoked(format!("{id} is registered no more")));
        }
        Ok(None)
    }

    /// Lets nobody be this workload any more, and takes back what it has where nobody else is of
    /// its SPIFFE ID; `None`: there is none of this name.
    ///
    /// # Errors
    /// What is there is not as expected; the store fails.
    pub async fn unregister(&self, name: &str, expect: Expect) -> Result<Option<Workload>, Error> {
        loop {
            match self.remove(name, expect).await {
                // Whoever was of its SPIFFE ID besides is another one now: decided anew.
                Err(Error::Store(store::Error::Conflict { operation: 1, .. })) => {}
                done => return done,
            }
        }
    }

    async fn remove(&self, name: &str, expect: Expect) -> Result<Option<Workload>, Error> {
        let list = self.registrations().await?;
        let Some((workload, version)) = list.iter().find(|(one, _)| one.name == name) else {
            return Ok(None);
        };
        let expect = match expect {
            Expect::Any | Expect::Present => Expect::Version(*version),
            told => told,
        };
        let id = &workload.id;
        let other = list.iter().find(|(one, _)| one.id == *id && one.name != name);
        let declared = {
            let parts = self.registry().parts.lock().unwrap_or_else(PoisonError::into_inner);
            parts.declared.claims(workload).is_some()
        };
        let ends = other.is_none() && !declared && !self.revoked().has_identity(id);
        let mut transaction = Transaction::new().delete(place(name), expect);
        if let Some((other, version)) = other {
            // INVARIANT: of several that are removed at once, the last one takes back.
            transaction = transaction.require(place(&other.name), Expect::Version(*version));
        } else if ends {
            // From the moment at which it is gone nobody is given anything in its name, not even
            // who was found to be it just before: nor when this is lifted, see `grounds`.
            let word = Revocation::Identity { id: id.clone(), revoked: self.now(), lifted: None };
            let value = Value::from_json(&word)?;
            transaction = transaction.put(revocation::of_identity(id), value, None, Expect::Any);
        }
        self.store().commit(transaction).await?;
        self.take_registered().await?;
        if ends {
            let target = Target::Identity(id.clone());
            self.revoke(&target).await?;
            // Whoever is registered by this SPIFFE ID afterwards has done nothing.
            self.lift(&target).await?;
        }
        Ok(Some(workload.clone()))
    }
}

#[cfg(test)]
mod tests;
