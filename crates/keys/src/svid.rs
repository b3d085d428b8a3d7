//! Authorities of a SPIFFE trust domain, and the X.509-SVIDs that they sign.
//!
//! The private key stays behind a [`Signer`]: nothing here sees it. Times and random
//! numbers are arguments. What a workload may be called is decided by who asks for the
//! document: what a workload sends for it is its public key alone.

use std::sync::Arc;

use aws_lc_rs::rand::SecureRandom;
use model::{SpiffeId, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm, SigningKey, SubjectPublicKeyInfo,
};
use rustls_pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::algorithm::Algorithm;
pub use crate::ca::BACKDATE;
use crate::ca::{calendar, serial};
use crate::certificate::CERTIFICATE_BYTES_MAX;
use crate::encoding::hex;
use crate::error::Error;
use crate::signer::Signer;

/// Largest public key that is read, bytes.
pub(crate) const SPKI_BYTES_MAX: usize = 16 * 1024;

/// The public key of a workload: what a certificate for it is issued to.
#[derive(Clone, Debug)]
pub struct WorkloadKey(Arc<SubjectPublicKeyInfo>);

impl WorkloadKey {
    /// From a DER `SubjectPublicKeyInfo`: whoever calls this has the private key.
    ///
    /// # Errors
    /// [`Error::Request`]: neither ECDSA on P-256 or P-384 nor Ed25519.
    pub fn from_spki(der: &[u8]) -> Result<Self, Error> {
        let refused = || Error::Request("expected a P-256, P-384 or Ed25519 public key".to_owned());
        if der.len() > SPKI_BYTES_MAX {
            return Err(refused());
        }
        let key = SubjectPublicKeyInfo::from_der(der).map_err(|_| refused())?;
        let known = [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519];
        match known.contains(&key.algorithm()) {
            true => Ok(Self(Arc::new(key))),
            false => Err(refused()),
        }
    }

    /// The public key of a signer that was made for a workload.
    ///
    /// # Errors
    /// As [`Self::from_spki`].
    pub fn of(signer: Arc<dyn Signer>) -> Result<Self, Error> {
        Self::from_spki(&CertificateSigner::new(signer)?.subject_public_key_info())
    }

    /// The DER `SubjectPublicKeyInfo`.
    pub fn to_spki(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }
}

/// What an authority's certificate says.
#[derive(Clone, Copy, Debug)]
pub struct AuthorityTerms<'a> {
    /// Its trust domain: the one URI name of the certificate (X509-SVID §2).
    pub trust_domain: &'a str,
    /// First moment; the certificate begins an hour earlier, for clocks that are behind.
    pub from: Timestamp,
    /// Last moment.
    pub until: Timestamp,
    /// Whether it signs further authorities, or workloads alone.
    pub signs_authorities: bool,
}

/// An authority: its certificate, and the signer of its key.
pub struct X509Authority {
    certificate: Vec<u8>,
    issuer: Issuer<'static, CertificateSigner>,
    not_after: Timestamp,
}

impl std::fmt::Debug for X509Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("X509Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// A workload's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct X509Svid {
    /// DER.
    pub certificate: Vec<u8>,
    /// Serial number, lower-case hexadecimal.
    pub serial: String,
    /// Last second at which it is valid.
    pub not_after: Timestamp,
}

impl X509Authority {
    /// An authority that is its own root.
    ///
    /// # Errors
    /// The signer or the generator fails, or the trust domain is none.
    pub fn self_signed(
        signer: Arc<dyn Signer>,
        terms: &AuthorityTerms<'_>,
        random: &dyn SecureRandom,
    ) -> Result<Self, Error> {
        let key = CertificateSigner::new(signer)?;
        let params = authority_params(terms, random)?;
        let certificate = params.self_signed(&key).map_err(|_| Error::Cryptography("signing"))?;
        Self::new(certificate.der().to_vec(), key)
    }

    /// An authority below this one. It never outlives this one.
    ///
    /// # Errors
    /// As [`Self::self_signed`].
    pub fn subordinate(
        &self,
        signer: Arc<dyn Signer>,
        terms: &AuthorityTerms<'_>,
        random: &dyn SecureRandom,
    ) -> Result<Self, Error> {
        let key = CertificateSigner::new(signer)?;
        let terms = AuthorityTerms { until: terms.until.min(self.not_after), ..*terms };
        let mut params = authority_params(&terms, random)?;
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer).map_err(|_| Error::Cryptography("signing"))?;
        Self::new(certificate.der().to_vec(), key)
    }

    /// From a kept certificate (DER) and its key.
    ///
    /// # Errors
    /// [`Error::Request`]: it is not the certificate of this key, or no authority's.
    pub fn from_parts(certificate: Vec<u8>, signer: Arc<dyn Signer>) -> Result<Self, Error> {
        Self::new(certificate, CertificateSigner::new(signer)?)
    }

    fn new(certificate: Vec<u8>, key: CertificateSigner) -> Result<Self, Error> {
        let refused = |what: &str| Error::Request(format!("the authority's certificate {what}"));
        if certificate.len() > CERTIFICATE_BYTES_MAX {
            return Err(refused("is too large"));
        }
        let (_, parsed) = X509Certificate::from_der(&certificate).map_err(|_| refused("is not X.509"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public.as_slice() {
            return Err(refused("is not its key's"));
        }
        let may_sign = parsed.key_usage().ok().flatten().is_some_and(|usage| usage.value.key_cert_sign());
        if !parsed.is_ca() || !may_sign {
            return Err(refused("may not sign certificates"));
        }
        let not_after = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
        let issuer = Issuer::from_ca_cert_der(&CertificateDer::from(certificate.as_slice()), key);
        let issuer = issuer.map_err(|_| refused("has names that cannot be read"))?;
        Ok(Self { certificate, issuer, not_after: Timestamp::from_unix_seconds(not_after) })
    }

    /// DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Last second at which it is valid.
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Makes an X.509-SVID: exactly one URI name, digital signatures alone, for clients
    /// and servers. It never outlives the authority.
    ///
    /// # Errors
    /// [`Error::Request`]: the name has no path, or the authority has ended.
    /// [`Error::Cryptography`].
    pub fn issue(
        &self,
        id: &SpiffeId,
        key: &WorkloadKey,
        now: Timestamp,
        lifetime: std::time::Duration,
        random: &dyn SecureRandom,
    ) -> Result<X509Svid, Error> {
        if id.path().is_empty() {
            return Err(Error::Request(format!("{id} is the trust domain, not a workload in it")));
        }
        // Certificates know whole seconds.
        let end = now.plus(lifetime).min(self.not_after).unix_seconds();
        if end <= now.unix_seconds() {
            return Err(Error::Request("the authority has ended".to_owned()));
        }
        let not_after = Timestamp::from_unix_seconds(end);
        let serial = serial(random)?;
        let mut params = CertificateParams::default();
        // RFC 5280 §4.2.1.6: an empty subject makes the alternative names critical, which
        // some readers refuse; X509-SVID lets the subject be anything.
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, "Bastide");
        params.subject_alt_names = vec![uri(id.as_str())?];
        params.not_before = calendar(now.minus(BACKDATE))?;
        params.not_after = calendar(not_after)?;
        params.serial_number = Some(serial.clone());
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(key.0.as_ref(), &self.issuer)
            .map_err(|_| Error::Cryptography("issuing a certificate"))?;
        Ok(X509Svid { certificate: certificate.der().to_vec(), serial: hex(serial.as_ref()), not_after })
    }
}

/// Certificates one behind the other (DER), apart; `None`: they are not that, or none.
pub fn split_certificates(mut der: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut certificates = Vec::new();
    while !der.is_empty() {
        let (rest, _) = X509Certificate::from_der(der).ok()?;
        let length = der.len().checked_sub(rest.len())?;
        certificates.push(der.get(..length)?.to_vec());
        der = rest;
    }
    (!certificates.is_empty()).then_some(certificates)
}

fn uri(text: &str) -> Result<SanType, Error> {
    Ia5String::try_from(text).map(SanType::URI).map_err(|error| Error::Request(error.to_string()))
}

fn authority_params(
    terms: &AuthorityTerms<'_>,
    random: &dyn SecureRandom,
) -> Result<CertificateParams, Error> {
    let id = format!("spiffe://{}", terms.trust_domain);
    id.parse::<SpiffeId>().map_err(|error| Error::Request(error.to_string()))?;
    let number = serial(random)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Bastide");
    // Verifiers find an authority by its subject: each has its own.
    let name = hex(number.as_ref());
    params.distinguished_name.push(DnType::CommonName, name.get(..16).unwrap_or_default());
    params.subject_alt_names = vec![uri(&id)?];
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(u8::from(terms.signs_authorities)));
    params.not_before = calendar(terms.from.minus(BACKDATE))?;
    params.not_after = calendar(terms.until)?;
    params.serial_number = Some(number);
    Ok(params)
}

/// A [`Signer`] as the certificate library wants it.
struct CertificateSigner {
    signer: Arc<dyn Signer>,
    public: Vec<u8>,
    algorithm: &'static SignatureAlgorithm,
}

impl CertificateSigner {
    fn new(signer: Arc<dyn Signer>) -> Result<Self, Error> {
        let algorithm = match signer.algorithm() {
            Algorithm::Es256 => &rcgen::PKCS_ECDSA_P256_SHA256,
            Algorithm::EdDsa => &rcgen::PKCS_ED25519,
            Algorithm::Rs256 => &rcgen::PKCS_RSA_SHA256,
            other => {
                let what = format!("expected ES256, EdDSA or RS256 to sign certificates, found {other}");
                return Err(Error::Request(what));
            }
        };
        let public = signer.public_key_bits();
        Ok(Self { signer, public, algorithm })
    }
}

impl PublicKeyData for CertificateSigner {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.algorithm
    }
}

impl SigningKey for CertificateSigner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.signer.sign(message).map_err(|_| rcgen::Error::RemoteKeyError)?;
        match self.signer.algorithm() {
            Algorithm::Es256 => ecdsa_value(&signature).ok_or(rcgen::Error::RemoteKeyError),
            _ => Ok(signature),
        }
    }
}

/// `r || s` (RFC 7518 §3.4) as the `ECDSA-Sig-Value` of RFC 3279 §2.2.3. Of P-256, so
/// that every length fits one byte.
fn ecdsa_value(fixed: &[u8]) -> Option<Vec<u8>> {
    if fixed.len() != 64 {
        return None;
    }
    let mut body = Vec::with_capacity(72);
    for number in fixed.chunks(32) {
        let zeros = number.iter().take_while(|byte| **byte == 0).count().min(31);
        let digits = number.get(zeros..)?;
        // A leading bit would make it negative.
        let pad = digits.first().is_some_and(|byte| *byte >= 0x80);
        body.push(0x02);
        body.push(u8::try_from(digits.len()).ok()? + u8::from(pad));
        if pad {
            body.push(0);
        }
        body.extend_from_slice(digits);
    }
    let mut value = vec![0x30, u8::try_from(body.len()).ok()?];
    value.append(&mut body);
    Some(value)
}

#[cfg(test)]
mod tests;
