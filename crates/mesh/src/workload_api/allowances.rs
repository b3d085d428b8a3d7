//! What each workload may have done at this socket, however many processes and connections it has.

use std::sync::Arc;

use model::SpiffeId;
use model::seldom::Rate;

use super::Refused;
use crate::allowance::Allowance;

/// Documents: each is an event of the audit log, and a token a signature. A thousand processes of one workload
/// may start together, and libraries ask for a token with each call.
const DOCUMENTS: Rate = Rate { at_once: 1_000, every_ms: 2 };
/// Renewals of its addresses, each of which is written to the store: more than all instances that one service may
/// have.
const RENEWALS: Rate = Rate { at_once: 512, every_ms: 25 };
/// Addresses that it registers anew or withdraws, of which everybody who looks services up is told.
const CHANGES: Rate = Rate { at_once: 512, every_ms: 200 };

/// The allowances of all workloads.
#[derive(Clone, Debug)]
pub struct Allowances(Arc<ByKind>);

#[derive(Debug)]
struct ByKind {
    documents: Allowance<SpiffeId>,
    renewals: Allowance<SpiffeId>,
    changes: Allowance<SpiffeId>,
}

impl Default for Allowances {
    fn default() -> Self {
        Self::of(DOCUMENTS, RENEWALS, CHANGES)
    }
}

impl Allowances {
    fn of(documents: Rate, renewals: Rate, changes: Rate) -> Self {
        let [documents, renewals, changes] = [documents, renewals, changes].map(Allowance::new);
        Self(Arc::new(ByKind { documents, renewals, changes }))
    }

    /// So many of each, and none in their place for as long as a test lasts.
    #[cfg(test)]
    pub(super) fn few(at_once: u64) -> Self {
        let rate = Rate { at_once, every_ms: 3_600_000 };
        Self::of(rate, rate, rate)
    }

    /// A document of a workload is to be given.
    ///
    /// # Errors
    /// [`Refused::Exhausted`].
    pub(super) fn document(&self, id: &SpiffeId) -> Result<(), Refused> {
        taken(&self.0.documents, id, "documents")
    }

    /// An address of a workload is to be renewed.
    ///
    /// # Errors
    /// [`Refused::Exhausted`].
    pub(super) fn renewal(&self, id: &SpiffeId) -> Result<(), Refused> {
        taken(&self.0.renewals, id, "renewals of addresses")
    }

    /// An address of a workload is to be registered or withdrawn.
    ///
    /// # Errors
    /// [`Refused::Exhausted`].
    pub(super) fn change(&self, id: &SpiffeId) -> Result<(), Refused> {
        taken(&self.0.changes, id, "registrations of addresses")
    }
}

fn taken(allowance: &Allowance<SpiffeId>, id: &SpiffeId, what: &str) -> Result<(), Refused> {
    match allowance.take(id.clone()) {
        Some(_) => Ok(()),
        None => Err(Refused::Exhausted(format!("{id} asks for too many {what}"))),
    }
}
