//! Proofs of possession (DPoP, RFC 9449): a token is worth something only in the hands
//! of whoever holds the key that it is bound to.
//!
//! [`Proof::verify`] checks everything that the proof itself can show. What needs memory
//! is the caller's: that its [`Proof::id`] was not seen before within
//! [`PROOF_AGE_MAX`], and that its [`Proof::nonce`] is one that was given out.

use std::time::Duration;

use model::Timestamp;
use serde_json::{Map, Value};

use crate::algorithm::Algorithm;
use crate::digest::sha256;
use crate::encoding::{encode_base64url, parse_object, quote, text_of};
use crate::jwk::{VerifyingKey, thumbprint};
use crate::jws::Unverified;

/// Longest proof that is read, bytes.
pub const PROOF_BYTES_MAX: usize = 4 * 1024;
/// How long after its `iat` a proof is taken (RFC 9449 §11.1).
pub const PROOF_AGE_MAX: Duration = Duration::from_secs(60);
/// How far ahead of this clock its `iat` may lie.
pub const PROOF_AHEAD_MAX: Duration = Duration::from_secs(10);
/// Longest `jti`, bytes.
pub(crate) const PROOF_ID_BYTES_MAX: usize = 256;

/// A proof whose signature, method, address, age and token binding hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// The thumbprint of the key (RFC 7638), as `cnf.jkt` and `dpop_jkt` name it.
    pub thumbprint: String,
    /// `jti`: taken once per key.
    pub id: String,
    /// `iat`.
    pub issued: Timestamp,
    /// `nonce`, when it has one.
    pub nonce: Option<String>,
}

/// What a proof has to be about.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's address without query and fragment, as the client sees it.
    pub url: &'a str,
    /// The access token that comes with it; `None` at the token endpoint.
    pub access_token: Option<&'a str>,
    /// When the request arrived, which the proof's `iat` is compared with.
    pub now: Timestamp,
}

impl Proof {
    /// Checks a `DPoP` header field (RFC 9449 §4.3).
    ///
    /// # Errors
    /// What was expected and what was found, for the log.
    pub fn verify(field: &[u8], expected: Expected<'_>) -> Result<Self, String> {
        if field.len() > PROOF_BYTES_MAX {
            return Err(format!("{} bytes, at most {PROOF_BYTES_MAX} are read", field.len()));
        }
        let (token, jwk) = Unverified::parse_with_key(field).map_err(|refusal| refusal.to_string())?;
        let key = VerifyingKey::from_jwk(&with_algorithm(&jwk, token.algorithm()), &Algorithm::ALL)
            .map_err(|error| error.to_string())?;
        let thumbprint = thumbprint(&jwk).ok_or("its key has no thumbprint")?;
        let verified = token.verify(&[&key]).map_err(|refusal| refusal.to_string())?;
        if verified.token_type() != Some("dpop+jwt") {
            let found = quote(verified.token_type().unwrap_or_default());
            return Err(format!("typ \"{found}\", expected \"dpop+jwt\""));
        }
        let claims = parse_object(verified.payload()).map_err(|error| quote(&error.to_string()))?;
        let issued = check(&claims, expected)?;
        let id = text_of(&claims, "jti")?;
        if id.is_empty() || id.len() > PROOF_ID_BYTES_MAX {
            return Err(format!("jti of {} bytes, expected 1 to {PROOF_ID_BYTES_MAX}", id.len()));
        }
        let nonce = match claims.get("nonce") {
            None => None,
            Some(Value::String(nonce)) => Some(nonce.clone()),
            Some(_) => return Err("`nonce` is not a text".to_owned()),
        };
        Ok(Self { thumbprint, id: id.to_owned(), issued, nonce })
    }
}

/// An RSA key without `alg` is for the algorithm of the proof that brings it: the header
/// is the key's only place here.
fn with_algorithm(jwk: &Map<String, Value>, algorithm: Algorithm) -> Map<String, Value> {
    let mut jwk = jwk.clone();
    jwk.entry("alg").or_insert_with(|| Value::String(algorithm.name().to_owned()));
    jwk
}

fn check(claims: &Map<String, Value>, expected: Expected<'_>) -> Result<Timestamp, String> {
    let method = text_of(claims, "htm")?;
    if method != expected.method {
        return Err(format!("htm \"{}\", the request is {}", quote(method), expected.method));
    }
    let url = text_of(claims, "htu")?;
    if !same_address(url, expected.url) {
        return Err(format!("htu \"{}\", the request is to {}", quote(url), expected.url));
    }
    let seconds =
        claims.get("iat").and_then(Value::as_u64).ok_or("`iat` is not a whole number of seconds")?;
    let issued = Timestamp::from_unix_seconds(seconds);
    if expected.now.since(issued) > PROOF_AGE_MAX || issued.since(expected.now) > PROOF_AHEAD_MAX {
        let now = expected.now.unix_seconds();
        return Err(format!("iat {seconds}: it is {now} (Unix seconds)"));
    }
    match (expected.access_token, claims.get("ath")) {
        (None, _) => {}
        (Some(token), Some(Value::String(hash))) => {
            if *hash != encode_base64url(&sha256(token.as_bytes())) {
                return Err("ath is of another access token".to_owned());
            }
        }
        (Some(_), _) => return Err("`ath` is missing or not a text".to_owned()),
    }
    Ok(issued)
}

/// RFC 9449 §4.3 point 9: without query and fragment; scheme and host without case,
/// default ports alike (RFC 3986 §6.2).
fn same_address(one: &str, two: &str) -> bool {
    let normal = |url: &str| {
        let url = url.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = url.split_once("://")?;
        let (authority, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        let scheme = scheme.to_ascii_lowercase();
        let authority = authority.to_ascii_lowercase();
        let port = if scheme == "https" { ":443" } else { ":80" };
        let authority = authority.strip_suffix(port).unwrap_or(&authority).to_owned();
        Some((scheme, authority, path.to_owned()))
    };
    normal(one).is_some_and(|one| normal(two) == Some(one))
}
