//! What each workload may have done at this socket, however many processes and connections it has.

use std::sync::Arc;

use model::SpiffeId;
use model::seldom::Rate;

use super::Refused;
use crate::allowance::{Asked, ByKind};

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
pub struct Allowances(Arc<ByKind<SpiffeId>>);

impl Default for Allowances {
    fn default() -> Self {
        Self(Arc::new(ByKind::new(DOCUMENTS, RENEWALS, CHANGES)))
    }
}

impl Allowances {
    /// As [`ByKind::few`] says.
    #[cfg(test)]
    pub(super) fn few(at_once: u64) -> Self {
        Self(Arc::new(ByKind::few(at_once)))
    }

    /// Takes one of what a workload may have.
    ///
    /// # Errors
    /// [`Refused::Exhausted`].
    pub(super) fn take(&self, id: &SpiffeId, asked: Asked) -> Result<(), Refused> {
        match self.0.take(id.clone(), asked) {
            true => Ok(()),
            false => Err(Refused::Exhausted(format!("{id} asks for too many {asked}"))),
        }
    }
}
