//! Counts by [`ClientNetwork`], exact over all cores.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::ClientNetwork;

type Counts = HashMap<ClientNetwork, u64>;

/// Counts by network; one whose count is 0 takes no memory.
#[derive(Debug, Default)]
pub(crate) struct ByNetwork([Mutex<Counts>; 16]);

impl ByNetwork {
    /// Counts so many more, unless that would be more than `most`. How many there are then.
    pub(crate) fn add(&self, network: ClientNetwork, more: u64, most: u64) -> Option<u64> {
        let mut counts = self.counts(network);
        let count = counts.get(&network).copied().unwrap_or(0).saturating_add(more);
        if count > most {
            return None;
        }
        counts.insert(network, count);
        Some(count)
    }

    /// Takes back what [`Self::add`] has counted.
    pub(crate) fn take_back(&self, network: ClientNetwork, less: u64) {
        let mut counts = self.counts(network);
        if let Some(count) = counts.get_mut(&network) {
            *count = count.saturating_sub(less);
            if *count == 0 {
                counts.remove(&network);
            }
        }
    }

    fn counts(&self, network: ClientNetwork) -> MutexGuard<'_, Counts> {
        let [.., last] = match network {
            ClientNetwork::V4(address) => u64::from(address.to_bits()).to_be_bytes(),
            ClientNetwork::V6(upper) => upper.to_be_bytes(),
        };
        let [first, ..] = &self.0;
        let shard = self.0.get(usize::from(last & 15)).unwrap_or(first);
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|counts| counts.lock().unwrap().is_empty())
    }
}
