//! What the other end of a connection has proved, kept so that an exchange under way can be
//! judged again by what is trusted now.

use std::cell::RefCell;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};

use super::Upstreams;
use crate::tls::ClientTls;

/// The certificate of an upstream that is known by more than roots and a host name.
#[derive(Debug)]
pub struct UpstreamPeer {
    service: Arc<str>,
    chain: Vec<CertificateDer<'static>>,
    name: ServerName<'static>,
    /// The mark of what last verified it.
    verified_by: RefCell<Arc<[u8]>>,
}

impl UpstreamPeer {
    /// What a handshake brought; `None` where there is nothing to be judged again.
    pub(crate) fn of(
        service: &Arc<str>,
        tls: &ClientTls,
        connection: &rustls::ClientConnection,
        name: ServerName<'static>,
    ) -> Option<Self> {
        let verifier = tls.verifier.as_ref()?;
        let chain = connection.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        let verified_by = RefCell::new(Arc::clone(&verifier.mark));
        Some(Self { service: Arc::clone(service), chain, name, verified_by })
    }
}

impl Upstreams {
    /// Whether a service would still be taken for itself by the certificate of an open
    /// connection. Verifies the chain anew only when something else is trusted than the last time.
    pub fn trusts(&self, peer: &UpstreamPeer) -> bool {
        let service = self.services.iter().find(|service| service.name == peer.service);
        // Of the service, not of its endpoints: there may be none any more.
        let tls = service.and_then(|service| service.tls.as_ref());
        // A service that is not proved so any more is the route's to judge.
        let Some((tls, now)) = tls.and_then(|tls| Some((tls, tls.verifier.as_ref()?))) else { return true };
        if *peer.verified_by.borrow() == now.mark {
            return true;
        }
        let (Some((leaf, others)), Some(time)) = (peer.chain.split_first(), tls.time()) else { return false };
        let verified = now.verifier.verify_server_cert(leaf, others, &peer.name, &[], time).is_ok();
        if verified {
            *peer.verified_by.borrow_mut() = Arc::clone(&now.mark);
        }
        verified
    }
}
