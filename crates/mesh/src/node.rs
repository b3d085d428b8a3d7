//! Nodes without a store of their own: an agent on each asks the control plane for what its
//! workloads get.
//!
//! ```text
//! agent ── mutual TLS by pinned keys ── listener ─ node? ─ registered for it? ─ signs
//!   key of its own                            attested with a token, a certificate or
//!   workloads' keys stay here                 a token of Kubernetes
//! ```
//!
//! Both ends are known by their keys, not by certificates with a time: a clock that is wrong by
//! hours keeps nobody out. A node is attested for a while, and prolongs that while it is there.
//!
//! What it must never do: sign for a workload that is not registered for the node that asks, take
//! an address for one, or take a private key of a workload over the wire.

mod allowances;
mod connection_limits;
mod documents;
mod endpoints;
mod key;
mod listener;
mod messages;
mod proof;
mod register;
mod remote;
#[cfg(test)]
mod tests;

pub use allowances::Allowances;
pub use key::{NodeKey, Pin};
pub use listener::{NodeListener, NodeWorld};
pub use proof::{Kubernetes, Proof, Provers};
pub use register::{
    Evicted, JoinToken, NodeRecord, all_kept_out, evict, make_token, nodes, readmit, server_pin,
};
pub(crate) use register::{evicted, is_kept_out};
pub use remote::{Prover, Remote};

/// How long a node that is attested stays so without a word from it.
pub const NODE_LIFETIME: std::time::Duration = std::time::Duration::from_secs(24 * 3600);
/// Longest name of a node, bytes.
pub const NODE_NAME_BYTES_MAX: usize = 255;

/// Whether a text can name a node: what `workloads.NAME.node` may say.
pub fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    (1..=NODE_NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(fits)
}
