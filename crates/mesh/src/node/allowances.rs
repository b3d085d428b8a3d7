//! What each node may have done at the control plane, however many keys and connections it has: a node that is no
//! longer itself takes no more than its own share of the signatures, the store and the audit log.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use model::ClientNetwork;
use model::seldom::Rate;

use crate::allowance::Allowance;

/// Documents: many times over what the workloads of a node need.
const DOCUMENTS: Rate = Rate { at_once: 2_000, every_ms: 2 };
/// Words on addresses: twice as many as a node has that registers as many as it may.
const RENEWALS: Rate = Rate { at_once: 2_000, every_ms: 5 };
/// Of these, addresses that are registered anew or withdrawn, of which every agent is told.
const CHANGES: Rate = Rate { at_once: 2_000, every_ms: 50 };
/// Refusals that are written down.
const REFUSALS: Rate = Rate { at_once: 10, every_ms: 1_000 };

/// What is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked {
    /// A certificate or a token.
    Document,
    /// That an address is registered still.
    Renewal,
    /// That an address is registered anew, or no longer.
    Change,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Document => "documents",
            Self::Renewal => "renewals of addresses",
            Self::Change => "registrations of addresses",
        })
    }
}

/// Of whom a refusal is written down.
#[derive(Debug, PartialEq, Eq, Hash)]
enum Source {
    Node(String),
    Network(ClientNetwork),
}

/// The allowances of all nodes, by name.
#[derive(Clone, Debug)]
pub struct Allowances(Arc<ByKind>);

#[derive(Debug)]
struct ByKind {
    documents: Allowance<String>,
    renewals: Allowance<String>,
    changes: Allowance<String>,
    refusals: Allowance<Source>,
}

impl Default for Allowances {
    fn default() -> Self {
        Self::of(DOCUMENTS, RENEWALS, CHANGES)
    }
}

impl Allowances {
    fn of(documents: Rate, renewals: Rate, changes: Rate) -> Self {
        let [documents, renewals, changes] = [documents, renewals, changes].map(Allowance::new);
        Self(Arc::new(ByKind { documents, renewals, changes, refusals: Allowance::new(REFUSALS) }))
    }

    /// So many of each, and none in their place for as long as a test lasts.
    #[cfg(test)]
    pub(super) fn few(at_once: u64) -> Self {
        let rate = Rate { at_once, every_ms: 3_600_000 };
        Self::of(rate, rate, rate)
    }

    /// Takes one of what a node may have; `false`: there is none left now.
    pub(super) fn take(&self, node: &str, asked: Asked) -> bool {
        let allowance = match asked {
            Asked::Document => &self.0.documents,
            Asked::Renewal => &self.0.renewals,
            Asked::Change => &self.0.changes,
        };
        allowance.take(node.to_owned()).is_some()
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
