//! Which certificate a client sees, by the name that it asks for.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{Identity, ServerTlsSettings, TlsError};

/// When the certificate that is shown for a name ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameEnd {
    /// The name, lower case; `*.` in front of a wildcard's.
    pub name: Box<str>,
    /// The last good second (RFC 5280 §4.1.2.5), in seconds since 1970.
    pub not_after: u64,
}

/// Chooses a certificate by the name that the client asks for (SNI).
#[derive(Debug)]
pub(super) struct ByName {
    exact: HashMap<String, Arc<CertifiedKey>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Arc<CertifiedKey>>,
    /// For all others.
    default: Option<Arc<CertifiedKey>>,
}

impl ByName {
    pub(super) fn build(
        settings: &ServerTlsSettings,
        provider: &CryptoProvider,
    ) -> Result<(Self, Vec<NameEnd>), TlsError> {
        let mut made = Self { exact: HashMap::new(), wildcard: HashMap::new(), default: None };
        let mut ends = Vec::new();
        for identity in &settings.identities {
            let (key, names) = named(identity, provider)?;
            let key = Arc::new(key);
            for end in names {
                let (map, name) = match end.name.strip_prefix("*.") {
                    Some(rest) => (&mut made.wildcard, rest),
                    None => (&mut made.exact, &*end.name),
                };
                // Of two for one name the first is shown.
                if let Entry::Vacant(place) = map.entry(name.to_owned()) {
                    place.insert(Arc::clone(&key));
                    ends.push(end);
                }
            }
            made.default.get_or_insert(key);
        }
        match (settings.strict_names, &made.default) {
            (true, _) => made.default = None,
            (false, None) => return Err(TlsError::NoCertificate),
            (false, Some(_)) => {}
        }
        Ok((made, ends))
    }

    fn find(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let found = name.and_then(|name| {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            self.exact.get(&name).or_else(|| {
                // A wildcard stands for one label (RFC 6125 §6.4.3).
                name.split_once('.').and_then(|(_, rest)| self.wildcard.get(rest))
            })
        });
        found.or(self.default.as_ref()).map(Arc::clone)
    }
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.find(hello.server_name())
    }
}

/// An identity as it is shown, and for which names.
///
/// # Errors
/// Key and certificate do not fit, or one of them cannot be used.
pub(super) fn named(
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<(CertifiedKey, Vec<NameEnd>), TlsError> {
    let key = CertifiedKey::from_der(identity.chain.clone(), identity.key.clone_key(), provider)?;
    Ok((key, names_of(identity.chain.first())?))
}

/// The DNS names of a certificate, and when it ends.
fn names_of(leaf: Option<&CertificateDer<'static>>) -> Result<Vec<NameEnd>, TlsError> {
    let leaf = leaf.ok_or(TlsError::NoCertificate)?;
    let (_, parsed) =
        X509Certificate::from_der(leaf).map_err(|error| TlsError::Certificate(error.to_string()))?;
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| TlsError::Certificate(error.to_string()))?
        .map(|extension| &extension.value.general_names);
    let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(names
        .into_iter()
        .flatten()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(NameEnd { name: name.to_ascii_lowercase().into(), not_after }),
            _ => None,
        })
        .collect())
}
