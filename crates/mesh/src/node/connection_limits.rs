//! Who may stay connected to the listener for agents, and how many: strangers have places of their own, for as
//! long as it takes to be attested, and no other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use model::ClientNetwork;
use store::Store;

use super::key::Pin;
use super::register;
use crate::quota::{Quota, Slot};

/// Most connections of attested nodes at once.
const AGENTS_MAX: usize = 10_000;
/// Most of one key.
const AGENTS_PER_KEY_MAX: usize = 8;
/// Most handshakes at once.
const HANDSHAKES_MAX: usize = 4_096;
/// Most connections at once of whoever is not attested.
const STRANGERS_MAX: usize = 1_024;
/// Most of those, and most handshakes, of one subscriber.
pub(super) const PER_NETWORK_MAX: usize = 64;
/// Who is not attested after so many seconds has to go.
const STRANGER_SECONDS_MAX: usize = 10;
/// How often an attested node that is connected is asked for.
const LOOK_EVERY: Duration = Duration::from_secs(30);

pub(super) struct ConnectionLimits {
    store: Store,
    agents: Arc<Quota<Pin>>,
    handshakes: Arc<Quota<ClientNetwork>>,
    strangers: Arc<Quota<ClientNetwork>>,
}

impl ConnectionLimits {
    pub(super) fn new(store: Store) -> Self {
        Self {
            store,
            agents: Quota::new(AGENTS_PER_KEY_MAX, AGENTS_MAX),
            handshakes: Quota::new(PER_NETWORK_MAX, HANDSHAKES_MAX),
            strangers: Quota::new(PER_NETWORK_MAX, STRANGERS_MAX),
        }
    }

    /// A place for a handshake; `None`: there is none.
    pub(super) fn handshake(&self, from: SocketAddr) -> Option<Slot<ClientNetwork>> {
        self.handshakes.take(ClientNetwork::of(from.ip()))
    }

    /// Takes the place of whoever has this key, and ends when there is none, or none any more.
    pub(super) async fn stay(self: Arc<Self>, pin: Pin, from: SocketAddr) {
        if !is_attested(&self.store, pin).await.unwrap_or(false) {
            let Some(place) = self.strangers.take(ClientNetwork::of(from.ip())) else {
                tracing::warn!(%from, "mesh: too many connections of nodes that are not attested");
                return;
            };
            // Held also when it hangs up: who comes anew each time has no more turns than who stays.
            let met = tokio::spawn(met(place, self.store.clone(), pin));
            if !met.await.unwrap_or(false) {
                tracing::debug!(%from, "mesh: an agent was not attested in time");
                return;
            }
        }
        let Some(_place) = self.agents.take(pin) else {
            tracing::warn!(%from, "mesh: too many connections of agents");
            return;
        };
        // A store that does not answer takes nobody's attestation back.
        while is_attested(&self.store, pin).await.unwrap_or(true) {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// Whether the node of this key is attested in time. Holds the place until then.
async fn met(_place: Slot<ClientNetwork>, store: Store, pin: Pin) -> bool {
    for _ in 0..STRANGER_SECONDS_MAX {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if is_attested(&store, pin).await.unwrap_or(false) {
            return true;
        }
    }
    false
}

/// `None`: the store does not say.
async fn is_attested(store: &Store, pin: Pin) -> Option<bool> {
    register::find(store, pin).await.ok().map(|found| found.is_some())
}
