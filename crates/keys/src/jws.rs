//! Compact JSON Web Signatures (RFC 7515 §7.1), read strictly.
//!
//! What the header may say:
//!
//! | parameter | what happens | why |
//! |---|---|---|
//! | `alg` | must be supported and equal the key's one algorithm | §10.7: the key decides |
//! | `kid` | names a key of the configured issuer | a text of at most 512 bytes |
//! | `typ` | checked against the issuer's accepted types | RFC 8725 §3.11 |
//! | `crit`, `b64` | refused | no extension is understood here (§4.1.11, RFC 7797 §6) |
//! | `zip` | refused | a JWE parameter; nothing is decompressed |
//! | `jwk` | refused | an access token that brings its own key is an attack (RFC 8725 §3.10) or a DPoP proof in the wrong field |
//! | `jku`, `x5u`, `x5c`, `x5t`, others | ignored, never read | honest issuers send them; keys come from the configured issuer alone. A [`crate::UserToken`] alone is known by its `x5c` |

use model::Switch;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::encoding::{decode_base64url, parse_object, quote};
use crate::jwk::{KEY_ID_BYTES_MAX, VerifyingKey};
use crate::refusal::Refusal;

/// Longest token that is read, bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// A token in three well-formed parts. Nothing in it has been proved.
#[derive(Debug)]
pub struct Unverified<'a> {
    signing_input: &'a [u8],
    algorithm: Algorithm,
    key_id: Option<String>,
    token_type: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// A token whose signature is one of the given keys'.
#[derive(Debug)]
pub struct Verified {
    token_type: Option<String>,
    payload: Vec<u8>,
}

impl Verified {
    /// The header's `typ`.
    pub fn token_type(&self) -> Option<&str> {
        self.token_type.as_deref()
    }

    /// What was signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }
}

impl<'a> Unverified<'a> {
    /// Splits and decodes a compact JWS.
    ///
    /// # Errors
    /// [`Refusal`] of the form and header groups.
    pub fn parse(token: &'a [u8]) -> Result<Self, Refusal> {
        let (token, header) = Self::split(token)?;
        if header.contains_key("jwk") {
            return Err(Refusal::HeaderParameter { name: "jwk" });
        }
        Ok(token)
    }

    /// The same for a token whose header has to bring the public key: a DPoP proof
    /// (RFC 9449 §4.2), and nothing else.
    ///
    /// # Errors
    /// [`Refusal`] of the form and header groups; without `jwk` as an object
    /// [`Refusal::Malformed`].
    pub(crate) fn parse_with_key(token: &'a [u8]) -> Result<(Self, Map<String, Value>), Refusal> {
        let (token, mut header) = Self::split(token)?;
        match header.remove("jwk") {
            Some(Value::Object(jwk)) => Ok((token, jwk)),
            _ => Err(Refusal::Malformed { what: "`jwk` is not an object" }),
        }
    }

    /// The same for a token whose header has to bring the chain of its signer's certificate
    /// (RFC 7515 §4.1.6).
    ///
    /// # Errors
    /// [`Refusal`] of the form and header groups; without `x5c` as a list
    /// [`Refusal::Malformed`].
    pub(crate) fn parse_with_chain(token: &'a [u8]) -> Result<(Self, Vec<Value>), Refusal> {
        let (token, mut header) = Self::split(token)?;
        match header.remove("x5c") {
            Some(Value::Array(chain)) if !header.contains_key("jwk") => Ok((token, chain)),
            _ => Err(Refusal::Malformed { what: "`x5c` is not a list" }),
        }
    }

    fn split(token: &'a [u8]) -> Result<(Self, Map<String, Value>), Refusal> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TooLong { bytes: token.len() });
        }
        let mut dots = token.iter().enumerate().filter(|(_, byte)| **byte == b'.').map(|(at, _)| at);
        let (first, second, more) = (dots.next(), dots.next(), dots.count());
        let (Some(first), Some(second)) = (first, second) else {
            return Err(Refusal::Malformed { what: "expected three parts" });
        };
        match more {
            0 => {}
            2 => return Err(Refusal::Encrypted),
            _ => return Err(Refusal::Malformed { what: "expected three parts" }),
        }
        let part = |from: usize, to: usize, what| {
            token.get(from..to).and_then(decode_base64url).ok_or(Refusal::Malformed { what })
        };
        let header = part(0, first, "header is not base64url")?;
        let payload = part(first + 1, second, "claims are not base64url")?;
        let signature = part(second + 1, token.len(), "signature is not base64url")?;
        let header = parse_object(&header)
            .map_err(|error| Refusal::Json { part: "header", why: quote(&error.to_string()) })?;
        let (algorithm, key_id, token_type) = read_header(&header)?;
        let signing_input = token.get(..second).unwrap_or_default();
        Ok((Self { signing_input, algorithm, key_id, token_type, payload, signature }, header))
    }

    /// What the header asks for.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The header's `kid`.
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// The payload, not proved by anything: good only to find out whose keys to try.
    pub fn unverified_payload(&self) -> &[u8] {
        &self.payload
    }

    /// Verifies with each of the keys in turn.
    ///
    /// # Errors
    /// [`Refusal::AlgorithmOfKey`] when a key is for another algorithm than the header
    /// says; [`Refusal::Signature`] when the signature is none of the keys'.
    pub fn verify(self, keys: &[&VerifyingKey]) -> Result<Verified, Refusal> {
        for key in keys {
            if key.algorithm() != self.algorithm {
                return Err(Refusal::AlgorithmOfKey { expected: key.algorithm(), found: self.algorithm });
            }
            if key.verifies(self.signing_input, &self.signature) || Switch::TokenSignature.is_off() {
                return Ok(Verified { token_type: self.token_type, payload: self.payload });
            }
        }
        Err(Refusal::Signature)
    }
}

type HeaderParts = (Algorithm, Option<String>, Option<String>);

fn read_header(header: &Map<String, Value>) -> Result<HeaderParts, Refusal> {
    for name in ["crit", "b64", "zip"] {
        if header.contains_key(name) {
            return Err(Refusal::HeaderParameter { name });
        }
    }
    let algorithm = match header.get("alg") {
        Some(Value::String(name)) => {
            name.parse().map_err(|_| Refusal::AlgorithmUnknown { found: quote(name) })?
        }
        Some(_) => return Err(Refusal::Malformed { what: "`alg` is not a text" }),
        None => return Err(Refusal::Malformed { what: "`alg` is missing" }),
    };
    let text = |name: &str, what| match header.get(name) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(Refusal::Malformed { what }),
    };
    let key_id = text("kid", "`kid` is not a text")?;
    if key_id.as_ref().is_some_and(|key_id| key_id.len() > KEY_ID_BYTES_MAX) {
        return Err(Refusal::Malformed { what: "`kid` is too long" });
    }
    Ok((algorithm, key_id, text("typ", "`typ` is not a text")?))
}
