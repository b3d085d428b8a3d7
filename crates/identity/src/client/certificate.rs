//! Clients by TLS certificate (RFC 8705 §2), as the connection brings it.

use aws_lc_rs::digest::{SHA256, digest};
use keys::encoding::encode_base64url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use x509_parser::asn1_rs::Tag;
use x509_parser::objects::oid_registry;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
use x509_parser::x509::{AttributeTypeAndValue, RelativeDistinguishedName, X509Name};

/// What of a verified certificate names a client (RFC 8705 §2.1.2): exactly one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateSubject {
    /// The subject as one line, in the order of the certificate: `CN=orders, O=Example`. What would
    /// read as another attribute is escaped (RFC 4514 §2.4): `O=Example\, Inc.`
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
            Self::Dn(wanted) => line(certificate.subject())? == *wanted,
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

/// A subject as one line, which is no other subject's: what stands between attributes is escaped
/// within them.
fn line(subject: &X509Name<'_>) -> Result<String, String> {
    let part = |part: &RelativeDistinguishedName<'_>| {
        let attributes: Result<Vec<String>, String> = part.iter().map(attribute).collect();
        attributes.map(|attributes| attributes.join(" + "))
    };
    let parts: Result<Vec<String>, String> = subject.iter_rdn().map(part).collect();
    parts.map(|parts| parts.join(", "))
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Result<String, String> {
    // Alone nothing else can be read into it, whatever its text holds.
    let alone = RelativeDistinguishedName::new(vec![attribute.clone()]);
    let alone = X509Name::new(vec![alone], &[]).to_string_with_registry(oid_registry());
    let alone = alone.map_err(|error| format!("subject: {error}"))?;
    let (kind, value) = alone.split_once('=').unwrap_or((alone.as_str(), ""));
    Ok(match attribute.attr_value().tag() {
        Tag::Utf8String
        | Tag::PrintableString
        | Tag::Ia5String
        | Tag::NumericString
        | Tag::VisibleString
        | Tag::GeneralString
        | Tag::GraphicString
        | Tag::T61String
        | Tag::VideotexString
        | Tag::ObjectDescriptor
        | Tag::BmpString => format!("{kind}={}", escaped(value)),
        // What is no text is told by its bytes.
        _ => format!("{kind}=#{value}"),
    })
}

/// RFC 4514 §2.4.
fn escaped(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut escaped = String::with_capacity(value.len());
    for (place, letter) in value.chars().enumerate() {
        let special = match letter {
            ',' | '+' | '"' | '\\' | '<' | '>' | ';' => true,
            ' ' => place == 0 || place == last,
            '#' => place == 0,
            _ => false,
        };
        escaped.extend(special.then_some('\\'));
        escaped.push(letter);
    }
    escaped
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
        let dn = "CN=orders".to_owned();
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
        // What one certificate says in one attribute and another in two.
        for (attributes, line) in [
            (&[("CN", "orders"), ("O", "Example")][..], "CN=orders, O=Example"),
            (&[("CN", "orders, O=Example")], "CN=orders\\, O=Example"),
            (&[("CN", "orders\\"), ("O", "Example")], "CN=orders\\\\, O=Example"),
            (&[("CN", "orders + O=Example")], "CN=orders \\+ O=Example"),
            (&[("O", "Example, Inc."), ("CN", " #orders ")], "O=Example\\, Inc., CN=\\ #orders\\ "),
            (&[("CN", "#6F7264657273")], "CN=\\#6F7264657273"),
            (&[("CN", "käse=käse")], "CN=käse=käse"),
        ] {
            let mut parameters = rcgen::CertificateParams::default();
            parameters.distinguished_name = rcgen::DistinguishedName::new();
            for (kind, value) in attributes {
                let kind = match *kind {
                    "CN" => rcgen::DnType::CommonName,
                    _ => rcgen::DnType::OrganizationName,
                };
                parameters.distinguished_name.push(kind, *value);
            }
            let leaf = parameters.self_signed(&key).unwrap().der().to_vec();
            for wanted in ["CN=orders, O=Example", "CN=orders + O=Example", line] {
                let named = CertificateSubject::Dn(wanted.to_owned()).names(&leaf);
                assert_eq!(named, Ok(wanted == line), "{wanted} of {attributes:?}");
            }
        }
        let mut longer = leaf.clone();
        longer.push(0);
        assert!(CertificateSubject::Dn(dn).names(&longer).is_err());
        assert_eq!(thumbprint(&leaf).len(), 43);
    }
}
