//! Where services are: the addresses at which they themselves say that they listen, each under the
//! SPIFFE ID that whoever said it was attested to have.
//!
//! ```text
//! bastide run ── Workload API ─ attested as orders? ─ Directory ─ lease in the store
//!   on a node ── agent ──── listener ─ registered for that node? ─┘       │
//! callers     ◄─ whole at first, then what is different ◄─────────────────┘
//! ```
//!
//! An address is a lease: it ends when it is not renewed. Whoever looks services up keeps what was
//! told last while nobody tells anything.
//!
//! What it must never do: take an address for a service whose identity the caller does not hold, or
//! be believed. It says where to knock; the certificate says who opens.

mod held;
mod keep;
mod local_address;
mod messages;
mod table;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use keys::SecureRandom;
use model::{SpiffeId, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::backoff;
use crate::issuer::Answer;
pub(crate) use held::Held;
pub(crate) use keep::{Listed, withdraw_node};
pub use local_address::LocalAddress;
pub(crate) use messages::{ServiceAt, apply, differences};

/// How long an address stays registered after the last word from there.
pub const LEASE: Duration = Duration::from_secs(30);
/// How often that word is said, a fifth more or less.
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// How long everybody has to say it again after a control plane, or the way to it, was away.
pub const GRACE: Duration = Duration::from_secs(60);
/// How long what was told last is used while nobody tells anything.
pub const KEPT_MAX: Duration = Duration::from_secs(3600);
/// Most addresses of one service.
pub const PER_SERVICE_MAX: usize = 256;
/// Most addresses on one node.
pub const PER_NODE_MAX: usize = 1_000;
/// Most addresses in all.
pub const ALL_MAX: usize = 20_000;
/// Longest address that is read, bytes: an IPv6 one with its port has 47.
pub const ADDRESS_BYTES_MAX: usize = 64;

/// Services and their addresses at a moment; none has an empty set.
pub type Endpoints = BTreeMap<SpiffeId, BTreeSet<SocketAddr>>;

/// An address that is registered, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registration {
    /// The service that listens there.
    pub id: SpiffeId,
    /// Where.
    pub address: SocketAddr,
    /// The node that says so; empty: beside the control plane.
    pub node: String,
    /// Since when.
    pub since: Timestamp,
    /// When that was said last.
    pub renewed: Timestamp,
}

impl Registration {
    /// When it ends, unless it is renewed.
    pub fn ends(&self) -> Timestamp {
        self.renewed.plus(LEASE)
    }
}

/// Where services are registered and looked up: the store of this process, or the control plane that
/// an agent asks.
pub trait Directory: Send + Sync {
    /// The address at which this machine is reached by others; `None`: nobody says.
    fn here(&self) -> Option<IpAddr>;

    /// What is registered, and each change of it.
    fn watch_endpoints(&self) -> watch::Receiver<Arc<Endpoints>>;

    /// Registers an address of a workload, or renews that.
    fn register_endpoint<'a>(&'a self, id: &'a SpiffeId, address: SocketAddr) -> Answer<'a, ()>;

    /// Takes an address of a workload out; `false`: it was not there.
    fn withdraw_endpoint<'a>(&'a self, id: &'a SpiffeId, address: SocketAddr) -> Answer<'a, bool>;

    /// Whether an address of a workload is there.
    fn has_endpoint(&self, id: &SpiffeId, address: SocketAddr) -> bool {
        self.watch_endpoints().borrow().get(id).is_some_and(|known| known.contains(&address))
    }
}

/// An address that can be registered: what was said, with the machine's own address where every
/// address of it is meant.
///
/// # Errors
/// What is wrong with it, for whoever said it.
pub fn advertised(said: SocketAddr, here: Option<IpAddr>) -> Result<SocketAddr, &'static str> {
    let mut address = said;
    if said.ip().is_unspecified() {
        // Who listens at 0.0.0.0 is not reached by IPv6.
        let here = here.map(|here| here.to_canonical());
        let here = here.filter(|here| said.is_ipv6() || here.is_ipv4());
        let here = here.ok_or(
            "it is every address of this machine, and which of them others reach is not known, or is of IPv6 \
             where 0.0.0.0 is of IPv4 alone: name one by --advertise, or in `mesh.agents` of the control plane",
        )?;
        address.set_ip(here);
    }
    address.set_ip(address.ip().to_canonical());
    let beyond_the_link = match address {
        SocketAddr::V4(v4) => !v4.ip().is_link_local() && !v4.ip().is_broadcast(),
        SocketAddr::V6(v6) => !v6.ip().is_unicast_link_local() && v6.scope_id() == 0 && v6.flowinfo() == 0,
    };
    match address {
        address if address.port() == 0 => Err("port 0 is reached by nobody: advertise the port"),
        address if address.ip().is_multicast() || !beyond_the_link => {
            Err("an address of the link or of many cannot be advertised")
        }
        address => Ok(address),
    }
}

/// The address that a text says.
///
/// # Errors
/// What was expected.
pub fn parse(text: &str) -> Result<SocketAddr, &'static str> {
    let address =
        Some(text).filter(|text| text.len() <= ADDRESS_BYTES_MAX).and_then(|text| text.parse().ok());
    address.ok_or("expected an address and a port such as 10.0.0.5:7001")
}

/// How long until the next word, or the next attempt after so many failures in a row.
pub fn pause_before_renewal(failures: u32, random: &dyn SecureRandom) -> Duration {
    match failures {
        0 => RENEW_EVERY / 1_000 * (800 + backoff::below(400, random)),
        failures => backoff::after(failures, random).min(RENEW_EVERY),
    }
}
