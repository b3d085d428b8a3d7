//! Public keys of passkeys: COSE (RFC 9052 §7, RFC 9053 §7.1, RFC 8230 §4) in, a key with one
//! algorithm out, which aws-lc verifies with.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use ciborium::Value;
use keys::encoding::{decode_base64url, encode_base64url};
use serde::{Deserialize, Serialize};

/// Algorithms that are asked for, the dearest first (COSE registry): ES256, EdDSA, RS256.
pub(super) const ALGORITHMS: [i64; 3] = [-7, -8, -257];
/// Bytes of a coordinate of P-256, and of a key for Ed25519.
const COORDINATE_BYTES: usize = 32;

/// A public key: its parts are base64url.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PublicKey {
    /// The uncompressed point on P-256 (SEC 1 §2.3.3).
    Es256(String),
    /// The Ed25519 key (RFC 8032 §5.1.5).
    EdDsa(String),
    /// RSA modulus and exponent, big endian.
    Rs256(String, String),
}

impl PublicKey {
    /// Reads a COSE key.
    ///
    /// # Errors
    /// Says for the log what is wrong with it.
    pub(super) fn read(key: &Value) -> Result<Self, String> {
        let members = key.as_map().ok_or("the key is not a map")?;
        let find = |label: i64| {
            let mut found = members.iter().filter(|(name, _)| *name == Value::Integer(label.into()));
            match (found.next(), found.next()) {
                (Some((_, value)), None) => Ok(value),
                (None, _) => Err(format!("the key has no {label}")),
                (Some(_), Some(_)) => Err(format!("the key has {label} twice")),
            }
        };
        let number = |label: i64| {
            let number = find(label)?.as_integer().and_then(|number| i64::try_from(number).ok());
            number.ok_or_else(|| format!("{label} of the key is not a number"))
        };
        let bytes = |label: i64| {
            let bytes = find(label)?.as_bytes();
            bytes.ok_or_else(|| format!("{label} of the key is not a byte string"))
        };
        match (number(1)?, number(3)?) {
            (2, -7) if number(-1)? == 1 => {
                let (x, y) = (bytes(-2)?, bytes(-3)?);
                if x.len() != COORDINATE_BYTES || y.len() != COORDINATE_BYTES {
                    return Err("a coordinate is not of 32 bytes".to_owned());
                }
                let point = [&[4], x.as_slice(), y.as_slice()].concat();
                Ok(Self::Es256(encode_base64url(&point)))
            }
            (1, -8) if number(-1)? == 6 && bytes(-2)?.len() == COORDINATE_BYTES => {
                Ok(Self::EdDsa(encode_base64url(bytes(-2)?)))
            }
            (3, -257) => Ok(Self::Rs256(encode_base64url(bytes(-1)?), encode_base64url(bytes(-2)?))),
            (kind, algorithm) => Err(format!("key type {kind} with algorithm {algorithm} was not asked for")),
        }
    }

    /// Whether it verifies a signature.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let decode = |text: &String| decode_base64url(text.as_bytes()).unwrap_or_default();
        let verified = match self {
            Self::Es256(point) => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, decode(point)).verify(message, signature)
            }
            Self::EdDsa(key) => UnparsedPublicKey::new(&ED25519, decode(key)).verify(message, signature),
            Self::Rs256(n, e) => RsaPublicKeyComponents { n: decode(n), e: decode(e) }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
        };
        verified.is_ok()
    }
}
