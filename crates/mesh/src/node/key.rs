//! The keys by which control plane and agents know each other, and TLS between them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use keys::encoding::hex;
use keys::svid::{AuthorityTerms, X509Authority};
use keys::{Algorithm, LocalSigner, SecureRandom, sha256};
use model::Timestamp;
use rustls::client::Resumption;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, ClientConfig, DistinguishedName, ServerConfig};
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::handshake::{handshake_signatures, no_tls12};

/// Nobody looks at the dates of these certificates.
const LIFE: Duration = Duration::from_secs(100 * 365 * 86_400);

/// What a key is known by: the SHA-256 of its `SubjectPublicKeyInfo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pin([u8; 32]);

impl Pin {
    /// Of the key of a certificate; `None`: it is none.
    pub fn of(certificate: &[u8]) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
        Some(Self(sha256(parsed.public_key().raw)))
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for Pin {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = || Error::Settings(format!("{text:?} is no pin: expected 64 hexadecimal digits"));
        if text.len() != 64 || !text.is_ascii() {
            return Err(refused());
        }
        let mut pin = [0; 32];
        for (to, digits) in pin.iter_mut().zip(text.as_bytes().chunks(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| refused())?;
            *to = u8::from_str_radix(digits, 16).map_err(|_| refused())?;
        }
        Ok(Self(pin))
    }
}

/// A key with the certificate that carries it.
#[derive(Clone, Serialize, Deserialize)]
pub struct NodeKey {
    /// DER.
    certificate: Vec<u8>,
    /// PKCS #8, DER.
    key: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeKey").field("pin", &self.pin()).finish_non_exhaustive()
    }
}

impl NodeKey {
    /// A fresh one.
    ///
    /// # Errors
    /// The cryptographic library fails.
    pub fn generate(now: Timestamp, random: &(dyn SecureRandom + Send + Sync)) -> Result<Self, Error> {
        let (signer, key) = LocalSigner::generate(Algorithm::Es256, random)?;
        let terms = AuthorityTerms {
            trust_domain: "node.invalid",
            from: now,
            until: now.plus(LIFE),
            signs_authorities: false,
        };
        let made = X509Authority::self_signed(Arc::new(signer), &terms, random)?;
        Ok(Self { certificate: made.certificate().to_vec(), key })
    }

    /// What it is known by.
    pub fn pin(&self) -> Option<Pin> {
        Pin::of(&self.certificate)
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.to_vec()));
        (vec![CertificateDer::from(self.certificate.clone())], key)
    }

    /// TLS of the control plane: clients show a key, whichever; who they are is looked up.
    pub(super) fn server(&self) -> Result<ServerConfig, Error> {
        let provider = provider();
        let verifier = Pinned { expected: None, algorithms: provider.signature_verification_algorithms };
        let (chain, key) = self.parts();
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(chain, key)
            .map_err(refused)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }

    /// TLS of an agent: the control plane is the one with this key.
    pub(super) fn client(&self, expected: Pin) -> Result<ClientConfig, Error> {
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Pinned { expected: Some(expected), algorithms };
        let (chain, key) = self.parts();
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(refused)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier))
            .with_client_auth_cert(chain, key)
            .map_err(refused)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn refused(error: rustls::Error) -> Error {
    Error::Settings(error.to_string())
}

/// Knows the other end by its key. The signature of the handshake proves that it has it.
#[derive(Debug)]
struct Pinned {
    /// `None`: any key.
    expected: Option<Pin>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Pinned {
    fn check(&self, leaf: &[u8]) -> Result<(), rustls::Error> {
        match (Pin::of(leaf), self.expected) {
            (Some(_), None) => Ok(()),
            (Some(found), Some(expected)) if found == expected => Ok(()),
            (Some(_), Some(_)) => Err(CertificateError::UnknownIssuer.into()),
            (None, _) => Err(CertificateError::BadEncoding.into()),
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(leaf).map(|()| ServerCertVerified::assertion())
    }

    handshake_signatures!(no_tls12);
}

impl ClientCertVerifier for Pinned {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(leaf).map(|()| ClientCertVerified::assertion())
    }

    handshake_signatures!(no_tls12);
}
