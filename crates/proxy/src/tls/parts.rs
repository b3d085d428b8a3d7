//! Whether the parts that TLS is made of can be used, each by itself: one that cannot must hold
//! up no other.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use rustls::server::WebPkiClientVerifier;

use super::by_name::named;
use super::{Identity, TlsError, provider, store};

impl Identity {
    /// Whether it can be shown: key and certificate fit.
    ///
    /// # Errors
    /// They do not, or one of them is of a kind that is not supported.
    pub fn check(&self) -> Result<(), TlsError> {
        named(self, &provider()).map(|_| ())
    }
}

/// Whether these authorities can be trusted.
///
/// # Errors
/// One of them is no certificate.
pub fn check_authorities(roots: &[CertificateDer<'static>]) -> Result<(), TlsError> {
    store(roots).map(|_| ())
}

/// Whether these revocation lists (RFC 5280 §5) are understood: signatures and times aside, which
/// are looked at with each certificate.
///
/// # Errors
/// One of them is not.
pub fn check_revocations(lists: &[CertificateRevocationListDer<'static>]) -> Result<(), TlsError> {
    // Whose they are is not asked yet: any authorities will do.
    let any = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(any), provider());
    let built = builder.with_crls(lists.iter().cloned()).build();
    built.map(|_| ()).map_err(|error| TlsError::Revocations(error.to_string()))
}
