//! Who the end user is, on the way from the gateway through the mesh: a short-lived token that
//! the gateway signs with the key of its own X.509-SVID, and that carries the SVID's chain
//! (`x5c`, RFC 7515 §4.1.6). Whoever verifies workloads can verify it, by the same anchors; no
//! key of its own has to be distributed or rotated.
//!
//! What is proved here: the token was signed by the key of the first certificate that it brings,
//! for this audience, and is good now. That the chain leads to an anchor, and that its leaf is
//! one that may speak for users, is for the caller to verify.

use std::sync::Arc;
use std::time::Duration;

use model::{Credential, Principal, PrincipalKind, Switch, Timestamp};
use serde_json::Value;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::algorithm::Algorithm;
use crate::encoding::{decode_base64, quote};
use crate::jwk::VerifyingKey;
use crate::jws::Unverified;
use crate::jwt::{check_audience, list, optional_text, parse_claims, required_date, required_text, scopes};
use crate::refusal::Refusal;
use crate::signer::IDENTITY_TOKEN_LIFETIME_MAX;

/// `typ` of such a token.
pub(crate) const USER_TOKEN_TYPE: &str = "bastide-user+jwt";
/// Most certificates that a token brings.
pub(crate) const USER_TOKEN_CERTIFICATES_MAX: usize = 4;
/// How far clocks may be apart.
pub const USER_TOKEN_LEEWAY: Duration = Duration::from_secs(30);

/// The algorithms that a key of a workload has.
const ALGORITHMS: [Algorithm; 3] = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];

/// A token whose signature is that of the certificate that it brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserToken {
    /// The end user: a person, a client, the holder of an API key.
    pub user: Arc<Principal>,
    /// Who signed it, as it says itself: a SPIFFE ID.
    pub issuer: String,
    /// The chain of the signer's certificate (DER), the leaf first. Not verified.
    pub chain: Vec<Vec<u8>>,
    /// First moment at which it is not good.
    pub until: Timestamp,
}

/// Reads a token that is meant for `audience`.
///
/// # Errors
/// [`Refusal`] of the form, header, key and claims groups.
pub fn open_user_token(token: &[u8], audience: &str, now: Timestamp) -> Result<UserToken, Refusal> {
    let (token, chain) = Unverified::parse_with_chain(token)?;
    let chain = certificates(&chain)?;
    let malformed = |what| Refusal::Malformed { what };
    let leaf = chain.first().ok_or(malformed("`x5c` is empty"))?;
    let (rest, leaf) =
        X509Certificate::from_der(leaf).map_err(|_| malformed("`x5c` does not begin with a certificate"))?;
    if !rest.is_empty() {
        return Err(malformed("there are bytes behind the certificate"));
    }
    let key = VerifyingKey::from_spki(leaf.tbs_certificate.subject_pki.raw, &ALGORITHMS)
        .map_err(|_| malformed("the certificate has no key that signs tokens"))?;
    let verified = token.verify(&[&key])?;
    if verified.token_type() != Some(USER_TOKEN_TYPE) {
        let found = quote(verified.token_type().unwrap_or_default());
        return Err(Refusal::Type { found, expected: USER_TOKEN_TYPE.to_owned() });
    }
    let claims = parse_claims(verified.payload())?;
    check_audience(&claims, &[audience.to_owned()])?;
    let (issued, expires) = (required_date(&claims, "iat")?, required_date(&claims, "exp")?);
    if issued > now.plus(USER_TOKEN_LEEWAY) {
        return Err(Refusal::IssuedInFuture { at: issued, now });
    }
    let until = expires.plus(USER_TOKEN_LEEWAY).min(issued.plus(IDENTITY_TOKEN_LIFETIME_MAX));
    if now >= until && !Switch::TokenTime.is_off() {
        return Err(Refusal::Expired { at: expires, now });
    }
    let kind = required_text(&claims, "principal_type")?;
    let kind = [PrincipalKind::User, PrincipalKind::Client, PrincipalKind::ApiKey]
        .into_iter()
        .find(|known| known.name() == kind)
        .ok_or(malformed("`principal_type` is no end user's"))?;
    let credential = required_text(&claims, "credential")?;
    let texts = |claim| claims.get(claim).map_or(Ok(Vec::new()), |value| list(claim, value));
    let user = Principal {
        kind,
        id: required_text(&claims, "sub")?.to_owned(),
        credential: Credential::ALL
            .into_iter()
            .find(|known| known.name() == credential)
            .ok_or(malformed("`credential` is unknown"))?,
        issuer: optional_text(&claims, "idp")?.map(str::to_owned),
        roles: texts("roles")?,
        scopes: scopes(&claims)?,
        acr: optional_text(&claims, "acr")?.map(str::to_owned),
        amr: texts("amr")?,
        expires: Some(until),
        ..Principal::anonymous()
    };
    let issuer = required_text(&claims, "iss")?.to_owned();
    Ok(UserToken { user: Arc::new(user), issuer, chain, until })
}

/// The certificates of `x5c`.
fn certificates(list: &[Value]) -> Result<Vec<Vec<u8>>, Refusal> {
    if list.len() > USER_TOKEN_CERTIFICATES_MAX {
        return Err(Refusal::Malformed { what: "`x5c` holds too many certificates" });
    }
    let decoded = list.iter().map(|one| decode_base64(one.as_str()?.as_bytes()));
    decoded.collect::<Option<_>>().ok_or(Refusal::Malformed { what: "`x5c` is not a list of certificates" })
}
