//! Signing: a trait at the edge, and the local key that implements it.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::rand::SecureRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use model::{Principal, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value, json};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::RSAPublicKey;
use zeroize::Zeroizing;

use crate::algorithm::Algorithm;
use crate::encoding::{encode_base64url, hex, push_base64url};
use crate::error::Error;
use crate::file::{Lock, read_secret, replace};
use crate::user_token::USER_TOKEN_TYPE;

/// Largest key file that is read, bytes.
const KEY_FILE_BYTES_MAX: usize = 16 * 1024;

/// Room for claims at first, bytes: most need no more.
const CLAIMS_BYTES_USUAL: usize = 512;

/// Bytes of a number of P-256.
const P256_BYTES: usize = 32;

/// Signs tokens. Implemented here by a local key; a vault can stand behind it as well.
pub trait Signer: Send + Sync {
    /// The algorithm of its signatures.
    fn algorithm(&self) -> Algorithm;

    /// The `kid` under which its public key is published.
    fn key_id(&self) -> &str;

    /// The public key as a JWK with `kid`, `alg` and `use`.
    fn public_jwk(&self) -> Value;

    /// The public key as the bits of an X.509 `subjectPublicKey` (RFC 5280 §4.1.2.7): a
    /// point, 32 bytes of Ed25519, or an `RSAPublicKey`.
    fn public_key_bits(&self) -> Vec<u8>;

    /// Signs, in the form that JWS wants (RFC 7518 §3.4: `r || s` for ECDSA).
    ///
    /// # Errors
    /// [`Error::Cryptography`], or what the place of the key says.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error>;
}

/// The JWK Set of these signers, for publication (RFC 7517 §5).
pub fn publish(signers: &[&dyn Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.public_jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// Makes a compact JWS of these claims, an object, with this `typ`.
///
/// # Errors
/// What [`Signer::sign`] says.
pub fn sign_token(signer: &dyn Signer, token_type: &str, claims: &impl Serialize) -> Result<String, Error> {
    sign_headed(signer, &TokenHeader::new(signer, token_type)?, claims)
}

/// The same with a header that was written before, by the same signer.
///
/// # Errors
/// What [`Signer::sign`] says.
pub fn sign_headed(
    signer: &dyn Signer,
    header: &TokenHeader,
    claims: &impl Serialize,
) -> Result<String, Error> {
    let mut written = Vec::with_capacity(CLAIMS_BYTES_USUAL);
    serde_json::to_writer(&mut written, claims).map_err(unwritable)?;
    // Four characters for three bytes, two dots, and the signature of an elliptic curve.
    let mut token = String::with_capacity(header.0.len() + written.len() * 4 / 3 + 96);
    token.push_str(&header.0);
    token.push('.');
    push_base64url(&mut token, &written);
    let signature = signer.sign(token.as_bytes())?;
    token.push('.');
    push_base64url(&mut token, &signature);
    Ok(token)
}

/// The header of a signer's tokens of one `typ`, as it stands in them.
#[derive(Clone, Debug)]
pub struct TokenHeader(String);

impl TokenHeader {
    /// With `alg`, `kid` and `typ`, in the order of the bytes of their names.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn new(signer: &dyn Signer, token_type: &str) -> Result<Self, Error> {
        Self::of(&Header { alg: signer.algorithm().name(), kid: signer.key_id(), typ: token_type })
    }

    fn of(header: &impl Serialize) -> Result<Self, Error> {
        serde_json::to_vec(header).map(|header| Self(encode_base64url(&header))).map_err(unwritable)
    }
}

fn unwritable(error: serde_json::Error) -> Error {
    Error::Request(error.to_string())
}

/// The header of every token but those that carry their certificates.
#[derive(Serialize)]
struct Header<'a> {
    alg: &'a str,
    kid: &'a str,
    typ: &'a str,
}

enum Pair {
    Es256(EcdsaKeyPair),
    EdDsa(Ed25519KeyPair),
    Rs256(RsaKeyPair),
}

impl Pair {
    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Es256(_) => Algorithm::Es256,
            Self::EdDsa(_) => Algorithm::EdDsa,
            Self::Rs256(_) => Algorithm::Rs256,
        }
    }
}

/// A private key in this process. Its `kid` is the JWK thumbprint (RFC 7638).
pub struct LocalSigner {
    pair: Pair,
    key_id: String,
    public: Map<String, Value>,
}

impl std::fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalSigner").field("key_id", &self.key_id).finish_non_exhaustive()
    }
}

impl LocalSigner {
    /// A new key, and its PKCS #8 document to keep. An RSA key has 2048 bits and takes
    /// some tens of milliseconds to make.
    ///
    /// # Errors
    /// `algorithm` is none of ES256, EdDSA and RS256; the library fails.
    pub fn generate(
        algorithm: Algorithm,
        random: &dyn SecureRandom,
    ) -> Result<(Self, Zeroizing<Vec<u8>>), Error> {
        let failed = |_| Error::Cryptography("key generation");
        let document = match algorithm {
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, random);
                pair.map_err(failed)?.as_ref().to_vec()
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(random).map_err(failed)?.as_ref().to_vec(),
            Algorithm::Rs256 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?;
                let document: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                document.as_ref().to_vec()
            }
            other => {
                let what = format!("expected ES256, EdDSA or RS256 to sign with, found {other}");
                return Err(Error::Request(what));
            }
        };
        let document = Zeroizing::new(document);
        Ok((Self::from_pkcs8(&document)?, document))
    }

    /// From a PKCS #8 document (DER) with a P-256, Ed25519 or RSA key (2048 bits or more).
    ///
    /// # Errors
    /// [`Error::Key`] for anything else.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, Error> {
        if let Ok(pair) = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, document) {
            let point = pair.public_key().as_ref();
            let (x, y) = (point.get(1..33).unwrap_or_default(), point.get(33..).unwrap_or_default());
            // Members in the order of RFC 7638 §3.3: its thumbprint is over this text.
            let (x, y) = (encode_base64url(x), encode_base64url(y));
            let canonical = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
            let public = json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y });
            return Ok(Self::new(Pair::Es256(pair), &canonical, public));
        }
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(document) {
            let x = encode_base64url(pair.public_key().as_ref());
            let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}"#);
            let public = json!({ "kty": "OKP", "crv": "Ed25519", "x": x });
            return Ok(Self::new(Pair::EdDsa(pair), &canonical, public));
        }
        if let Ok(pair) = RsaKeyPair::from_pkcs8(document)
            && let Ok((_, public)) = RSAPublicKey::from_der(pair.public_key().as_ref())
        {
            let text = |number: &[u8]| {
                let zeros = number.iter().take_while(|byte| **byte == 0).count();
                encode_base64url(number.get(zeros..).unwrap_or_default())
            };
            let (e, n) = (text(public.exponent), text(public.modulus));
            let canonical = format!(r#"{{"e":"{e}","kty":"RSA","n":"{n}"}}"#);
            let public = json!({ "kty": "RSA", "n": n, "e": e });
            return Ok(Self::new(Pair::Rs256(pair), &canonical, public));
        }
        let why = "expected a PKCS #8 document with a P-256, Ed25519 or RSA key".to_owned();
        Err(Error::Key { key_id: "to sign with".to_owned(), why })
    }

    fn new(pair: Pair, canonical: &str, public: Value) -> Self {
        let key_id = encode_base64url(digest(&SHA256, canonical.as_bytes()).as_ref());
        let algorithm = pair.algorithm();
        let mut public = public.as_object().cloned().unwrap_or_default();
        for (name, value) in [("kid", key_id.as_str()), ("alg", algorithm.name()), ("use", "sig")] {
            public.insert(name.to_owned(), Value::String(value.to_owned()));
        }
        Self { pair, key_id, public }
    }

    /// The key in this file (PKCS #8 DER, mode 600), made when there is none. Several
    /// processes that start at once get the same key.
    ///
    /// # Errors
    /// The file cannot be read or written, others may read it, or it holds something
    /// else.
    pub fn load_or_create(
        path: &Path,
        algorithm: Algorithm,
        random: &dyn SecureRandom,
    ) -> Result<Self, Error> {
        let _lock = Lock::take(path)?;
        if let Some(document) = read_secret(path, KEY_FILE_BYTES_MAX)? {
            let content = |error: Error| Error::Content { path: path.to_owned(), why: error.to_string() };
            return Self::from_pkcs8(&document).map_err(content);
        }
        let (signer, document) = Self::generate(algorithm, random)?;
        replace(path, &document, 0o600, random)?;
        Ok(signer)
    }
}

impl Signer for LocalSigner {
    fn algorithm(&self) -> Algorithm {
        self.pair.algorithm()
    }

    fn key_id(&self) -> &str {
        &self.key_id
    }

    fn public_jwk(&self) -> Value {
        Value::Object(self.public.clone())
    }

    fn public_key_bits(&self) -> Vec<u8> {
        match &self.pair {
            Pair::Es256(pair) => pair.public_key().as_ref().to_vec(),
            Pair::EdDsa(pair) => pair.public_key().as_ref().to_vec(),
            Pair::Rs256(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        // aws-lc-rs ignores the generator given here and uses its own.
        let random = aws_lc_rs::rand::SystemRandom::new();
        let failed = |_| Error::Cryptography("signing");
        match &self.pair {
            Pair::Es256(pair) => {
                // What the library does for the other form takes longer: it reads its own answer
                // back, into numbers without bounds.
                let written = pair.sign(&random, message).map_err(failed)?;
                let fixed = fixed(written.as_ref()).ok_or(Error::Cryptography("signing"))?;
                Ok(fixed.to_vec())
            }
            Pair::EdDsa(pair) => Ok(pair.try_sign(message).map_err(failed)?.as_ref().to_vec()),
            Pair::Rs256(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// `r || s` (RFC 7518 §3.4) of an ECDSA signature as a SEQUENCE of two INTEGERs (RFC 3279 §2.2.3).
fn fixed(der: &[u8]) -> Option<[u8; 2 * P256_BYTES]> {
    let [0x30, length, numbers @ ..] = der else { return None };
    let mut fixed = [0; 2 * P256_BYTES];
    let (r, s) = fixed.split_at_mut(P256_BYTES);
    let rest = integer(numbers, r)?;
    let is_whole = integer(rest, s)?.is_empty() && usize::from(*length) == numbers.len();
    is_whole.then_some(fixed)
}

/// Reads an INTEGER that is not negative to the end of `number`, and gives what follows it.
fn integer<'a>(der: &'a [u8], number: &mut [u8]) -> Option<&'a [u8]> {
    let [0x02, length, rest @ ..] = der else { return None };
    let (bytes, rest) = rest.split_at_checked(usize::from(*length))?;
    // One that would begin with a bit has a zero before it.
    let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
    let start = number.len().checked_sub(bytes.len())?;
    number.get_mut(start..)?.copy_from_slice(bytes);
    Some(rest)
}

/// `typ` of the tokens that tell upstreams who asks.
pub(crate) const IDENTITY_TOKEN_TYPE: &str = "bastide-identity+jwt";
/// Longest lifetime of such a token.
pub const IDENTITY_TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(3600);

/// What an identity token for an upstream says besides who asks.
#[derive(Clone, Copy, Debug)]
pub struct IdentityToken<'a> {
    /// `iss`: this gateway.
    pub issuer: &'a str,
    /// `aud`: the service that it is for.
    pub audience: &'a str,
    /// `iat`.
    pub now: Timestamp,
    /// Until `exp`; cut at the credential's own end and at
    /// [`IDENTITY_TOKEN_LIFETIME_MAX`].
    pub lifetime: Duration,
    /// The chain of the signer's certificate (base64 of the DER, the leaf first). With one it is
    /// a [`crate::UserToken`], for the mesh.
    pub certificates: &'a [String],
}

/// Makes the short-lived token that tells an upstream who asks. Claims: `iss`, `sub`,
/// `aud`, `iat`, `exp`, `jti` (128 random bits), `principal_type`, `credential`,
/// `roles`, `scope`, and where known `acr`, `amr`, `idp` (the issuer of the client's
/// own token) and `claims` (the declared ones).
///
/// # Errors
/// The signer or the generator fails.
pub fn sign_identity(
    signer: &dyn Signer,
    principal: &Principal,
    token: IdentityToken<'_>,
    random: &dyn SecureRandom,
) -> Result<String, Error> {
    let mut jti = [0; 16];
    random.fill(&mut jti).map_err(|_| Error::Cryptography("random numbers"))?;
    let wanted = token.now.plus(token.lifetime.min(IDENTITY_TOKEN_LIFETIME_MAX));
    let expires = principal.expires.map_or(wanted, |end| end.min(wanted));
    let claims = json!({
        "iss": token.issuer,
        "sub": principal.id,
        "aud": token.audience,
        "iat": token.now.unix_seconds(),
        "exp": expires.unix_seconds(),
        "jti": hex(&jti),
        "principal_type": principal.kind.name(),
        "credential": principal.credential.name(),
        "roles": principal.roles,
        "scope": principal.scopes.join(" "),
    });
    let Value::Object(mut claims) = claims else { return Err(Error::Request("no claims".to_owned())) };
    if let Some(acr) = &principal.acr {
        claims.insert("acr".to_owned(), json!(acr));
    }
    if !principal.amr.is_empty() {
        claims.insert("amr".to_owned(), json!(principal.amr));
    }
    if let Some(issuer) = &principal.issuer {
        claims.insert("idp".to_owned(), json!(issuer));
    }
    if !principal.claims.is_empty() {
        claims.insert("claims".to_owned(), json!(principal.claims));
    }
    if token.certificates.is_empty() {
        return sign_token(signer, IDENTITY_TOKEN_TYPE, &claims);
    }
    let header = json!({
        "alg": signer.algorithm().name(), "typ": USER_TOKEN_TYPE, "x5c": token.certificates,
    });
    sign_headed(signer, &TokenHeader::of(&header)?, &claims)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    /// A SEQUENCE of two INTEGERs with these bytes.
    fn sequence(r: &[u8], s: &[u8]) -> Vec<u8> {
        let integer = |bytes: &[u8]| [&[2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
        let numbers = [integer(r), integer(s)].concat();
        [&[0x30, u8::try_from(numbers.len()).unwrap()], &numbers[..]].concat()
    }

    #[test]
    fn numbers_of_a_signature_have_their_full_length() {
        let (high, low) = ([0xff; 32], [0x7f; 32]);
        let zeroed = [&[0][..], &high].concat();
        assert_eq!(fixed(&sequence(&zeroed, &low)).unwrap()[..], [high, low].concat());
        assert_eq!(fixed(&sequence(&low, &zeroed)).unwrap()[..], [low, high].concat());
        let mut short = [0; 64];
        (short[31], short[62], short[63]) = (7, 0x80, 1);
        assert_eq!(fixed(&sequence(&[7], &[0, 0x80, 1])), Some(short));
    }

    #[test]
    fn what_is_no_signature_is_not_read_as_one() {
        let good = sequence(&[1; 32], &[2; 32]);
        assert!(fixed(&good).is_some());
        for length in 0..good.len() {
            assert!(fixed(&good[..length]).is_none(), "{length} bytes");
        }
        let behind = [&good[..], &[0]].concat();
        let (mut longer, mut shorter) = (behind.clone(), good.clone());
        (longer[1], shorter[1]) = (longer[1] + 1, shorter[1] - 1);
        for wrong in [behind, longer, shorter, sequence(&[1; 33], &[2; 32]), sequence(&[1; 32], &[2; 33])] {
            assert!(fixed(&wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn signatures_are_those_of_jws() {
        let random = SystemRandom::new();
        let (signer, _) = LocalSigner::generate(Algorithm::Es256, &random).unwrap();
        let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, signer.public_key_bits());
        // Often enough that some number begins with a zero byte.
        for message in 0..1_000_u32 {
            let signature = signer.sign(&message.to_be_bytes()).unwrap();
            assert_eq!(signature.len(), 64);
            assert!(public.verify(&message.to_be_bytes(), &signature).is_ok(), "{message}");
        }
    }
}
