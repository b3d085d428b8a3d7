//! Tokens: access tokens (RFC 9068), ID tokens (OpenID Connect Core §2) and logout
//! tokens, and reading our own back.

use std::collections::BTreeSet;
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, SHA512, digest};
use keys::encoding::{encode_base64url, parse_object};
use keys::jws::Unverified;
use keys::jwt::LOGOUT_EVENT;
use keys::{Algorithm, KeySet, sign_headed, sign_token};
use model::Timestamp;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::Error;
use crate::caches::Verified;
use crate::claim::{self, Asked, Subject, Target};
use crate::client::Client;
use crate::realm::Realm;
use crate::user::User;

/// `typ` of access tokens (RFC 9068 §2.1).
pub(crate) const ACCESS_TOKEN_TYPE: &str = "at+jwt";
/// `typ` of logout tokens (Back-Channel Logout §2.4).
const LOGOUT_TOKEN_TYPE: &str = "logout+jwt";

/// What a token is worth something with: nothing, a key (RFC 9449) or a certificate
/// (RFC 8705).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Binding {
    /// The thumbprint of the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) jkt: Option<String>,
    /// The thumbprint of the certificate.
    #[serde(default, rename = "x5t#S256", skip_serializing_if = "Option::is_none")]
    pub(crate) certificate: Option<String>,
}

impl Binding {
    pub(crate) fn is_bearer(&self) -> bool {
        self.jkt.is_none() && self.certificate.is_none()
    }

    /// `token_type` (RFC 9449 §5).
    pub(crate) fn token_type(&self) -> &'static str {
        if self.jkt.is_some() { "DPoP" } else { "Bearer" }
    }
}

/// How a person was authenticated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authentication {
    /// The session, `sid`.
    pub(crate) session: String,
    /// `auth_time`.
    pub(crate) time: Timestamp,
    /// `acr`.
    pub(crate) acr: Option<String>,
    /// `amr` (RFC 8176).
    pub(crate) amr: Vec<String>,
}

impl Authentication {
    fn write<M: SerializeMap>(&self, claims: &mut M, session: Option<&str>) -> Result<(), M::Error> {
        claims.serialize_entry("auth_time", &self.time.unix_seconds())?;
        if let Some(acr) = &self.acr {
            claims.serialize_entry("acr", acr)?;
        }
        if !self.amr.is_empty() {
            claims.serialize_entry("amr", &self.amr)?;
        }
        match session {
            Some(session) => claims.serialize_entry("sid", session),
            None => Ok(()),
        }
    }
}

/// What an access token says.
#[derive(Debug)]
pub(crate) struct AccessToken<'a> {
    pub(crate) subject: Subject<'a>,
    pub(crate) client: &'a str,
    pub(crate) scopes: &'a BTreeSet<String>,
    pub(crate) resources: &'a BTreeSet<String>,
    pub(crate) authentication: Option<&'a Authentication>,
    /// The session that it ends with; none for offline access.
    pub(crate) session: Option<&'a str>,
    /// The grant that it is of: it does not outlive it.
    pub(crate) grant: Option<&'a str>,
    pub(crate) binding: &'a Binding,
    /// Who acts for the subject (RFC 8693 §4.1).
    pub(crate) actor: Option<Value>,
    /// It ends then at the latest.
    pub(crate) until: Option<Timestamp>,
}

/// A token that was made.
#[derive(Debug)]
pub(crate) struct Minted {
    pub(crate) token: String,
    pub(crate) id: String,
    pub(crate) expires: Timestamp,
}

/// Signs an access token.
pub(crate) fn access_token(realm: &Realm, what: &AccessToken<'_>, now: Timestamp) -> Result<Minted, Error> {
    let settings = &realm.settings;
    let of_resources = what.resources.iter().filter_map(|name| settings.resources.get(name));
    let mut life = settings.lifetimes.access_token;
    let mut algorithm = None;
    for resource in of_resources {
        life = resource.access_token.map_or(life, |own| own.min(life));
        algorithm = algorithm.or(resource.algorithm);
    }
    let until = what.until.unwrap_or_else(|| now.plus(life));
    // Whole seconds, as the token says it.
    let expires = Timestamp::from_unix_seconds(now.plus(life).min(until).unix_seconds());
    let id = token_id(realm, what.grant)?;
    let mut mapped = Map::new();
    let nothing = Asked::default();
    claim::add(&mut mapped, &settings.claims, what.subject, Target::AccessToken, what.scopes, &nothing);
    let claims =
        AccessClaims { issuer: &settings.issuer, what, issued: now, expires, id: &id, mapped: &mapped };
    let key_ring = realm.key_ring();
    let signing = key_ring.signing(algorithm.unwrap_or_else(|| default_algorithm(realm)), now)?;
    let token = sign_headed(&signing.signer, &signing.access_header, &claims)?;
    Ok(Minted { token, id, expires })
}

/// The claims of an access token, as they are written.
struct AccessClaims<'a> {
    issuer: &'a str,
    what: &'a AccessToken<'a>,
    issued: Timestamp,
    expires: Timestamp,
    id: &'a str,
    mapped: &'a Map<String, Value>,
}

impl Serialize for AccessClaims<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let what = self.what;
        let subject = what.subject.id();
        let mut claims = serializer.serialize_map(None)?;
        claims.serialize_entry("iss", self.issuer)?;
        claims.serialize_entry("sub", subject)?;
        claims.serialize_entry("aud", &audience(self.issuer, what))?;
        claims.serialize_entry("client_id", what.client)?;
        claims.serialize_entry("iat", &self.issued.unix_seconds())?;
        claims.serialize_entry("exp", &self.expires.unix_seconds())?;
        claims.serialize_entry("jti", self.id)?;
        // A client's token in another client's hands is still about a client, not a person.
        if matches!(what.subject, Subject::Client(_)) && subject != what.client {
            claims.serialize_entry("azp", subject)?;
        }
        if !what.scopes.is_empty() {
            claims.serialize_entry("scope", &crate::scope::join(what.scopes))?;
        }
        if let Some(authentication) = what.authentication {
            authentication.write(&mut claims, what.session)?;
        }
        if !what.binding.is_bearer() {
            claims.serialize_entry("cnf", what.binding)?;
        }
        if let Some(actor) = &what.actor {
            claims.serialize_entry("act", actor)?;
        }
        write_role_version(&mut claims, what.subject)?;
        write_mapped(&mut claims, self.mapped)?;
        claims.end()
    }
}

/// How often a person had lost roles when their record was read: a token that was made of an earlier one
/// is told apart, whenever it was made and by whichever clock.
fn write_role_version<M: SerializeMap>(claims: &mut M, subject: Subject<'_>) -> Result<(), M::Error> {
    match subject {
        Subject::User(User { role_version: version @ 1.., .. }) => {
            claims.serialize_entry("role_version", version)
        }
        Subject::User(_) | Subject::Client(_) => Ok(()),
    }
}

/// What rules for claims map, never under a name that we give a meaning.
fn write_mapped<M: SerializeMap>(claims: &mut M, mapped: &Map<String, Value>) -> Result<(), M::Error> {
    let mut allowed = mapped.iter().filter(|(name, _)| !claim::is_reserved(name));
    allowed.try_for_each(|(name, value)| claims.serialize_entry(name, value))
}

fn default_algorithm(realm: &Realm) -> Algorithm {
    realm.settings.algorithms.first().copied().unwrap_or(Algorithm::Es256)
}

/// RFC 9068 §3: the APIs that it is for; ourselves when it opens userinfo, or when it is
/// for none.
fn audience<'a>(issuer: &'a str, what: &'a AccessToken<'_>) -> Audience<'a> {
    let own = what.resources.is_empty() || what.scopes.contains("openid");
    let mut names = what.resources.iter().map(String::as_str).chain(own.then_some(issuer));
    match (names.next(), names.next()) {
        (Some(first), Some(second)) => Audience::Several([first, second].into_iter().chain(names).collect()),
        (first, _) => Audience::One(first.unwrap_or(issuer)),
    }
}

/// RFC 7519 §4.1.3: a text where there is one.
#[derive(Serialize)]
#[serde(untagged)]
enum Audience<'a> {
    One(&'a str),
    Several(Vec<&'a str>),
}

/// A `jti` that leads to its grant.
fn token_id(realm: &Realm, grant: Option<&str>) -> Result<String, Error> {
    let name = realm.token_names.next(realm.random.as_ref())?;
    Ok(match grant {
        Some(grant) => format!("{grant}.{name}"),
        None => name,
    })
}

/// What an ID token says.
#[derive(Debug)]
pub(crate) struct IdToken<'a> {
    pub(crate) subject: Subject<'a>,
    pub(crate) client: &'a Client,
    pub(crate) scopes: &'a BTreeSet<String>,
    pub(crate) asked: &'a Asked,
    pub(crate) authentication: &'a Authentication,
    pub(crate) nonce: Option<&'a str>,
    /// The grant that it is of: what a relying party made of it can end with that.
    pub(crate) grant: &'a str,
    pub(crate) access_token: &'a str,
}

/// Signs an ID token.
pub(crate) fn id_token(realm: &Realm, what: &IdToken<'_>, now: Timestamp) -> Result<String, Error> {
    let algorithm = what.client.id_token_algorithm.unwrap_or(Algorithm::Rs256);
    let mut mapped = Map::new();
    claim::add(&mut mapped, &realm.settings.claims, what.subject, Target::IdToken, what.scopes, what.asked);
    let claims = IdClaims {
        issuer: &realm.settings.issuer,
        what,
        issued: now,
        expires: now.plus(realm.settings.lifetimes.id_token),
        id: &token_id(realm, Some(what.grant))?,
        hash: &half_hash(algorithm, what.access_token),
        mapped: &mapped,
    };
    Ok(sign_token(realm.key_ring().signer(algorithm, now)?, "JWT", &claims)?)
}

/// The claims of an ID token, as they are written.
struct IdClaims<'a> {
    issuer: &'a str,
    what: &'a IdToken<'a>,
    issued: Timestamp,
    expires: Timestamp,
    id: &'a str,
    /// `at_hash`.
    hash: &'a str,
    mapped: &'a Map<String, Value>,
}

impl Serialize for IdClaims<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let what = self.what;
        let mut claims = serializer.serialize_map(None)?;
        claims.serialize_entry("iss", self.issuer)?;
        claims.serialize_entry("sub", what.subject.id())?;
        claims.serialize_entry("aud", &what.client.id)?;
        claims.serialize_entry("iat", &self.issued.unix_seconds())?;
        claims.serialize_entry("exp", &self.expires.unix_seconds())?;
        claims.serialize_entry("jti", self.id)?;
        claims.serialize_entry("at_hash", self.hash)?;
        if let Some(nonce) = what.nonce {
            claims.serialize_entry("nonce", nonce)?;
        }
        what.authentication.write(&mut claims, Some(&what.authentication.session))?;
        write_role_version(&mut claims, what.subject)?;
        write_mapped(&mut claims, self.mapped)?;
        claims.end()
    }
}

/// OpenID Connect Core §3.1.3.6: the left half of the hash of the token's algorithm;
/// SHA-512 is Ed25519's.
fn half_hash(algorithm: Algorithm, token: &str) -> String {
    let hash = match algorithm {
        Algorithm::EdDsa => digest(&SHA512, token.as_bytes()),
        _ => digest(&SHA256, token.as_bytes()),
    };
    let bytes = hash.as_ref();
    encode_base64url(bytes.get(..bytes.len() / 2).unwrap_or_default())
}

/// Signs a logout token (OpenID Connect Back-Channel Logout §2.4).
pub(crate) fn logout_token(
    realm: &Realm,
    client: &Client,
    user: &str,
    session: &str,
    now: Timestamp,
) -> Result<String, Error> {
    let claims = json!({
        "iss": realm.settings.issuer,
        "sub": user,
        "aud": client.id,
        "iat": now.unix_seconds(),
        "exp": now.plus(realm.settings.lifetimes.id_token).unix_seconds(),
        "jti": token_id(realm, None)?,
        "sid": session,
        "events": { LOGOUT_EVENT: {} },
    });
    let Value::Object(claims) = claims else { return Err(Error::Random) };
    let algorithm = client.id_token_algorithm.unwrap_or(Algorithm::Rs256);
    Ok(sign_token(realm.key_ring().signer(algorithm, now)?, LOGOUT_TOKEN_TYPE, &claims)?)
}

/// An access token that one of our keys signed, with our `iss`. Times and revocation are the
/// caller's to look at.
pub(crate) fn read(realm: &Realm, token: &str) -> Result<Arc<Verified>, String> {
    let key_ring = realm.key_ring();
    key_ring.verified.verified(token, || read_with(realm, &key_ring.verifying, token, ACCESS_TOKEN_TYPE))
}

/// The claims of an ID token of ours that says who is meant, over or not: also of a key that
/// signs and verifies no more (OpenID Connect Core §3.1.2.1, RP-Initiated Logout §4).
pub(crate) fn read_hint(realm: &Realm, token: &str) -> Result<Map<String, Value>, String> {
    read_with(realm, &realm.key_ring().remembering, token, "JWT")
}

fn read_with(
    realm: &Realm,
    keys: &KeySet,
    token: &str,
    token_type: &str,
) -> Result<Map<String, Value>, String> {
    let unverified = Unverified::parse(token.as_bytes()).map_err(|refusal| refusal.to_string())?;
    let verified = keys.verify(unverified, &realm.settings.issuer).map_err(|refusal| refusal.to_string())?;
    if verified.token_type() != Some(token_type) {
        let found = keys::encoding::quote(verified.token_type().unwrap_or_default());
        return Err(format!("typ \"{found}\", expected \"{token_type}\""));
    }
    let claims = parse_object(verified.payload()).map_err(|error| error.to_string())?;
    if claims.get("iss").and_then(Value::as_str) != Some(realm.settings.issuer.as_str()) {
        return Err("iss is another realm's".to_owned());
    }
    Ok(claims)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_writes_no_claim_that_has_a_meaning() {
        struct Mapped(Value);
        impl Serialize for Mapped {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut claims = serializer.serialize_map(None)?;
                write_mapped(&mut claims, self.0.as_object().unwrap())?;
                claims.end()
            }
        }
        let mapped = Mapped(json!({ "sub": "mallory", "exp": 9, "department": "sales", "act": {} }));
        assert_eq!(serde_json::to_value(mapped).unwrap(), json!({ "department": "sales" }));
    }

    #[test]
    fn an_audience_is_a_text_where_there_is_one() {
        let read = |resources: &[&str], scopes: &[&str]| {
            let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
            let client = Client::new("c", crate::client::ClientAuthentication::None);
            let what = AccessToken {
                subject: Subject::Client(&client),
                client: "c",
                scopes: &set(scopes),
                resources: &set(resources),
                authentication: None,
                session: None,
                grant: None,
                binding: &Binding::default(),
                actor: None,
                until: None,
            };
            json!(audience("us", &what))
        };
        assert_eq!([read(&[], &[]), read(&["a"], &[])], [json!("us"), json!("a")]);
        assert_eq!(read(&["a"], &["openid"]), json!(["a", "us"]));
        assert_eq!(read(&["a", "b", "c"], &["x"]), json!(["a", "b", "c"]));
        assert_eq!(read(&["a", "b"], &["openid"]), json!(["a", "b", "us"]));
    }

    #[test]
    fn the_half_hash_is_the_specifications() {
        // OpenID Connect Core appendix A.3: SHA-256 of the access token, left half.
        let token = "jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y";
        assert_eq!(half_hash(Algorithm::Rs256, token), "77QmUPtjPfzWtF2AnpK9RQ");
        assert_eq!(half_hash(Algorithm::EdDsa, token).len(), 43);
    }
}
