//! Whom client certificates name, beside everybody else who names principals.

use super::authentication::Authentication;
use super::decoder::{Decoder, Table};
use super::listen::Listener;
use super::mesh::Mesh;
use super::node::{At, Node};
use super::routes::{Proof, Route};

impl Decoder<'_> {
    /// A listener's own authorities certify neither workloads of the mesh nor, unless that is said,
    /// clients of an issuer.
    pub(super) fn certificates_name_nobody_else(
        &mut self,
        top: &Table<'_>,
        listeners: &[Listener],
        routes: &[Route],
        authentication: &Authentication,
        mesh: Option<&Mesh>,
    ) {
        let mesh = mesh.map(|mesh| &mesh.settings.trust_domain);
        if let Some(name) =
            authentication.certificates.trust_domain.as_ref().filter(|name| Some(*name) == mesh)
        {
            let written = ["certificates", "trust_domain"].iter();
            let node =
                written.fold(top.get("authentication"), |node, key| node.and_then(|node| node.get(key)));
            self.advise(
                node.map_or(At::default(), |node| node.at),
                format!("workloads of {name} are certified by the mesh alone: no `client.ca` of a listener makes any"),
                "remove it: listeners with `tls: { mesh: true }` take the mesh's certificates; name another trust domain if others certify workloads",
            );
        }
        if routes.iter().any(|route| route.authenticate.contains(&Proof::Certificate)) {
            let items = top.get("listen").map_or(&[][..], Node::items);
            for (node, listener) in items.iter().zip(listeners).filter(|_| items.len() == listeners.len()) {
                self.clients_beside_issuers(node, listener, authentication);
            }
        }
    }

    fn clients_beside_issuers(&mut self, node: &Node, listener: &Listener, authentication: &Authentication) {
        let Some(client) = listener.tls.as_ref().and_then(|tls| tls.client.as_ref()) else { return };
        let node = node.get("tls").and_then(|tls| tls.get("client"));
        let at = node.map_or(At::default(), |node| node.get("prefix").unwrap_or(node).at);
        let prefix = client.prefix.as_deref();
        let clash = |other: &str| match (prefix, other) {
            (None, "") => true,
            (None | Some(""), _) | (_, "") => false,
            (Some(prefix), other) => prefix.starts_with(other) || other.starts_with(prefix),
        };
        let Some(issuer) = authentication.issuers.iter().find(|issuer| clash(&issuer.prefix)) else { return };
        let message = match prefix {
            Some(prefix) => format!(
                "the prefix {prefix:?} and that of issuer {:?}, {:?}, cannot be told apart: neither may begin the other",
                issuer.issuer, issuer.prefix
            ),
            None => format!(
                "a certificate named like a client of issuer {:?} would be that client, with its roles",
                issuer.issuer
            ),
        };
        let instead = match prefix {
            Some(_) => "prefix: \"certificate/\"",
            None => {
                "add prefix: \"certificate/\" to `client`, which makes CN=reports Client::\"certificate/reports\"; or prefix: \"\" if the client is meant"
            }
        };
        self.advise(at, message, instead);
    }
}
