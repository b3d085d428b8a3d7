//! Who is at the other end of a TLS connection: a workload of a trust domain that is
//! trusted, by exactly one SPIFFE ID (X509-SVID §5.2).
//!
//! The chain has to lead to an anchor of the very trust domain that the leaf names: another
//! domain's authority can never speak for it. Neither it nor its workload may be revoked.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use keys::{CertificateRules, Refusal, identify};
use model::{SpiffeId, Timestamp};
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DistinguishedName, RootCertStore};

use crate::error::Error;
use crate::handshake::handshake_signatures;
use crate::revocation::Revoked;

/// Verifies peers of both directions.
pub struct Verifier {
    domains: BTreeMap<String, Domain>,
    /// Who it has to be; `None`: any workload.
    expected: Option<Vec<SpiffeId>>,
    revoked: Arc<Revoked>,
    algorithms: WebPkiSupportedAlgorithms,
}

struct Domain {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier").field("domains", &self.domains.keys()).finish_non_exhaustive()
    }
}

impl Verifier {
    /// From the anchors (DER) of each trust domain. A domain without any verifies nobody.
    ///
    /// INVARIANT: an anchor that cannot be used is left out, with a warning, and verifies nobody. It keeps
    /// nothing else from counting: neither other domains nor what was revoked.
    ///
    /// # Errors
    /// [`Error::Bundle`]: the library makes no verifier of what can be used.
    pub fn new(
        anchors: &BTreeMap<String, Vec<Vec<u8>>>,
        expected: Option<Vec<SpiffeId>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut domains = BTreeMap::new();
        for (name, anchors) in anchors.iter().filter(|(_, anchors)| !anchors.is_empty()) {
            let refused = |why: String| Error::Bundle { trust_domain: name.clone(), why };
            let mut roots = RootCertStore::empty();
            for anchor in anchors {
                if let Err(error) = roots.add(CertificateDer::from(anchor.clone())) {
                    tracing::warn!(trust_domain = name, %error, "mesh: an authority is left out, it anchors nothing");
                }
            }
            if roots.is_empty() {
                continue;
            }
            let roots = Arc::new(roots);
            let clients =
                WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider));
            let clients = clients.build().map_err(|error| refused(error.to_string()))?;
            domains.insert(name.clone(), Domain { roots, clients });
        }
        let algorithms = provider.signature_verification_algorithms;
        Ok(Self { domains, expected, revoked: Arc::default(), algorithms })
    }

    /// The same, and besides it nobody who is revoked.
    #[must_use]
    pub fn without(self, revoked: Arc<Revoked>) -> Self {
        Self { revoked, ..self }
    }

    /// Whom a leaf names, and the domain that has to vouch for it. Its chain is not verified
    /// yet.
    fn named(&self, leaf: &CertificateDer<'_>, now: UnixTime) -> Result<(SpiffeId, &Domain), rustls::Error> {
        let time = Timestamp::from_unix_seconds(now.as_secs());
        let mut refusal = None;
        for (name, domain) in &self.domains {
            let rules = CertificateRules::of_trust_domain(name);
            match identify(leaf, &rules, time) {
                Ok(identity) => match &identity.principal.spiffe_id {
                    Some(id) => {
                        return match self.revoked.certificate(id, &identity.serial) {
                            None => Ok((id.clone(), domain)),
                            Some(why) => Err(refused(why)),
                        };
                    }
                    None => refusal = Some("it names no workload".to_owned()),
                },
                // Another domain may be its own.
                Err(Refusal::TrustDomain { found, .. }) => {
                    refusal = Some(format!("the trust domain {found} is not trusted here"));
                }
                Err(Refusal::CertificateValidity { not_before, .. }) if time < not_before => {
                    return Err(CertificateError::NotValidYet.into());
                }
                Err(Refusal::CertificateValidity { .. }) => return Err(CertificateError::Expired.into()),
                Err(other) => return Err(refused(other.to_string())),
            }
        }
        Err(refused(refusal.unwrap_or_else(|| "no trust domain is known yet".to_owned())))
    }

    fn check_expected(&self, id: &SpiffeId) -> Result<(), rustls::Error> {
        match &self.expected {
            Some(expected) if !expected.contains(id) => {
                let expected: Vec<&str> = expected.iter().map(SpiffeId::as_str).collect();
                Err(refused(format!("expected {}, found {id}", expected.join(" or "))))
            }
            _ => Ok(()),
        }
    }
}

/// A refusal with a reason that the log shows.
fn refused(why: String) -> rustls::Error {
    #[derive(Debug)]
    struct Why(String);
    impl fmt::Display for Why {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(&self.0)
        }
    }
    impl std::error::Error for Why {}
    CertificateError::Other(rustls::OtherError(Arc::new(Why(why)))).into()
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (id, domain) = self.named(leaf, now)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &domain.roots,
            intermediates,
            now,
            self.algorithms.all,
        )?;
        self.check_expected(&id)?;
        Ok(ServerCertVerified::assertion())
    }

    handshake_signatures!(rustls::crypto::verify_tls12_signature);
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Authorities change daily: their names help nobody to choose.
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let (id, domain) = self.named(leaf, now)?;
        let verified = domain.clients.verify_client_cert(leaf, intermediates, now)?;
        self.check_expected(&id)?;
        Ok(verified)
    }

    handshake_signatures!(rustls::crypto::verify_tls12_signature);
}

#[cfg(test)]
mod tests;
