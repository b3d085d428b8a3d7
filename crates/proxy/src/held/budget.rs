//! How much of all bodies may be held at the same time: in the process, and of one client's
//! network. Each body has its own limit besides, but there are many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::ClientNetwork;

use crate::by_network::ByNetwork;
use crate::exchange::BodyError;
use crate::limits::{Hits, Limits};

/// What is counted in one step, in bytes: a body that trickles is not counted at each byte.
const STEP_BYTES: u64 = 4 * 1024;
/// So much of a body that has come at once is not counted, in bytes: it is judged before anybody is
/// waited for, and takes its turn on the core.
pub(super) const UNCOUNTED_BYTES_MAX: usize = 16 * 1024;

/// Bytes of bodies that are held, over all cores.
#[derive(Debug)]
pub struct HeldBudget {
    total: AtomicU64,
    by_network: ByNetwork,
    hits: Arc<Hits>,
}

impl HeldBudget {
    pub(crate) fn new(hits: Arc<Hits>) -> Self {
        Self { total: AtomicU64::new(0), by_network: ByNetwork::default(), hits }
    }

    /// The share of one body, of which nothing is held yet. `network`: whose it is, where that is
    /// known.
    pub(crate) fn share(&self, limits: &Limits, network: Option<ClientNetwork>) -> HeldShare<'_> {
        let (total_max, network_max) = (limits.held_bytes_max, limits.held_bytes_per_address_max);
        HeldShare { budget: self, network, total_max, network_max, counted: 0 }
    }

    /// Counts so much more for a network, or says which limit that would pass.
    fn add(&self, more: u64, share: &HeldShare<'_>) -> Result<(), &'static str> {
        if let Some(network) = share.network
            && !self.by_network.add(network, more, share.network_max)
        {
            return Err("held_bytes_per_address_max");
        }
        let fits = |held: u64| held.checked_add(more).filter(|held| *held <= share.total_max);
        if self.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_err() {
            if let Some(network) = share.network {
                self.by_network.take_back(network, more);
            }
            return Err("held_bytes_max");
        }
        Ok(())
    }

    fn take_back(&self, less: u64, network: Option<ClientNetwork>) {
        self.total.fetch_sub(less, Ordering::Relaxed);
        if let Some(network) = network {
            self.by_network.take_back(network, less);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.total.load(Ordering::Relaxed) == 0 && self.by_network.is_empty()
    }
}

/// What one body takes of the budget; it is free again when this is dropped.
#[derive(Debug)]
pub struct HeldShare<'b> {
    budget: &'b HeldBudget,
    network: Option<ClientNetwork>,
    total_max: u64,
    network_max: u64,
    counted: u64,
}

impl HeldShare<'_> {
    pub(crate) fn network(&self) -> Option<ClientNetwork> {
        self.network
    }

    /// Counts up to `bytes` that are held of this body.
    ///
    /// # Errors
    /// There is no room for as many: [`BodyError::NoRoom`].
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), BodyError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if bytes <= self.counted {
            return Ok(());
        }
        let step = bytes.checked_next_multiple_of(STEP_BYTES).unwrap_or(bytes);
        let added = self.budget.add(step - self.counted, self);
        added.map_err(|limit| {
            self.budget.hits.count(limit);
            BodyError::NoRoom { limit }
        })?;
        self.counted = step;
        Ok(())
    }

    /// Nothing of the body is held any more.
    pub(crate) fn release(&mut self) {
        if self.counted > 0 {
            self.budget.take_back(std::mem::take(&mut self.counted), self.network);
        }
    }
}

impl Drop for HeldShare<'_> {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: usize = STEP_BYTES as usize;

    fn network(host: u8) -> Option<ClientNetwork> {
        Some(ClientNetwork::of([10, 0, 0, host].into()))
    }

    fn refused(result: Result<(), BodyError>) -> Option<&'static str> {
        match result {
            Err(BodyError::NoRoom { limit }) => Some(limit),
            _ => None,
        }
    }

    #[test]
    fn boundary_held_bytes_max() {
        let hits = Arc::new(Hits::default());
        let budget = HeldBudget::new(Arc::clone(&hits));
        let limits = Limits {
            held_bytes_max: 3 * STEP_BYTES,
            held_bytes_per_address_max: 2 * STEP_BYTES,
            ..Limits::default()
        };
        let [mut one, mut other] = [1, 2].map(|host| budget.share(&limits, network(host)));
        let mut mine = budget.share(&limits, network(1));
        one.hold(STEP).unwrap();
        mine.hold(STEP).unwrap();
        // Another body of the same network has no room, and what is there stays.
        assert_eq!(refused(one.hold(STEP + 1)), Some("held_bytes_per_address_max"));
        one.hold(STEP).unwrap();
        other.hold(STEP).unwrap();
        assert_eq!(refused(other.hold(STEP + 1)), Some("held_bytes_max"));
        // What was refused is not counted: neither in all nor for the network.
        mine.release();
        other.hold(STEP + 1).unwrap();
        assert_eq!(refused(other.hold(2 * STEP + 1)), Some("held_bytes_per_address_max"));
        let mut nobodys = budget.share(&limits, None);
        assert_eq!(refused(nobodys.hold(1)), Some("held_bytes_max"));
        drop(one);
        nobodys.hold(STEP).unwrap();
        assert_eq!(refused(nobodys.hold(usize::MAX)), Some("held_bytes_max"));
        drop((mine, other, nobodys));
        assert!(budget.is_empty());
        let counted = |name| hits.iter().find(|(row, _)| row.name == name).map(|(_, count)| count);
        assert_eq!(counted("held_bytes_per_address_max"), Some(2));
        assert_eq!(counted("held_bytes_max"), Some(3));
    }
}
