//! Clients by TLS certificate (RFC 8705 §2), as the connection brings it.

use aws_lc_rs::digest::{SHA256, digest};
use keys::encoding::encode_base64url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// What of a verified certificate names a client (RFC 8705 §2.1.2): exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateSubject {
    /// The subject as one line, as `openssl x509 -subject` and this program print it.
    Dn(String),
    /// A DNS name of the subject alternative name.
    SanDns(String),
    /// A URI of it, such as a SPIFFE ID.
    SanUri(String),
}

impl CertificateSubject {
    pub(super) fn fault(&self) -> Option<String> {
        let (Self::Dn(text) | Self::SanDns(text) | Self::SanUri(text)) = self;
        text.trim().is_empty().then(|| "subject: expected a name".to_owned())
    }

    /// Whether this leaf (DER) is the client's.
    pub(super) fn names(&self, leaf: &[u8]) -> Result<bool, String> {
        let (rest, certificate) =
            X509Certificate::from_der(leaf).map_err(|error| format!("not a certificate: {error}"))?;
        if !rest.is_empty() {
            return Err("bytes behind the certificate".to_owned());
        }
        let alternative = certificate
            .subject_alternative_name()
            .map_err(|error| format!("subject alternative name: {error}"))?;
        let names = alternative.map_or(&[][..], |extension| extension.value.general_names.as_slice());
        Ok(match self {
            Self::Dn(wanted) => certificate.subject().to_string() == *wanted,
            // RFC 4343: without case.
            Self::SanDns(wanted) => names.iter().any(
                |name| matches!(name, GeneralName::DNSName(found) if found.eq_ignore_ascii_case(wanted)),
            ),
            Self::SanUri(wanted) => {
                names.iter().any(|name| matches!(name, GeneralName::URI(found) if *found == wanted.as_str()))
            }
        })
    }
}

/// `x5t#S256` of a certificate (RFC 8705 §3.1).
pub fn thumbprint(leaf: &[u8]) -> String {
    encode_base64url(digest(&SHA256, leaf).as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_its_clients_alone() {
        let names = ["orders.example".to_owned(), "spiffe://shop/orders".to_owned()];
        let mut parameters = rcgen::CertificateParams::new([names[0].clone()]).unwrap();
        parameters.subject_alt_names.push(rcgen::SanType::URI(names[1].clone().try_into().unwrap()));
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "orders");
        let key = rcgen::KeyPair::generate().unwrap();
        let leaf = parameters.self_signed(&key).unwrap().der().to_vec();
        let dn = X509Certificate::from_der(&leaf).unwrap().1.subject().to_string();
        for (subject, expected) in [
            (CertificateSubject::Dn(dn.clone()), true),
            (CertificateSubject::Dn("CN=order".to_owned()), false),
            (CertificateSubject::SanDns("Orders.example".to_owned()), true),
            (CertificateSubject::SanDns("example".to_owned()), false),
            (CertificateSubject::SanDns(names[1].clone()), false),
            (CertificateSubject::SanUri(names[1].clone()), true),
            (CertificateSubject::SanUri("spiffe://shop/order".to_owned()), false),
        ] {
            assert_eq!(subject.names(&leaf), Ok(expected), "{subject:?}");
        }
        let mut longer = leaf.clone();
        longer.push(0);
        assert!(CertificateSubject::Dn(dn).names(&longer).is_err());
        assert_eq!(thumbprint(&leaf).len(), 43);
    }
}
