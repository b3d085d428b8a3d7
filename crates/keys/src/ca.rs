//! The local certificate authority: for `tls: { local: true }` and the demo.
//!
//! Made on first use in a folder: `ca.pem` and `ca.key` (mode 600). Whoever trusts
//! `ca.pem` trusts everything that this key signs, so it is for development machines.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use model::{Secret, Timestamp};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};
use zeroize::Zeroizing;

use crate::digest::sha256;
use crate::encoding::{hex, quote};
use crate::error::Error;
use crate::file::{Lock, read_bounded, read_secret, replace};

/// How long the authority is valid.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How long a leaf is valid.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(90 * 86_400);
/// A leaf is replaced when less than this is left of it.
pub const LEAF_RENEW_BEFORE: Duration = Duration::from_secs(30 * 86_400);
/// Certificates start this much in the past, for clients whose clock is behind.
pub const BACKDATE: Duration = Duration::from_secs(3600);
/// Most names of one leaf.
pub const LEAF_NAMES_MAX: usize = 1_000;
/// Largest PEM file that is read, bytes.
const PEM_BYTES_MAX: usize = 1024 * 1024;

/// A certificate with its key.
pub struct Leaf {
    /// The leaf and the authority's certificate, PEM.
    pub chain_pem: String,
    /// The private key, PKCS #8 PEM.
    pub key_pem: Secret<String>,
    /// When it ends.
    pub not_after: Timestamp,
}

impl std::fmt::Debug for Leaf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Leaf").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

/// The authority of one folder.
pub struct LocalCa {
    folder: PathBuf,
    certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
    not_after: Timestamp,
}

impl std::fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalCa").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl LocalCa {
    /// The authority in this folder, made when there is none. Several processes that
    /// start at once get the same one.
    ///
    /// # Errors
    /// A file cannot be read or written, others may read the key, the two files do not
    /// belong together, or the authority has ended.
    pub fn open_or_create(folder: &Path, now: Timestamp, random: &dyn SecureRandom) -> Result<Self, Error> {
        let (certificate_path, key_path) = (folder.join("ca.pem"), folder.join("ca.key"));
        let _lock = Lock::take(&key_path)?;
        let ca = match read_secret(&key_path, PEM_BYTES_MAX)? {
            Some(key_pem) => Self::open(folder, &certificate_path, &key_path, &key_pem)?,
            None if certificate_path.exists() => {
                let why = format!(
                    "it is there, but its key {} is not; restore it or remove this",
                    key_path.display()
                );
                return Err(Error::Content { path: certificate_path, why });
            }
            None => {
                let key = new_key(random)?;
                let params = ca_params(&key, now, random)?;
                let certificate = params.self_signed(&key).map_err(|_| Error::Cryptography("signing"))?;
                let key_pem = Zeroizing::new(key.serialize_pem());
                // The certificate last: with it the pair is whole, and a key alone is
                // refused above rather than guessed about.
                replace(&key_path, key_pem.as_bytes(), 0o600, random)?;
                replace(&certificate_path, certificate.pem().as_bytes(), 0o644, random)?;
                let not_after = now.plus(CA_LIFETIME);
                let certificate_pem = certificate.pem();
                Self {
                    folder: folder.to_owned(),
                    certificate_pem,
                    issuer: Issuer::new(params, key),
                    not_after,
                }
            }
        };
        if ca.not_after <= now {
            let why = "the local authority has ended; remove ca.pem and ca.key to get a new one".to_owned();
            return Err(Error::Content { path: certificate_path, why });
        }
        Ok(ca)
    }

    fn open(folder: &Path, certificate_path: &Path, key_path: &Path, key_pem: &[u8]) -> Result<Self, Error> {
        let content = |path: &Path, why: &str| Error::Content { path: path.to_owned(), why: why.to_owned() };
        let key_pem = std::str::from_utf8(key_pem).map_err(|_| content(key_path, "expected PEM"))?;
        let key =
            KeyPair::from_pem(key_pem).map_err(|_| content(key_path, "expected a PKCS #8 key as PEM"))?;
        let pem = read_bounded(certificate_path, PEM_BYTES_MAX)
            .map_err(|source| Error::File { path: certificate_path.to_owned(), source })?;
        let broken = || content(certificate_path, "expected a certificate as PEM");
        let (_, parsed) = x509_parser::pem::parse_x509_pem(&pem).map_err(|_| broken())?;
        let (_, certificate) = X509Certificate::from_der(&parsed.contents).map_err(|_| broken())?;
        if certificate.public_key().subject_public_key.data.as_ref() != key.der_bytes() {
            return Err(content(certificate_path, "it is not the certificate of the key in ca.key"));
        }
        let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
        Ok(Self {
            folder: folder.to_owned(),
            certificate_pem: String::from_utf8(pem).map_err(|_| broken())?,
            // What issuing needs of the parameters, its name, follows from the key.
            issuer: Issuer::new(ca_name(&key), key),
            not_after: Timestamp::from_unix_seconds(not_after),
        })
    }

    /// The authority's certificate, PEM: what clients must trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Where that lies.
    pub fn certificate_path(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A server certificate for these DNS names (a leading `*.` is fine) and addresses.
    ///
    /// # Errors
    /// No name, too many, or one that is neither.
    pub fn issue_server(
        &self,
        names: &[String],
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<Leaf, Error> {
        let (Some(first), true) = (names.first(), names.len() <= LEAF_NAMES_MAX) else {
            let found = names.len();
            return Err(Error::Request(format!("expected 1 to {LEAF_NAMES_MAX} names, found {found}")));
        };
        let sans = names.iter().map(|name| server_name(name)).collect::<Result<Vec<_>, _>>()?;
        self.issue(first, sans, now, random)
    }

    fn issue(
        &self,
        common: &str,
        sans: Vec<SanType>,
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<Leaf, Error> {
        let key = new_key(random)?;
        // A leaf never outlives its authority.
        let not_after = now.plus(LEAF_LIFETIME).min(self.not_after);
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, cut(common));
        params.subject_alt_names = sans;
        params.not_before = calendar(now.minus(BACKDATE))?;
        params.not_after = calendar(not_after)?;
        params.serial_number = Some(serial(random)?);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate =
            params.signed_by(&key, &self.issuer).map_err(|_| Error::Cryptography("issuing a certificate"))?;
        Ok(Leaf {
            chain_pem: format!("{}{}", certificate.pem(), self.certificate_pem),
            key_pem: Secret::new(key.serialize_pem()),
            not_after,
        })
    }

    /// The server certificate `local.pem` / `local.key` in the authority's folder,
    /// issued anew when it is absent, another authority's, lacks a name, or ends within
    /// [`LEAF_RENEW_BEFORE`].
    ///
    /// # Errors
    /// A file cannot be read or written, or [`Self::issue_server`]'s.
    pub fn server_certificate(
        &self,
        names: &[String],
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<Leaf, Error> {
        let (chain_path, key_path) = (self.folder.join("local.pem"), self.folder.join("local.key"));
        let _lock = Lock::take(&key_path)?;
        if let Some(leaf) = self.kept_leaf(&chain_path, &key_path, names, now)? {
            return Ok(leaf);
        }
        let leaf = self.issue_server(names, now, random)?;
        replace(&key_path, leaf.key_pem.expose().as_bytes(), 0o600, random)?;
        replace(&chain_path, leaf.chain_pem.as_bytes(), 0o644, random)?;
        Ok(leaf)
    }

    fn kept_leaf(
        &self,
        chain_path: &Path,
        key_path: &Path,
        names: &[String],
        now: Timestamp,
    ) -> Result<Option<Leaf>, Error> {
        let Some(key_pem) = read_secret(key_path, PEM_BYTES_MAX)? else { return Ok(None) };
        let Ok(chain) = read_bounded(chain_path, PEM_BYTES_MAX) else { return Ok(None) };
        let (Ok(key_pem), Ok(chain_pem)) = (std::str::from_utf8(&key_pem), String::from_utf8(chain)) else {
            return Ok(None);
        };
        let Ok(key) = KeyPair::from_pem(key_pem) else { return Ok(None) };
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(chain_pem.as_bytes()) else { return Ok(None) };
        let Ok((_, leaf)) = X509Certificate::from_der(&pem.contents) else { return Ok(None) };
        let not_after = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0);
        let not_after = Timestamp::from_unix_seconds(not_after);
        let good = chain_pem.ends_with(&self.certificate_pem)
            && leaf.public_key().subject_public_key.data.as_ref() == key.der_bytes()
            && now.plus(LEAF_RENEW_BEFORE) < not_after
            && names.iter().all(|name| covers(&leaf, name));
        let key_pem = Secret::new(key_pem.to_owned());
        Ok(good.then_some(Leaf { chain_pem, key_pem, not_after }))
    }
}

fn covers(leaf: &X509Certificate<'_>, wanted: &str) -> bool {
    use x509_parser::extensions::GeneralName;
    let address = wanted.parse::<IpAddr>().ok().map(|address| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    });
    let names = leaf.subject_alternative_name().ok().flatten();
    names.is_some_and(|extension| {
        extension.value.general_names.iter().any(|name| match name {
            GeneralName::DNSName(dns) => address.is_none() && dns.eq_ignore_ascii_case(wanted),
            GeneralName::IPAddress(bytes) => address.as_deref() == Some(*bytes),
            _ => false,
        })
    })
}

fn server_name(name: &str) -> Result<SanType, Error> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    let host = name.strip_prefix("*.").unwrap_or(name);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    let refused = || Error::Request(format!("\"{}\" is neither a DNS name nor an address", quote(name)));
    if host.len() > 253 || !host.split('.').all(label) {
        return Err(refused());
    }
    Ia5String::try_from(name).map(SanType::DnsName).map_err(|_| refused())
}

/// RFC 5280 appendix A: a common name has at most 64 characters.
fn cut(name: &str) -> String {
    name.chars().take(64).collect()
}

fn new_key(random: &dyn SecureRandom) -> Result<KeyPair, Error> {
    let failed = || Error::Cryptography("key generation");
    let document =
        EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random).map_err(|_| failed())?;
    KeyPair::try_from(document.as_ref()).map_err(|_| failed())
}

/// 127 random bits (RFC 5280 §4.1.2.2: positive, at most 20 bytes).
pub(crate) fn serial(random: &dyn SecureRandom) -> Result<SerialNumber, Error> {
    let mut bytes = [0; 16];
    random.fill(&mut bytes).map_err(|_| Error::Cryptography("random numbers"))?;
    let [first, ..] = &mut bytes;
    *first = (*first & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

pub(crate) fn calendar(time: Timestamp) -> Result<OffsetDateTime, Error> {
    let seconds = i64::try_from(time.unix_seconds()).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|_| Error::Request("a date that certificates cannot hold".to_owned()))
}

/// The authority's name, told apart from other folders' by its key.
fn ca_name(key: &KeyPair) -> CertificateParams {
    let fingerprint = hex(&sha256(key.der_bytes()));
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    let name = format!("Bastide local authority {}", fingerprint.get(..12).unwrap_or_default());
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages =
        vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params
}

fn ca_params(key: &KeyPair, now: Timestamp, random: &dyn SecureRandom) -> Result<CertificateParams, Error> {
    let mut params = ca_name(key);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.not_before = calendar(now.minus(BACKDATE))?;
    params.not_after = calendar(now.plus(CA_LIFETIME))?;
    params.serial_number = Some(serial(random)?);
    Ok(params)
}
