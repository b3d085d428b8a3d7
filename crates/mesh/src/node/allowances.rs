//! What each node may have done at the control plane, however many keys and connections it has: a node that is no
//! longer itself takes no more than its own share of the signatures, the store and the audit log.

use std::net::SocketAddr;
use std::sync::Arc;

use model::ClientNetwork;
use model::seldom::Rate;

use crate::allowance::{Allowance, Asked, ByKind};

/// Documents: many times over what the workloads of a node need.
const DOCUMENTS: Rate = Rate { at_once: 2_000, every_ms: 2 };
/// Words on addresses: twice as many as a node has that registers as many as it may.
const RENEWALS: Rate = Rate { at_once: 2_000, every_ms: 5 };
/// Of these, addresses that are registered anew or withdrawn, of which every agent is told.
const CHANGES: Rate = Rate { at_once: 2_000, every_ms: 50 };
/// Refusals that are written down.
const REFUSALS: Rate = Rate { at_once: 10, every_ms: 1_000 };

/// Of whom a refusal is written down.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Source {
    Node(String),
    Network(ClientNetwork),
}

/// The allowances of all nodes, by name.
#[derive(Clone, Debug)]
pub struct Allowances(Arc<OfNodes>);

#[derive(Debug)]
struct OfNodes {
    asked: ByKind<String>,
    refusals: Allowance<Source>,
}

impl Default for Allowances {
    fn default() -> Self {
        Self::of(ByKind::new(DOCUMENTS, RENEWALS, CHANGES))
    }
}

impl Allowances {
    fn of(asked: ByKind<String>) -> Self {
        Self(Arc::new(OfNodes { asked, refusals: Allowance::new(REFUSALS) }))
    }

    /// As [`ByKind::few`] says.
    #[cfg(test)]
    pub(super) fn few(at_once: u64) -> Self {
        Self::of(ByKind::few(at_once))
    }

    /// Takes one of what a node may have; `false`: there is none left now.
    pub(super) fn take(&self, node: &str, asked: Asked) -> bool {
        self.0.asked.take(node.to_owned(), asked)
    }

    /// Whether a refusal is written down; then how many from there were not, before it. Whoever is no node (an empty
    /// name) is known by the network.
    pub(super) fn refusal(&self, node: &str, from: SocketAddr) -> Option<u64> {
        let source = match node {
            "" => Source::Network(ClientNetwork::of(from.ip())),
            node => Source::Node(node.to_owned()),
        };
        self.0.refusals.take(source)
    }
}
