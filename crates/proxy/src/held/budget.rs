//! How much of all bodies may be held at the same time: in the process, and of one client's
//! network. Each body has its own limit besides, but there are many.
//!
//! Three rules:
//! - A network may hold no more than is free then (`held_bytes_max` less what is held), and no more
//!   than `held_bytes_per_address_max`. One alone may take half, `n` of them an `n+1`-th each, and
//!   as much stays free: who holds little has its place whoever else holds what they can.
//! - So half of all is the most that one body can be given. What its route permits has to fit
//!   there, which is looked at when a configuration is loaded; what does not is too large, and
//!   nobody is told to try again.
//! - What counts is the memory: bytes, and what it takes to keep them in pieces ([`cost`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use model::ClientNetwork;

use super::BLOCK_BYTES;
use crate::by_network::ByNetwork;
use crate::exchange::{BodyError, Frame};
use crate::limits::{Hits, Limits};

/// What is counted in one step, in bytes: a body that trickles is not counted at each byte.
const STEP_BYTES: u64 = 4 * 1024;
/// So much of a body that has come at once is not counted, in bytes: it is judged before anybody is
/// waited for, and takes its turn on the core.
pub(super) const UNCOUNTED_BYTES_MAX: usize = 16 * 1024;
/// In so many pieces a body is kept as it came; more are put together.
pub(crate) const PIECES_MAX: usize = 128;

/// What it takes to keep so many bytes where there is room for so many pieces.
pub(crate) fn cost<Piece>(bytes: usize, room: usize) -> usize {
    bytes.saturating_add(room.saturating_mul(size_of::<Piece>()))
}

/// The most that a body of so many bytes counts as, in whatever pieces it comes.
pub fn held_bytes(body_bytes: u64) -> u64 {
    let (block, piece) = (BLOCK_BYTES as u64, size_of::<Frame>() as u64);
    // A list has room for twice as many as it has, and the last block need not be full.
    let pieces = (PIECES_MAX as u64 + 2 + body_bytes / block).saturating_mul(2);
    let besides = block + pieces.saturating_mul(piece) + STEP_BYTES;
    body_bytes.saturating_add(besides)
}

/// The most that one body may count as.
pub fn held_bytes_of_one_max(limits: &Limits) -> u64 {
    limits.held_bytes_per_address_max.min(limits.held_bytes_max / 2)
}

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
    /// known; else it is a network of its own.
    pub(crate) fn share(&self, limits: &Limits, network: Option<ClientNetwork>) -> HeldShare<'_> {
        HeldShare {
            budget: self,
            network,
            total_max: limits.held_bytes_max,
            network_max: limits.held_bytes_per_address_max,
            one_max: held_bytes_of_one_max(limits),
            counted: 0,
        }
    }

    /// Counts so much more for a network, or says which limit that would pass.
    fn add(&self, more: u64, share: &HeldShare<'_>) -> Result<(), &'static str> {
        let of_network = match share.network {
            Some(network) => {
                self.by_network.add(network, more, share.network_max).ok_or("held_bytes_per_address_max")?
            }
            None => share.counted.saturating_add(more),
        };
        let fits = |held: u64| {
            let held = held.checked_add(more)?;
            (of_network <= share.total_max.checked_sub(held)?).then_some(held)
        };
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

    #[cfg(test)]
    pub(crate) fn bytes(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// What one body takes of the budget; it is free again when this is dropped.
#[derive(Debug)]
pub struct HeldShare<'b> {
    budget: &'b HeldBudget,
    network: Option<ClientNetwork>,
    total_max: u64,
    network_max: u64,
    one_max: u64,
    counted: u64,
}

impl HeldShare<'_> {
    pub(crate) fn network(&self) -> Option<ClientNetwork> {
        self.network
    }

    /// Counts up to `bytes` that are held of this body.
    ///
    /// # Errors
    /// There is no room for as many now ([`BodyError::NoRoom`]), or there never is
    /// ([`BodyError::TooLarge`]).
    pub(crate) fn hold(&mut self, bytes: usize) -> Result<(), BodyError> {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        if bytes <= self.counted {
            return Ok(());
        }
        let step = bytes.checked_next_multiple_of(STEP_BYTES).unwrap_or(bytes);
        if step > self.one_max {
            return Err(BodyError::TooLarge { limit: self.one_max });
        }
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
            Err(BodyError::TooLarge { .. }) => Some("too large"),
            _ => None,
        }
    }

    fn limits(steps: u64, steps_per_address: u64) -> Limits {
        Limits {
            held_bytes_max: steps * STEP_BYTES,
            held_bytes_per_address_max: steps_per_address * STEP_BYTES,
            ..Limits::default()
        }
    }

    #[test]
    fn boundary_held_bytes_max() {
        let hits = Arc::new(Hits::default());
        let budget = HeldBudget::new(Arc::clone(&hits));
        let limits = limits(8, 3);
        let [mut one, mut other] = [1, 2].map(|host| budget.share(&limits, network(host)));
        let mut mine = budget.share(&limits, network(1));
        one.hold(STEP).unwrap();
        mine.hold(2 * STEP).unwrap();
        // Another body of the same network has no room, and what is there stays.
        assert_eq!(refused(one.hold(STEP + 1)), Some("held_bytes_per_address_max"));
        one.hold(STEP).unwrap();
        // Two of it, and then three are free; with one more of it there would be two for three.
        other.hold(2 * STEP).unwrap();
        assert_eq!(refused(other.hold(2 * STEP + 1)), Some("held_bytes_max"));
        // What was refused is not counted: neither in all nor for the network.
        mine.release();
        other.hold(3 * STEP).unwrap();
        let mut another = budget.share(&limits, network(2));
        assert_eq!(refused(another.hold(1)), Some("held_bytes_per_address_max"));
        // Four are free: whoever is nobody's has as much as is left then.
        let mut nobodys = budget.share(&limits, None);
        assert_eq!(refused(nobodys.hold(2 * STEP + 1)), Some("held_bytes_max"));
        nobodys.hold(2 * STEP).unwrap();
        drop((one, mine, other, another, nobodys));
        assert!(budget.is_empty());
        let counted = |name| hits.iter().find(|(row, _)| row.name == name).map(|(_, count)| count);
        assert_eq!(counted("held_bytes_per_address_max"), Some(2));
        assert_eq!(counted("held_bytes_max"), Some(2));
    }

    #[test]
    fn what_would_never_fit_is_too_large_and_not_told_to_come_again() {
        for (steps, per_address, most) in [(8, 8, 4), (8, 3, 3), (9, 9, 4)] {
            let budget = HeldBudget::new(Arc::default());
            let mut alone = budget.share(&limits(steps, per_address), network(1));
            alone.hold(most * STEP).unwrap();
            assert_eq!(refused(alone.hold(most * STEP + 1)), Some("too large"), "{steps} {per_address}");
            let mut nobodys = HeldBudget::share(&budget, &limits(steps, per_address), None);
            assert_eq!(refused(nobodys.hold(usize::MAX)), Some("too large"));
        }
    }

    #[test]
    fn however_many_networks_hold_all_they_can_another_has_room_for_a_body() {
        let limits = Limits::default();
        let budget = HeldBudget::new(Arc::default());
        let mut greedy = Vec::new();
        // The short bodies of a fleet, each network with as many as it is given.
        for host in 0..64 {
            loop {
                let mut share = budget.share(&limits, network(host));
                if share.hold(64 * 1024).is_err() {
                    break;
                }
                greedy.push(share);
            }
            let mut honest = budget.share(&limits, network(200));
            assert!(honest.hold(16 * 1024).is_ok(), "{host} before");
        }
        // One that came early does not have all: later ones are given something too.
        let held = budget.bytes();
        assert!(held < limits.held_bytes_max, "{held}");
    }
}
