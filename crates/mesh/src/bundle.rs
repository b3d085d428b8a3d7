//! Bundles: what a trust domain's documents are verified with (SPIFFE Trust Domain and
//! Bundle §4), read from others and written for them.

use std::time::Duration;

use keys::encoding::{encode_base64, parse_object};
use keys::{Algorithm, KeySet};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use serde_json::{Map, Value, json};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::error::Error;

/// Largest bundle document that is read, bytes.
pub const BUNDLE_BYTES_MAX: usize = 256 * 1024;
/// Most of the bundles of all other trust domains together, bytes as [`Bundle::bytes`] counts them. They
/// go in one message, and clients of the Workload API take messages of 4 MiB unless they are told
/// otherwise.
pub const FOREIGN_BYTES_MAX: usize = 3 * 1024 * 1024;
/// Most keys of a bundle that are read.
pub const BUNDLE_KEYS_MAX: usize = 128;
/// The hint of a bundle without one, and what others are told at most.
pub const REFRESH_DEFAULT: Duration = Duration::from_secs(300);

/// The algorithms of JWT-SVIDs (JWT-SVID §2.1): no EdDSA.
pub const JWT_SVID_ALGORITHMS: [Algorithm; 9] = [
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::Ps256,
    Algorithm::Ps384,
    Algorithm::Ps512,
];

/// What verifies the documents of one trust domain.
#[derive(Clone, Debug, PartialEq)]
pub struct Bundle {
    /// Whose.
    pub trust_domain: String,
    /// Certificates that X.509-SVIDs lead to, DER.
    pub x509: Vec<Vec<u8>>,
    /// Public keys that JWT-SVIDs are signed with, as JWKs with `kid`.
    pub jwt: Vec<Map<String, Value>>,
    /// Grows with every change.
    pub sequence: u64,
    /// How soon to look again.
    pub refresh: Duration,
}

impl Bundle {
    /// The document of a bundle endpoint.
    pub fn to_document(&self) -> String {
        let x509 = self.x509.iter().filter_map(|certificate| certificate_jwk(certificate));
        let jwt = self.jwt.iter().map(|jwk| with_use(jwk, Some("jwt-svid")));
        let keys: Vec<Value> = x509.chain(jwt).collect();
        json!({
            "keys": keys,
            "spiffe_sequence": self.sequence,
            "spiffe_refresh_hint": self.refresh.as_secs().max(1),
        })
        .to_string()
    }

    /// What it takes in a message of the Workload API, bytes, without the names of such a message.
    pub fn bytes(&self) -> usize {
        let x509: usize = self.x509.iter().map(Vec::len).sum();
        self.trust_domain.len() + x509 + self.jwks().len()
    }

    /// The JWT keys as a JWK Set (RFC 7517 §5), as the Workload API gives them.
    pub fn jwks(&self) -> String {
        let keys: Vec<Value> = self.jwt.iter().map(|jwk| with_use(jwk, None)).collect();
        json!({ "keys": keys }).to_string()
    }

    /// The certificates one behind the other, as the Workload API gives them.
    pub fn x509_concatenated(&self) -> Vec<u8> {
        self.x509.concat()
    }

    /// The keys that verify JWT-SVIDs of this domain.
    ///
    /// # Errors
    /// None is usable.
    pub fn jwt_keys(&self) -> Result<KeySet, Error> {
        Ok(KeySet::parse(self.jwks().as_bytes(), &JWT_SVID_ALGORITHMS)?.0)
    }

    /// Reads the document of a bundle endpoint. Keys of uses and kinds that are not known are left
    /// out, as the specification asks (§4.2.2); anything else that is wrong is refused
    /// whole.
    ///
    /// # Errors
    /// [`Error::Bundle`].
    pub fn parse(trust_domain: &str, document: &[u8]) -> Result<Self, Error> {
        let refused = |why: String| Error::Bundle { trust_domain: trust_domain.to_owned(), why };
        if document.len() > BUNDLE_BYTES_MAX {
            let bytes = document.len();
            return Err(refused(format!("{bytes} bytes, at most {BUNDLE_BYTES_MAX} are read")));
        }
        let members = parse_object(document)
            .map_err(|error| refused(format!("expected a JWK Set as strict JSON: {error}")))?;
        let Some(Value::Array(keys)) = members.get("keys") else {
            return Err(refused("expected a member `keys` with a list of keys".to_owned()));
        };
        if keys.len() > BUNDLE_KEYS_MAX {
            return Err(refused(format!("{} keys, at most {BUNDLE_KEYS_MAX} are read", keys.len())));
        }
        let number = |name: &str| match members.get(name) {
            None => Ok(None),
            Some(value) => {
                value.as_u64().map(Some).ok_or_else(|| refused(format!("`{name}` is not a number from 0 on")))
            }
        };
        let refresh = number("spiffe_refresh_hint")?.map_or(REFRESH_DEFAULT, Duration::from_secs);
        let sequence = number("spiffe_sequence")?.unwrap_or(0);
        let mut bundle = Self {
            trust_domain: trust_domain.to_owned(),
            x509: Vec::new(),
            jwt: Vec::new(),
            sequence,
            refresh,
        };
        for (place, key) in keys.iter().enumerate() {
            let key = key.as_object().ok_or_else(|| refused(format!("key {place} is not an object")))?;
            bundle.take(key).map_err(|why| refused(format!("key {place}: {why}")))?;
        }
        if bundle.x509.is_empty() && bundle.jwt.is_empty() {
            return Err(refused("it has no key for X.509-SVIDs or JWT-SVIDs".to_owned()));
        }
        // INVARIANT: what is told on can be read where it is told. It says more of a certificate than has
        // to be said.
        let bytes = bundle.to_document().len();
        if bytes > BUNDLE_BYTES_MAX {
            return Err(refused(format!(
                "{bytes} bytes with all members, at most {BUNDLE_BYTES_MAX} are read"
            )));
        }
        Ok(bundle)
    }

    fn take(&mut self, key: &Map<String, Value>) -> Result<(), String> {
        match key.get("use").and_then(Value::as_str) {
            Some("x509-svid") => {
                let certificate = read_certificate(key)?;
                // Keys of kinds that are not known are left out (RFC 7517 §5): they verify nothing here.
                if certificate_jwk(&certificate).is_some() {
                    self.x509.push(certificate);
                }
            }
            Some("jwt-svid") => {
                // JWT-SVID bundles name each key (§4.2.2).
                let kid = key.get("kid").and_then(Value::as_str).filter(|kid| !kid.is_empty());
                let kid = kid.ok_or("a key for JWT-SVIDs has to have a `kid`")?;
                if self.jwt.iter().any(|other| other.get("kid").and_then(Value::as_str) == Some(kid)) {
                    return Err("two keys have this `kid`".to_owned());
                }
                if key.contains_key("d") || key.contains_key("k") {
                    return Err("it holds secret parts; expected a public key".to_owned());
                }
                self.jwt.push(key.clone());
            }
            _ => {}
        }
        Ok(())
    }
}

/// §4.2.2: exactly one certificate, an authority's.
fn read_certificate(key: &Map<String, Value>) -> Result<Vec<u8>, String> {
    use base64::Engine as _;
    let Some([Value::String(text)]) = key.get("x5c").and_then(Value::as_array).map(Vec::as_slice) else {
        return Err("expected `x5c` with exactly one certificate".to_owned());
    };
    let der = base64::engine::general_purpose::STANDARD.decode(text);
    let der = der.map_err(|_| "`x5c` is not base64".to_owned())?;
    let (rest, certificate) = X509Certificate::from_der(&der).map_err(|_| "`x5c` is not X.509".to_owned())?;
    if !rest.is_empty() || !certificate.is_ca() {
        return Err("`x5c` is not the certificate of an authority".to_owned());
    }
    // INVARIANT: verifiers of every domain are made together: what they cannot take is in none.
    let anchor = RootCertStore::empty().add(CertificateDer::from(der.as_slice()));
    anchor.map_err(|error| format!("`x5c` anchors nothing: {error}"))?;
    Ok(der)
}

fn with_use(jwk: &Map<String, Value>, word: Option<&str>) -> Value {
    let mut jwk = jwk.clone();
    match word {
        Some(word) => jwk.insert("use".to_owned(), Value::String(word.to_owned())),
        None => jwk.remove("use"),
    };
    Value::Object(jwk)
}

/// A certificate as a JWK: its key, and itself.
fn certificate_jwk(certificate: &[u8]) -> Option<Value> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let mut jwk = keys::spki_jwk(parsed.public_key().raw)?;
    jwk.insert("use".to_owned(), json!("x509-svid"));
    jwk.insert("x5c".to_owned(), json!([encode_base64(certificate)]));
    Some(Value::Object(jwk))
}

#[cfg(test)]
mod tests;
