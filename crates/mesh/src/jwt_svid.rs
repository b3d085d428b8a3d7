//! JWT-SVIDs (SPIFFE JWT-SVID): for an audience, for minutes.

use keys::jws::Unverified;
use keys::{KeySet, Signer, encoding::parse_object, sign_token};
use model::{SpiffeId, Timestamp};
use serde_json::{Map, Value, json};

use crate::bundle::JWT_SVID_ALGORITHMS;
use crate::error::Error;

/// Most audiences of one token.
pub const AUDIENCES_MAX: usize = 16;
/// Longest audience, bytes.
pub const AUDIENCE_BYTES_MAX: usize = 1024;

/// A token that was verified for an audience.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// Whose it is.
    pub id: SpiffeId,
    /// Everything that it says.
    pub claims: Map<String, Value>,
}

impl Validated {
    /// When it was issued, as it says.
    pub(crate) fn issued(&self) -> Option<Timestamp> {
        let seconds = self.claims.get("iat").and_then(Value::as_u64)?;
        Some(Timestamp::from_unix_seconds(seconds))
    }
}

/// Makes a token; the audiences are the whole of what it is good for (§3.2).
pub(crate) fn sign(
    signer: &dyn Signer,
    id: &SpiffeId,
    audiences: &[String],
    now: Timestamp,
    until: Timestamp,
) -> Result<String, Error> {
    let fits = |audience: &String| !audience.is_empty() && audience.len() <= AUDIENCE_BYTES_MAX;
    if audiences.is_empty() || audiences.len() > AUDIENCES_MAX || !audiences.iter().all(fits) {
        return Err(Error::Token(format!(
            "expected 1 to {AUDIENCES_MAX} audiences of 1 to {AUDIENCE_BYTES_MAX} bytes"
        )));
    }
    let claims = json!({
        "sub": id.as_str(),
        "aud": audiences,
        "iat": now.unix_seconds(),
        "exp": until.unix_seconds(),
    });
    let Value::Object(claims) = claims else { return Err(Error::Token("no claims".to_owned())) };
    Ok(sign_token(signer, "JWT", &claims)?)
}

/// The trust domain that a token says it is of: good only to find its bundle.
pub(crate) fn unverified_trust_domain(token: &str) -> Result<String, Error> {
    let token = Unverified::parse(token.as_bytes()).map_err(refused)?;
    Ok(subject(token.unverified_payload())?.0.trust_domain().to_owned())
}

/// Verifies a token with the keys of its trust domain, for one audience (§3, §4).
pub(crate) fn validate(
    token: &str,
    audience: &str,
    trust_domain: &str,
    keys: &KeySet,
    now: Timestamp,
) -> Result<Validated, Error> {
    let token = Unverified::parse(token.as_bytes()).map_err(refused)?;
    if !JWT_SVID_ALGORITHMS.contains(&token.algorithm()) {
        return Err(Error::Token(format!("{} signs no JWT-SVIDs", token.algorithm())));
    }
    // §2.3: `typ` is optional, and one of these.
    let verified = keys.verify(token, trust_domain).map_err(refused)?;
    if !matches!(verified.token_type(), None | Some("JWT" | "JOSE")) {
        return Err(Error::Token("expected `typ` JWT or JOSE".to_owned()));
    }
    let (id, claims) = subject(verified.payload())?;
    if id.trust_domain() != trust_domain {
        return Err(Error::Token(format!("{id} is not of {trust_domain}")));
    }
    check_audience(&claims, audience)?;
    check_time(&claims, now)?;
    Ok(Validated { id, claims })
}

/// Whether a token is for an audience (RFC 7519 §4.1.3).
pub(crate) fn check_audience(claims: &Map<String, Value>, audience: &str) -> Result<(), Error> {
    let audiences: Vec<&str> = match claims.get("aud") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    if audience.is_empty() || !audiences.contains(&audience) {
        return Err(Error::Token(format!("it is for {audiences:?}, not for {audience:?}")));
    }
    Ok(())
}

/// Whether a token has begun and not ended. Seconds may have a fraction (RFC 7519 §2,
/// NumericDate).
pub(crate) fn check_time(claims: &Map<String, Value>, now: Timestamp) -> Result<(), Error> {
    let Some(end) = claims.get("exp").and_then(Value::as_f64) else {
        return Err(Error::Token("`exp` is missing or no number".to_owned()));
    };
    let seconds = now.unix_nanos() as f64 / 1e9;
    if end <= seconds {
        return Err(Error::Token("it has ended".to_owned()));
    }
    match claims.get("nbf").map(Value::as_f64) {
        None => Ok(()),
        Some(Some(begin)) if begin <= seconds => Ok(()),
        Some(_) => Err(Error::Token("it is not good yet".to_owned())),
    }
}

fn subject(payload: &[u8]) -> Result<(SpiffeId, Map<String, Value>), Error> {
    let claims = parse_object(payload).map_err(|error| Error::Token(format!("its claims: {error}")))?;
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    let id: SpiffeId = subject.parse().map_err(|why| Error::Token(format!("`sub`: {why}")))?;
    if id.path().is_empty() {
        return Err(Error::Token("`sub` is a trust domain, not a workload".to_owned()));
    }
    Ok((id, claims))
}

pub(crate) fn refused(refusal: keys::Refusal) -> Error {
    Error::Token(refusal.to_string())
}
