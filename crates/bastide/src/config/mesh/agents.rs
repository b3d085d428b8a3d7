//! `mesh.agents`: where agents of other nodes are served, and how a node is attested besides by a
//! join token.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use mesh::node::{Kubernetes, Provers};

use crate::config::decoder::Decoder;
use crate::config::listen::socket_address;
use crate::config::node::Node;
use crate::config::pem;
use crate::config::schema::{Section, key};
use crate::config::values::Unfit;

/// Shortest time for which a node may be attested.
const LIFETIME_MIN: Duration = Duration::from_secs(1);

/// Where agents are served.
#[derive(Clone, Debug, PartialEq)]
pub struct Agents {
    /// The listener.
    pub listen: SocketAddr,
    /// How nodes are attested, and for how long.
    pub provers: Provers,
}

pub(in crate::config) const AGENTS: Section = Section {
    path: "mesh.agents",
    about: "Agents of other nodes: `bastide agent` there gets the documents of its node's workloads here. Mutual TLS with pinned keys. A node is attested by a join token of `bastide mesh token`, or by these.",
    short: "the listener's address: `agents: 0.0.0.0:7443`",
    keys: &[
        key("listen", "IP address with port", "", "Where they are served."),
        key(
            "lifetime",
            "duration",
            "1d",
            "How long a node stays attested without contact. Afterwards it has to be attested again.",
        ),
        key(
            "x509",
            "path of a PEM file",
            "none",
            "Authorities of nodes' certificates. A node with one is `x509/NAME`, by its common name or one DNS name.",
        ),
        key(
            "kubernetes",
            "map",
            "none",
            "A cluster whose projected tokens attest its nodes. Such a node is `kubernetes/NAME`.",
        ),
    ],
};

pub(in crate::config) const KUBERNETES: Section = Section {
    path: "mesh.agents.kubernetes",
    about: "A Kubernetes cluster. Its agents present a projected service account token that is bound to a pod: it names the node.",
    short: "",
    keys: &[
        key("issuer", "URL", "", "The cluster's `--service-account-issuer`."),
        key("audience", "text", "bastide", "The audience that the projection requests."),
        key(
            "jwks",
            "path of a JSON file",
            "",
            "The cluster's keys: what `kubectl get --raw /openid/v1/jwks` prints. Read again when it changes.",
        ),
        key(
            "service_accounts",
            "namespace/name, or list of these",
            "",
            "The service accounts that agents run as.",
        ),
    ],
};

/// What may name a node.
pub(super) fn node_name(text: &str) -> Result<String, Unfit> {
    let expected = "a node's name such as edge-1, x509/edge-1 or kubernetes/worker-3";
    if mesh::node::is_name(text) { Ok(text.to_owned()) } else { Err(Unfit { expected, instead: None }) }
}

fn service_account(text: &str) -> Result<String, Unfit> {
    let parts = text.split_once('/');
    let fits =
        parts.is_some_and(|(space, name)| !space.is_empty() && !name.is_empty() && !name.contains('/'));
    let expected = "a service account as namespace/name";
    if fits { Ok(text.to_owned()) } else { Err(Unfit { expected, instead: None }) }
}

impl Decoder<'_> {
    pub(super) fn mesh_agents(&mut self, node: &Node) -> Option<Agents> {
        if node.text().is_some() {
            let listen = self.value(node, socket_address)?;
            return Some(Agents { listen, provers: Provers::default() });
        }
        let table = self.table(node, &AGENTS)?;
        let listen = self.required(&table, "listen")?;
        let listen = self.value(listen, socket_address)?;
        let mut provers = Provers::default();
        if let Some(lifetime) = table.get("lifetime").and_then(|node| self.duration(node, LIFETIME_MIN)) {
            provers.lifetime = lifetime;
        }
        if let Some(node) = table.get("x509") {
            let (_, text) = self.file(node, pem::BYTES_MAX)?;
            match pem::certificates(&text) {
                Ok(list) => provers.x509 = list.iter().map(|der| der.to_vec()).collect(),
                Err(message) => self.fault(node.at, message),
            }
        }
        if let Some(node) = table.get("kubernetes") {
            provers.kubernetes = self.cluster(node);
        }
        Some(Agents { listen, provers })
    }

    fn cluster(&mut self, node: &Node) -> Option<Kubernetes> {
        let table = self.table(node, &KUBERNETES)?;
        let issuer = self.required(&table, "issuer")?;
        let issuer = self.text(issuer)?.to_owned();
        let audience = match table.get("audience") {
            Some(node) => self.text(node)?.to_owned(),
            None => "bastide".to_owned(),
        };
        let at = self.required(&table, "jwks")?;
        let (_, jwks) = self.file(at, keys::JWKS_BYTES_MAX)?;
        let accounts = self.required(&table, "service_accounts")?;
        let service_accounts: BTreeSet<String> = self.values(accounts, service_account).into_iter().collect();
        if service_accounts.is_empty() {
            self.expected(accounts, "at least one service account");
        }
        let cluster = Kubernetes { issuer, audience, jwks, service_accounts };
        if let Err(error) = cluster.keys() {
            self.fault(at.at, error.to_string());
        }
        Some(cluster)
    }
}
