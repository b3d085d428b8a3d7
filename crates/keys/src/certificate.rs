//! Client certificates → [`Principal`].
//!
//! The chain has been verified by the TLS stack. What is decided here is who the leaf
//! names, without any room for two readings, and that it is still valid: a resumed
//! session restores the chain without verifying it again.

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use model::{Credential, Principal, PrincipalKind, SpiffeId, Timestamp};
use x509_parser::prelude::{FromDer as _, GeneralName, ParsedExtension, X509Certificate};
use x509_parser::x509::X509Name;

use crate::encoding::{hex, quote};
use crate::refusal::Refusal;

/// Largest leaf that is read, bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 64 * 1024;
/// Longest name that becomes a principal's id, bytes (a SPIFFE ID may be longer).
pub const CERTIFICATE_NAME_BYTES_MAX: usize = 255;

/// How certificates name principals, at the place where they were verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateRules {
    /// The SPIFFE trust domain whose members are services; without one, certificates
    /// with a SPIFFE ID are refused.
    pub trust_domain: Option<String>,
    /// The trust domain for which whoever issued these certificates cannot speak: one that
    /// names a workload of it in any of its URIs is refused for that alone.
    pub reserved: Option<String>,
    /// Put in front of the name that makes a client.
    pub prefix: String,
    /// Prefixes of others who name clients, none empty.
    pub other_prefixes: Vec<String>,
}

impl CertificateRules {
    /// Members of a trust domain, verified by its own authorities.
    pub fn of_trust_domain(name: &str) -> Self {
        Self { trust_domain: Some(name.to_owned()), ..Self::default() }
    }
}

/// What a client certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateIdentity {
    /// Who it is.
    pub principal: Arc<Principal>,
    /// The subject as one line (RFC 4514-like).
    pub subject: String,
    /// The issuer as one line.
    pub issuer: String,
    /// DNS names of the subject alternative name, lower case.
    pub dns_names: Vec<String>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// SHA-256 of the DER, lower-case hexadecimal.
    pub fingerprint: String,
    /// First second at which it is valid.
    pub not_before: Timestamp,
    /// Last second at which it is valid.
    pub not_after: Timestamp,
}

/// Reads a verified leaf.
///
/// # Errors
/// [`Refusal`] of the certificates group.
pub fn identify(
    leaf: &[u8],
    rules: &CertificateRules,
    now: Timestamp,
) -> Result<CertificateIdentity, Refusal> {
    let refused = |what| Refusal::Certificate { what };
    if leaf.len() > CERTIFICATE_BYTES_MAX {
        return Err(refused("it is too large"));
    }
    let (rest, certificate) =
        X509Certificate::from_der(leaf).map_err(|_| refused("it is not an X.509 certificate"))?;
    if !rest.is_empty() {
        return Err(refused("there are bytes behind it"));
    }
    // Whatever else is wrong with it: what verifies names by itself is told by this refusal.
    if let Some(found) = rules.reserved.as_deref().filter(|name| claims(&certificate, name)) {
        return Err(Refusal::ReservedTrustDomain { found: found.to_owned() });
    }
    let (not_before, not_after) = validity(&certificate, now)?;
    let names = Names::read(&certificate)?;
    let (kind, id, spiffe_id) = match names.spiffe_id(rules)? {
        Some(spiffe_id) => {
            // X509-SVID §4.1: a signing certificate is no workload's.
            if certificate.is_ca() {
                return Err(refused("it carries a SPIFFE ID and is a certificate authority's"));
            }
            (PrincipalKind::Service, spiffe_id.as_str().to_owned(), Some(spiffe_id))
        }
        None => (PrincipalKind::Client, rules.client(&names.client()?)?, None),
    };
    let principal = Principal {
        kind,
        id,
        credential: Credential::Certificate,
        issuer: None,
        roles: Vec::new(),
        scopes: Vec::new(),
        acr: None,
        amr: Vec::new(),
        claims: std::collections::BTreeMap::new(),
        spiffe_id,
        // `notAfter` is the last good second; a permit ends at its `expires`.
        expires: Some(not_after.plus(std::time::Duration::from_secs(1))),
    };
    Ok(CertificateIdentity {
        principal: Arc::new(principal),
        subject: quote(&certificate.subject().to_string()),
        issuer: quote(&certificate.issuer().to_string()),
        dns_names: names.dns.iter().map(|name| name.to_ascii_lowercase()).collect(),
        serial: hex(certificate.raw_serial()),
        fingerprint: hex(digest(&SHA256, leaf).as_ref()),
        not_before,
        not_after,
    })
}

impl CertificateRules {
    /// The id of a client of this name, which nobody else gives.
    fn client(&self, name: &str) -> Result<String, Refusal> {
        let id = format!("{}{name}", self.prefix);
        match self.other_prefixes.iter().find(|prefix| id.starts_with(prefix.as_str())) {
            Some(prefix) => Err(Refusal::NameOfOther { found: quote(&id), prefix: prefix.clone() }),
            None => Ok(id),
        }
    }
}

impl CertificateIdentity {
    /// Whether it is good at this time.
    pub fn is_good_at(&self, now: Timestamp) -> bool {
        is_within(self.not_before, self.not_after, now)
    }
}

/// When it is good, which it has to be now.
fn validity(certificate: &X509Certificate<'_>, now: Timestamp) -> Result<(Timestamp, Timestamp), Refusal> {
    let seconds = |time: i64| Timestamp::from_unix_seconds(u64::try_from(time).unwrap_or(0));
    let validity = certificate.validity();
    let not_before = seconds(validity.not_before.timestamp());
    let not_after = seconds(validity.not_after.timestamp());
    if !is_within(not_before, not_after, now) {
        return Err(Refusal::CertificateValidity { not_before, not_after, now });
    }
    Ok((not_before, not_after))
}

/// RFC 5280 §4.1.2.5: both ends are included, and what is good in a second is so to its end.
fn is_within(not_before: Timestamp, not_after: Timestamp, now: Timestamp) -> bool {
    not_before <= now && now.unix_seconds() <= not_after.unix_seconds()
}

/// Whether any of its URIs is of this trust domain, however it is written.
fn claims(certificate: &X509Certificate<'_>, trust_domain: &str) -> bool {
    let is_of = |uri: &str| {
        let (scheme, rest) = uri.split_once("://").unwrap_or_default();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        scheme.eq_ignore_ascii_case("spiffe") && authority.eq_ignore_ascii_case(trust_domain)
    };
    let names = certificate.extensions().iter().filter_map(|extension| match extension.parsed_extension() {
        ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
        _ => None,
    });
    names.flatten().any(|name| matches!(name, GeneralName::URI(uri) if is_of(uri)))
}

/// The names of a leaf, all readable.
#[derive(Debug, Default)]
struct Names {
    uris: Vec<String>,
    dns: Vec<String>,
    common: Vec<String>,
}

impl Names {
    fn read(certificate: &X509Certificate<'_>) -> Result<Self, Refusal> {
        let refused = |what| Refusal::Certificate { what };
        let mut names = Self { common: common_names(certificate.subject())?, ..Self::default() };
        let extension = certificate
            .subject_alternative_name()
            .map_err(|_| refused("its subject alternative names are broken or there twice"))?;
        for name in extension.map_or(&[][..], |extension| extension.value.general_names.as_slice()) {
            match name {
                GeneralName::URI(uri) => names.uris.push(readable(uri)?),
                GeneralName::DNSName(dns) => names.dns.push(readable(dns)?),
                GeneralName::RFC822Name(mail) => drop(readable(mail)?),
                GeneralName::Invalid(..) => return Err(refused("one of its names is broken")),
                _ => {}
            }
        }
        Ok(names)
    }

    /// X509-SVID §2: exactly one URI name where there is a SPIFFE ID.
    fn spiffe_id(&self, rules: &CertificateRules) -> Result<Option<SpiffeId>, Refusal> {
        let uri = match self.uris.as_slice() {
            [] => return Ok(None),
            [uri] => uri,
            many => return Err(Refusal::CertificateUris { found: many.len() }),
        };
        if !uri.get(.."spiffe:".len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:")) {
            return Ok(None);
        }
        let spiffe_id: SpiffeId = uri.parse().map_err(|_| Refusal::SpiffeId { found: quote(uri) })?;
        let expected = rules.trust_domain.as_deref().unwrap_or_default();
        if spiffe_id.trust_domain() != expected {
            let found = spiffe_id.trust_domain().to_owned();
            return Err(Refusal::TrustDomain { expected: expected.to_owned(), found });
        }
        // A workload's name has a path; the bare trust domain is its authority's.
        if spiffe_id.path().is_empty() {
            return Err(Refusal::SpiffeId { found: quote(uri) });
        }
        Ok(Some(spiffe_id))
    }

    /// The common name, else the one DNS name.
    fn client(&self) -> Result<String, Refusal> {
        let what = match (self.common.as_slice(), self.dns.as_slice()) {
            ([name], _) | ([], [name]) => return Ok(name.clone()),
            ([], []) => "it has neither a common name nor a DNS name",
            ([], _) => "it has several DNS names and no common name",
            _ => "it has several common names",
        };
        Err(Refusal::Certificate { what })
    }
}

fn common_names(subject: &X509Name<'_>) -> Result<Vec<String>, Refusal> {
    let what = "its common name is in an encoding that is not read";
    subject
        .iter_common_name()
        .map(|name| readable(name.as_str().map_err(|_| Refusal::Certificate { what })?))
        .collect()
}

/// A NUL in a name ends it for one reader and not for another (CVE-2026-47778).
fn readable(name: &str) -> Result<String, Refusal> {
    if name.is_empty() || name.chars().any(char::is_control) {
        return Err(Refusal::Certificate { what: "a name in it is empty or has control characters" });
    }
    if name.len() > CERTIFICATE_NAME_BYTES_MAX && !name.starts_with("spiffe://") {
        return Err(Refusal::Certificate { what: "a name in it is too long" });
    }
    Ok(name.to_owned())
}
