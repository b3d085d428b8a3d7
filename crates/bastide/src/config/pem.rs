//! Certificates and keys in PEM: readable, and made for each other.

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

/// Largest PEM file, in bytes. Bundles of public authorities have some 250 KB.
pub(super) const BYTES_MAX: usize = 4 << 20;

/// Why a certificate and a key do not fit.
pub(super) struct Misfit {
    /// Whether the key is to blame.
    pub(super) in_key: bool,
    /// What was expected and found.
    pub(super) message: String,
}

/// All certificates of a PEM file, at least one.
///
/// # Errors
/// What was expected and found.
pub(super) fn certificates(bytes: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    match list {
        Ok(list) if list.is_empty() => {
            Err("expected a PEM file with certificates, found none in it".to_owned())
        }
        Ok(list) => Ok(list),
        Err(error) => Err(format!("expected a PEM file with certificates: {error}")),
    }
}

const ENCRYPTED: &str = "the key is encrypted, and nobody can be asked for its password: write it without one by openssl pkey -in KEY -out NEW, with mode 0600";

/// Whether a PEM file has a key under a password: in PKCS #8 (RFC 7468 §11), or in OpenSSL's older form.
fn is_encrypted(pem: &[u8]) -> bool {
    String::from_utf8_lossy(pem).lines().any(|line| {
        line.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----")
            || line.starts_with("Proc-Type: 4,ENCRYPTED")
    })
}

/// Whether the key is the one that the first certificate speaks of.
///
/// # Errors
/// Which of the two is to blame, and why.
pub(super) fn pair(chain: &[u8], key: &[u8]) -> Result<(), Misfit> {
    let chain = certificates(chain).map_err(|message| Misfit { in_key: false, message })?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| Misfit {
        in_key: true,
        message: match is_encrypted(key) {
            true => ENCRYPTED.to_owned(),
            false => format!("expected a PEM file with a private key: {error}"),
        },
    })?;
    match CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()) {
        Ok(_) => Ok(()),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Misfit { in_key: true, message: "the key is not the certificate's key".to_owned() })
        }
        Err(rustls::Error::InvalidCertificate(error)) => {
            Err(Misfit { in_key: false, message: format!("the certificate cannot be read: {error:?}") })
        }
        Err(error) => Err(Misfit { in_key: true, message: format!("the key cannot be used: {error}") }),
    }
}
