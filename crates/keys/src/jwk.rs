//! Public keys (JSON Web Key, RFC 7517; PEM): parsed once, bound to one algorithm.

use aws_lc_rs::signature::{ParsedPublicKey, RsaPublicKeyComponents};
use serde_json::{Map, Value};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::algorithm::Algorithm;
use crate::digest::sha256;
use crate::encoding::{decode_base64url, encode_base64url, parse_object, quote};
use crate::error::Error;
use crate::jws::{Unverified, Verified};
use crate::refusal::Refusal;
use crate::roca;

/// Smallest RSA modulus, bits (RFC 7518 §3.3).
pub(crate) const RSA_BITS_MIN: usize = 2048;
/// Largest RSA modulus, bits: verification costs grow with its square.
pub(crate) const RSA_BITS_MAX: usize = 8192;
/// Largest document that is read as a key set, bytes.
pub const JWKS_BYTES_MAX: usize = 256 * 1024;
/// Most keys in one set, usable or not.
pub const JWKS_KEYS_MAX: usize = 100;
/// Longest `kid`, bytes.
pub const KEY_ID_BYTES_MAX: usize = 512;

/// A public key that verifies signatures of exactly one algorithm.
///
/// INVARIANT: the algorithm is fixed when the key is parsed, from the key. A token's
/// header can agree with it or be refused; it never chooses. Symmetric keys cannot be
/// represented, so a public key can never serve as an HMAC secret.
#[derive(Debug)]
pub struct VerifyingKey {
    key_id: Option<String>,
    algorithm: Algorithm,
    key: ParsedPublicKey,
}

impl VerifyingKey {
    /// From the members of a JWK. A key without `alg` gets the one that its type and
    /// curve imply; an RSA key RS256 if that is in `allowed`, else the first RSA
    /// algorithm there.
    ///
    /// # Errors
    /// The text says why the key cannot be used here: symmetric, private, for
    /// encryption, of an algorithm that is unknown, not allowed or not its own,
    /// weak, or not a valid point.
    pub fn from_jwk(jwk: &Map<String, Value>, allowed: &[Algorithm]) -> Result<Self, Error> {
        let key_id = optional_text(jwk, "kid").map_err(|why| fault("", why))?;
        let name = key_id.unwrap_or("without kid");
        if name.len() > KEY_ID_BYTES_MAX {
            return Err(fault("", format!("kid has more than {KEY_ID_BYTES_MAX} bytes")));
        }
        let (algorithm, key) = parse_jwk(jwk, allowed).map_err(|why| fault(name, why))?;
        Ok(Self { key_id: key_id.map(str::to_owned), algorithm, key })
    }

    /// From the DER of a SubjectPublicKeyInfo (RFC 5280 §4.1.2.7), without a `kid`.
    ///
    /// # Errors
    /// As for [`Self::from_jwk`].
    pub fn from_spki(der: &[u8], allowed: &[Algorithm]) -> Result<Self, Error> {
        let (algorithm, key) = parse_spki(der, allowed).map_err(|why| fault("(PEM)", why))?;
        Ok(Self { key_id: None, algorithm, key })
    }

    /// Its `kid`.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Its one algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether `signature` is this key's over `message`.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.key.verify_sig(message, signature).is_ok()
    }

    /// A copy that shares no memory with this one, for another core.
    fn own_copy(&self) -> Self {
        let again = ParsedPublicKey::new(self.algorithm.verification(), self.key.as_ref());
        Self {
            key_id: self.key_id.clone(),
            algorithm: self.algorithm,
            key: again.unwrap_or_else(|_| self.key.clone()),
        }
    }

    fn same_as(&self, other: &Self) -> bool {
        self.key_id == other.key_id
            && self.algorithm == other.algorithm
            && self.key.as_ref() == other.key.as_ref()
    }
}

/// The usable keys of one issuer.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<VerifyingKey>,
    /// Pinned by the operator: a key without `kid` then stands for any `kid`.
    pinned: bool,
}

/// What of a token's header names a key.
#[derive(Debug)]
enum Lookup<'a> {
    /// These keys could have signed: one by `kid`, or all of the algorithm.
    Keys(Vec<&'a VerifyingKey>),
    /// The one pinned key is for another algorithm.
    OtherAlgorithm(Algorithm),
    /// No key has this `kid`, or without a `kid` no key has the algorithm.
    Unknown,
    /// Too many keys could be meant.
    Ambiguous(usize),
}

/// Most keys that are tried for a token without `kid`: each costs a verification.
pub const KEYS_TRIED_MAX: usize = 4;

impl PartialEq for KeySet {
    fn eq(&self, other: &Self) -> bool {
        self.pinned == other.pinned && self.same_as(other)
    }
}

impl KeySet {
    /// Parses a JWK Set (RFC 7517 §5). Keys that cannot be used are left out and named
    /// in the second part of the result, as §5 asks; two keys of one `kid` make the
    /// whole set unusable, because which of them is meant would be a guess.
    ///
    /// # Errors
    /// Not a JWK Set, over a limit, ambiguous, or without any usable key.
    pub fn parse(document: &[u8], allowed: &[Algorithm]) -> Result<(Self, Vec<String>), Error> {
        if document.len() > JWKS_BYTES_MAX {
            let bytes = document.len();
            return Err(Error::KeySet(format!("{bytes} bytes, at most {JWKS_BYTES_MAX} are read")));
        }
        let set = parse_object(document)
            .map_err(|error| Error::KeySet(format!("expected a JWK Set as strict JSON: {error}")))?;
        let Some(Value::Array(list)) = set.get("keys") else {
            return Err(Error::KeySet("expected a member `keys` with a list of keys".to_owned()));
        };
        if list.len() > JWKS_KEYS_MAX {
            return Err(Error::KeySet(format!("{} keys, at most {JWKS_KEYS_MAX} are read", list.len())));
        }
        let mut keys = Vec::new();
        let mut skipped = Vec::new();
        for jwk in list {
            let parsed = match jwk {
                Value::Object(jwk) => VerifyingKey::from_jwk(jwk, allowed),
                _ => Err(fault("", "expected an object".to_owned())),
            };
            match parsed {
                Ok(key) => keys.push(key),
                Err(error) => skipped.push(error.to_string()),
            }
        }
        Self::checked(keys, &skipped).map(|set| (set, skipped))
    }

    /// Parses keys that the operator pinned: a JWK, a JWK Set, or PEM with one public
    /// key. Here every key must be usable.
    ///
    /// # Errors
    /// As for [`Self::parse`], and any key that cannot be used.
    pub fn parse_pinned(text: &[u8], allowed: &[Algorithm]) -> Result<Self, Error> {
        let set = if text.trim_ascii_start().starts_with(b"-----BEGIN") {
            let (_, pem) = x509_parser::pem::parse_x509_pem(text)
                .map_err(|error| Error::KeySet(format!("expected PEM: {error}")))?;
            if pem.label != "PUBLIC KEY" {
                let label = quote(&pem.label);
                return Err(Error::KeySet(format!("expected PEM of a PUBLIC KEY, found {label}")));
            }
            Self { keys: vec![VerifyingKey::from_spki(&pem.contents, allowed)?], pinned: true }
        } else {
            let members = parse_object(text)
                .map_err(|error| Error::KeySet(format!("expected a JWK, a JWK Set or PEM: {error}")))?;
            if members.contains_key("keys") {
                match Self::parse(text, allowed)? {
                    (set, skipped) if skipped.is_empty() => Self { pinned: true, ..set },
                    (_, skipped) => return Err(Error::KeySet(skipped.join("; "))),
                }
            } else {
                Self { keys: vec![VerifyingKey::from_jwk(&members, allowed)?], pinned: true }
            }
        };
        Ok(set)
    }

    fn checked(keys: Vec<VerifyingKey>, skipped: &[String]) -> Result<Self, Error> {
        for (place, key) in keys.iter().enumerate() {
            if key.key_id.is_some() && keys.iter().skip(place + 1).any(|other| other.key_id == key.key_id) {
                let name = quote(key.key_id().unwrap_or_default());
                return Err(Error::KeySet(format!("two keys have kid \"{name}\"")));
            }
        }
        if keys.is_empty() {
            let reasons = if skipped.is_empty() { "it is empty".to_owned() } else { skipped.join("; ") };
            return Err(Error::KeySet(format!("no usable key: {reasons}")));
        }
        Ok(Self { keys, pinned: false })
    }

    /// How many keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The keys.
    pub fn keys(&self) -> &[VerifyingKey] {
        &self.keys
    }

    pub(crate) fn own_copy(&self) -> Self {
        Self { keys: self.keys.iter().map(VerifyingKey::own_copy).collect(), pinned: self.pinned }
    }

    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.keys.len() == other.keys.len()
            && self.keys.iter().zip(&other.keys).all(|(one, two)| one.same_as(two))
    }

    /// Verifies a token of `issuer` with the keys that it can mean.
    ///
    /// # Errors
    /// [`Refusal::KeyUnknown`], [`Refusal::KeyAmbiguous`], [`Refusal::AlgorithmOfKey`],
    /// [`Refusal::Signature`].
    pub fn verify(&self, token: Unverified<'_>, issuer: &str) -> Result<Verified, Refusal> {
        match self.find(token.key_id(), token.algorithm()) {
            Lookup::Keys(keys) => token.verify(&keys),
            Lookup::OtherAlgorithm(expected) => {
                Err(Refusal::AlgorithmOfKey { expected, found: token.algorithm() })
            }
            Lookup::Ambiguous(candidates) => Err(Refusal::KeyAmbiguous { candidates }),
            Lookup::Unknown => Err(Refusal::KeyUnknown {
                key_id: quote(token.key_id().unwrap_or_default()),
                issuer: quote(issuer),
            }),
        }
    }

    /// Which keys a header with this `kid` and `alg` means.
    fn find(&self, key_id: Option<&str>, algorithm: Algorithm) -> Lookup<'_> {
        if let Some(key_id) = key_id {
            // Of whatever algorithm: verifying refuses a header that does not agree.
            if let Some(key) = self.keys.iter().find(|key| key.key_id() == Some(key_id)) {
                return Lookup::Keys(vec![key]);
            }
            if !self.pinned {
                return Lookup::Unknown;
            }
        }
        let nameless_only = key_id.is_some();
        let candidates: Vec<&VerifyingKey> = self
            .keys
            .iter()
            .filter(|key| key.algorithm == algorithm && (!nameless_only || key.key_id.is_none()))
            .collect();
        match (candidates.len(), self.keys.as_slice()) {
            (0, [only]) if self.pinned && (!nameless_only || only.key_id.is_none()) => {
                Lookup::OtherAlgorithm(only.algorithm)
            }
            (0, _) => Lookup::Unknown,
            (1..=KEYS_TRIED_MAX, _) => Lookup::Keys(candidates),
            (many, _) => Lookup::Ambiguous(many),
        }
    }
}

/// The thumbprint of a public key (RFC 7638 §3, RFC 8037 §2): SHA-256 over its required
/// members, base64url. `None` when one is missing or no text, or the type is unknown.
pub fn thumbprint(jwk: &Map<String, Value>) -> Option<String> {
    let members: &[&str] = match jwk.get("kty")?.as_str()? {
        "RSA" => &["e", "kty", "n"],
        "EC" => &["crv", "kty", "x", "y"],
        "OKP" => &["crv", "kty", "x"],
        _ => return None,
    };
    // In the order of §3.3: a map without order would not do.
    let mut canonical = String::from("{");
    for (place, name) in members.iter().enumerate() {
        let separator = if place == 0 { "" } else { "," };
        let value = Value::String(jwk.get(*name)?.as_str()?.to_owned());
        canonical.push_str(&format!("{separator}\"{name}\":{value}"));
    }
    canonical.push('}');
    Some(encode_base64url(&sha256(canonical.as_bytes())))
}

/// A `SubjectPublicKeyInfo` (DER) as a JWK, with nothing but the key; `None`: it is none of
/// RSA, EC on the curves known here, and Ed25519.
pub fn spki_jwk(der: &[u8]) -> Option<Map<String, Value>> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).ok()?;
    let text = |bytes: &[u8]| Value::String(encode_base64url(bytes));
    let members: Vec<(&str, Value)> = match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let strip = |bytes: &[u8]| {
                let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
                text(bytes.get(zeros..).unwrap_or_default())
            };
            vec![("kty", "RSA".into()), ("n", strip(rsa.modulus)), ("e", strip(rsa.exponent))]
        }
        Ok(PublicKey::EC(point)) => {
            let oid = info.algorithm.parameters.as_ref()?.as_oid().ok()?.to_id_string();
            let curve = Curve::ALL.into_iter().find(|curve| curve.oid == oid)?;
            let (x, y) = point.data().strip_prefix(&[4])?.split_at_checked(curve.bytes)?;
            vec![("kty", "EC".into()), ("crv", curve.name.into()), ("x", text(x)), ("y", text(y))]
        }
        _ if info.algorithm.algorithm.to_id_string() == "1.3.101.112" => {
            let x = text(&info.subject_public_key.data);
            vec![("kty", "OKP".into()), ("crv", "Ed25519".into()), ("x", x)]
        }
        _ => return None,
    };
    Some(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn fault(name: &str, why: String) -> Error {
    Error::Key { key_id: format!("\"{}\"", quote(name)), why }
}

fn optional_text<'a>(jwk: &'a Map<String, Value>, name: &str) -> Result<Option<&'a str>, String> {
    match jwk.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(format!("`{name}` is not a text")),
    }
}

fn required_bytes(jwk: &Map<String, Value>, name: &str) -> Result<Vec<u8>, String> {
    let text = optional_text(jwk, name)?.ok_or_else(|| format!("`{name}` is missing"))?;
    decode_base64url(text.as_bytes()).ok_or_else(|| format!("`{name}` is not base64url"))
}

/// RFC 7517 §4.2 and §4.3: a key meant for something else must not verify.
fn check_use(jwk: &Map<String, Value>) -> Result<(), String> {
    match optional_text(jwk, "use")? {
        None | Some("sig") => {}
        Some(other) => return Err(format!("`use` is \"{}\", expected \"sig\"", quote(other))),
    }
    match jwk.get("key_ops") {
        None => {}
        Some(Value::Array(operations)) if operations.iter().any(|operation| operation == "verify") => {}
        Some(_) => return Err("`key_ops` does not hold \"verify\"".to_owned()),
    }
    // A published private key is in everybody's hands.
    if jwk.contains_key("d") || jwk.contains_key("k") {
        return Err("it holds secret parts; expected a public key".to_owned());
    }
    Ok(())
}

fn parse_jwk(
    jwk: &Map<String, Value>,
    allowed: &[Algorithm],
) -> Result<(Algorithm, ParsedPublicKey), String> {
    let key_type = optional_text(jwk, "kty")?.ok_or("`kty` is missing")?;
    if key_type == "oct" {
        return Err("`kty` is \"oct\": symmetric keys are never used to verify tokens".to_owned());
    }
    check_use(jwk)?;
    let named = optional_text(jwk, "alg")?
        .map(|name| name.parse::<Algorithm>().map_err(|error| format!("alg \"{}\": {error}", quote(name))))
        .transpose()?;
    match key_type {
        "RSA" => {
            let (n, e) = (required_bytes(jwk, "n")?, required_bytes(jwk, "e")?);
            rsa_key(&n, &e, named, allowed)
        }
        "EC" => {
            let curve = optional_text(jwk, "crv")?.ok_or("`crv` is missing")?;
            let curve = Curve::ALL
                .into_iter()
                .find(|known| known.name == curve)
                .ok_or_else(|| format!("`crv` is \"{}\", expected P-256, P-384 or P-521", quote(curve)))?;
            let (x, y) = (required_bytes(jwk, "x")?, required_bytes(jwk, "y")?);
            // RFC 7518 §6.2.1.2: full length, leading zeros included.
            if x.len() != curve.bytes || y.len() != curve.bytes {
                let (bytes, name) = (curve.bytes, curve.name);
                return Err(format!("`x` and `y` must have {bytes} bytes each on {name}"));
            }
            ec_key(curve, &[&[4][..], &x, &y].concat(), named, allowed)
        }
        "OKP" => match optional_text(jwk, "crv")? {
            Some("Ed25519") => ed25519_key(&required_bytes(jwk, "x")?, named, allowed),
            _ => Err("`crv` of an OKP key must be Ed25519".to_owned()),
        },
        other => Err(format!("`kty` is \"{}\", expected RSA, EC or OKP", quote(other))),
    }
}

fn parse_spki(der: &[u8], allowed: &[Algorithm]) -> Result<(Algorithm, ParsedPublicKey), String> {
    let (rest, info) = SubjectPublicKeyInfo::from_der(der)
        .map_err(|error| format!("not a SubjectPublicKeyInfo: {error}"))?;
    if !rest.is_empty() {
        return Err("bytes behind the SubjectPublicKeyInfo".to_owned());
    }
    if info.algorithm.algorithm.to_id_string() == "1.3.101.112" {
        return ed25519_key(&info.subject_public_key.data, None, allowed);
    }
    match info.parsed() {
        Ok(PublicKey::RSA(rsa)) => {
            let strip =
                |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
            rsa_key(&strip(rsa.modulus), &strip(rsa.exponent), None, allowed)
        }
        Ok(PublicKey::EC(point)) => {
            let point = point.data();
            let curve = info.algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
            let curve = curve.map(|oid| oid.to_id_string());
            let curve = Curve::ALL
                .into_iter()
                .find(|known| curve.as_deref() == Some(known.oid))
                .ok_or("its curve is none of P-256, P-384 and P-521")?;
            if point.len() != 2 * curve.bytes + 1 || point.first() != Some(&4) {
                return Err("expected an uncompressed point".to_owned());
            }
            ec_key(curve, point, None, allowed)
        }
        _ => Err("expected an RSA, EC or Ed25519 key".to_owned()),
    }
}

#[derive(Clone, Copy)]
struct Curve {
    name: &'static str,
    oid: &'static str,
    bytes: usize,
    algorithm: Algorithm,
}

impl Curve {
    const ALL: [Self; 3] = [
        Self { name: "P-256", oid: "1.2.840.10045.3.1.7", bytes: 32, algorithm: Algorithm::Es256 },
        Self { name: "P-384", oid: "1.3.132.0.34", bytes: 48, algorithm: Algorithm::Es384 },
        Self { name: "P-521", oid: "1.3.132.0.35", bytes: 66, algorithm: Algorithm::Es512 },
    ];
}

/// The one algorithm: what the key type implies, which `alg` may only repeat.
fn implied(implied: Algorithm, named: Option<Algorithm>, allowed: &[Algorithm]) -> Result<Algorithm, String> {
    match named {
        Some(named) if named != implied => Err(format!("alg {named} on a key for {implied}")),
        _ if !allowed.contains(&implied) => Err(format!("{implied} is not among the issuer's `algorithms`")),
        _ => Ok(implied),
    }
}

fn rsa_key(
    n: &[u8],
    e: &[u8],
    named: Option<Algorithm>,
    allowed: &[Algorithm],
) -> Result<(Algorithm, ParsedPublicKey), String> {
    let of_rsa = |algorithm: &Algorithm| algorithm.rsa().is_some();
    let algorithm = match named {
        Some(named) => named,
        None if allowed.contains(&Algorithm::Rs256) => Algorithm::Rs256,
        None => allowed.iter().copied().find(of_rsa).ok_or("the issuer's `algorithms` hold none for RSA")?,
    };
    let parameters = algorithm.rsa().ok_or_else(|| format!("alg {algorithm} on an RSA key"))?;
    if !allowed.contains(&algorithm) {
        return Err(format!("{algorithm} is not among the issuer's `algorithms`"));
    }
    let top = n.first().copied().unwrap_or_default();
    let bits = (n.len() * 8).saturating_sub(top.leading_zeros() as usize);
    if top == 0 || !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(format!("modulus of {bits} bits, expected {RSA_BITS_MIN} to {RSA_BITS_MAX}"));
    }
    // An exponent of 1 makes every text its own signature; an even one is no RSA key;
    // one over 64 bits only costs time (the library refuses over 33 bits as well).
    let exponent = e.iter().try_fold(0_u64, |sum, byte| sum.checked_mul(256)?.checked_add(u64::from(*byte)));
    if !exponent.is_some_and(|exponent| exponent >= 3 && exponent % 2 == 1) || e.first() == Some(&0) {
        return Err("public exponent must be odd, at least 3 and short".to_owned());
    }
    if roca::is_vulnerable(n) {
        return Err("modulus made by a broken generator (ROCA, CVE-2017-15361)".to_owned());
    }
    RsaPublicKeyComponents { n, e }
        .to_parsed_public_key(parameters)
        .map(|key| (algorithm, key))
        .map_err(|_| "not a valid RSA key".to_owned())
}

fn ec_key(
    curve: Curve,
    point: &[u8],
    named: Option<Algorithm>,
    allowed: &[Algorithm],
) -> Result<(Algorithm, ParsedPublicKey), String> {
    let algorithm = implied(curve.algorithm, named, allowed)?;
    ParsedPublicKey::new(algorithm.verification(), point)
        .map(|key| (algorithm, key))
        .map_err(|_| format!("not a point on {}", curve.name))
}

fn ed25519_key(
    x: &[u8],
    named: Option<Algorithm>,
    allowed: &[Algorithm],
) -> Result<(Algorithm, ParsedPublicKey), String> {
    let algorithm = implied(Algorithm::EdDsa, named, allowed)?;
    if x.len() != 32 {
        return Err(format!("`x` has {} bytes, an Ed25519 key has 32", x.len()));
    }
    ParsedPublicKey::new(algorithm.verification(), x)
        .map(|key| (algorithm, key))
        .map_err(|_| "not an Ed25519 key".to_owned())
}
