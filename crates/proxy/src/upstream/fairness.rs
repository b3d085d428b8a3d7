//! Who has a pool's connections and who waits for one, by network: no network of clients keeps the
//! others from a service.
//!
//! Four rules, all of which rest while nobody waits:
//! - Whoever comes while others wait stands behind those of its network, and the networks take
//!   turns: what becomes free goes to the next one that can use it, and nobody overtakes it.
//! - When as many wait as may, the network that has most of them gives up its last for one that has
//!   fewer.
//! - An exchange that waits for its client, and has had its connection for `stalled_ms_max`, is
//!   ended when a request of a network waits that has fewer connections. Bytes that trickle prolong
//!   nothing. The oldest one of the network that has the most connections is the one.
//! - A tunnel waits for its client all the time, as nobody knows what it is for. It is ended only where
//!   its network has nothing else to give.
//!
//! So a network that waits has its connection within `stalled_ms_max`, and one round of the networks
//! that wait, unless all connections wait for the service. Looking after that costs nothing before
//! somebody waits, and then in each [`super::pool::RELIEF`] one look of each core for each
//! exchange that may be ended at once, however many wait.

mod holders;
mod queues;

use model::ClientNetwork;

pub(crate) use holders::{Holders, Holding};
pub(crate) use queues::{Displaced, Queues, Standing};

/// Nobody's, as copies of requests, are a network of their own.
pub(crate) type Network = Option<ClientNetwork>;

#[cfg(test)]
mod tests;
