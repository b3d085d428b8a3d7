//! The token endpoint: a code or a refresh token becomes tokens, and tokens a principal.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use keys::client::{Form, encode_form};
use keys::encoding::{encode_base64url, parse_object, quote};
use keys::{Answered, FormRequest, Proven, prove_once};
use model::{Credential, Principal, Secret, Timestamp};
use serde_json::{Map, Value};

use super::table::State;
use super::{ClaimsFrom, RelyingParty};

/// Largest answer of one of the provider's endpoints, bytes.
const ANSWER_BYTES_MAX: usize = 64 * 1024;
/// How long access tokens are taken to be good when nothing is said (RFC 6749 §5.1).
const LIFETIME_DEFAULT: Duration = Duration::from_secs(300);
/// No answer makes tokens good for longer.
const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// Tokens are refreshed this long before their end, or at four fifths of their time.
const REFRESH_BEFORE: Duration = Duration::from_secs(60);

/// Why there are no tokens.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The provider refused, or what it gave is not good: it will not be otherwise.
    Refused(String),
    /// It could not be asked.
    Unavailable(String),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(why) | Self::Unavailable(why) => f.write_str(why),
        }
    }
}

/// What a token endpoint gave.
pub(super) struct Tokens {
    access_token: Secret<String>,
    pub(super) id_token: Option<String>,
    refresh_token: Option<Secret<String>>,
    lifetime: Option<Duration>,
}

/// A verified ID token.
pub(super) struct IdToken {
    proven: Proven,
    pub(super) text: String,
}

impl IdToken {
    pub(super) fn claim(&self, name: &str) -> Option<&str> {
        self.proven.claims.get(name).and_then(Value::as_str)
    }
}

impl RelyingParty {
    /// Sends a form to one of the provider's endpoints, as the client that we are there.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub(super) async fn send(&self, endpoint: &str, mut form: Form) -> Result<Answered, String> {
        let provider = self.known_provider()?;
        let url = provider.endpoint(endpoint)?.to_owned();
        let settings = &self.settings;
        let now = self.environment.clock.now();
        let authorization = settings
            .client
            .sign_in(&mut form, &settings.issuer, now, &*self.environment.random)
            .map_err(|error| error.to_string())?;
        let request = FormRequest {
            url,
            form: Secret::new(encode_form(&form)),
            authorization,
            allow_private_addresses: settings.allow_private_addresses,
            bytes_max: ANSWER_BYTES_MAX,
        };
        self.environment.post.post(request).await.map_err(|failure| failure.0)
    }

    /// Redeems a code or a refresh token at the token endpoint.
    pub(super) async fn redeem(&self, form: Form) -> Result<Tokens, Failure> {
        let unavailable = Failure::Unavailable;
        let answered = self.send("token_endpoint", form).await.map_err(unavailable)?;
        let members = parse_object(&answered.body).unwrap_or_default();
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        match answered.status {
            200 => Tokens::read(&members),
            // RFC 6749 §5.2. What has no `error` is none of the endpoint's words.
            400 | 401 if text("error").is_some() => {
                let error = text("error").unwrap_or_default();
                let more = text("error_description").unwrap_or_default();
                Err(Failure::Refused(format!("the token endpoint says \"{} {}\"", quote(error), quote(more))))
            }
            other => Err(unavailable(format!("the token endpoint answers with status {other}"))),
        }
    }

    /// Verifies an ID token (OpenID Connect Core §3.1.3.7, §12.2).
    pub(super) async fn verify_id_token(
        &self,
        tokens: &Tokens,
        nonce: Option<&str>,
    ) -> Result<IdToken, Failure> {
        let refused = |why: &str| Failure::Refused(format!("ID token: {why}"));
        let text = tokens.id_token.clone().ok_or_else(|| refused("the provider gave none"))?;
        let proven = self.prove(&self.id_tokens, &text).await?;
        let claims = &proven.claims;
        if claims.contains_key("events") {
            return Err(refused("it is a logout token"));
        }
        if proven.accepted.principal.issuer.as_deref() != Some(self.settings.issuer.as_str()) {
            return Err(refused("it is of another issuer"));
        }
        let audiences = claims.get("aud").and_then(Value::as_array).map_or(1, Vec::len);
        let party = claims.get("azp").map(|party| party.as_str().unwrap_or_default());
        if party.is_some_and(|party| party != self.settings.client.id) || (audiences > 1 && party.is_none()) {
            return Err(refused("`azp` is not our client id"));
        }
        if let Some(nonce) = nonce
            && claims.get("nonce").and_then(Value::as_str) != Some(nonce)
        {
            return Err(refused("`nonce` is another login's"));
        }
        if let Some(hash) = claims.get("at_hash").and_then(Value::as_str)
            && proven.algorithm.name().ends_with("256")
        {
            let whole = digest(&SHA256, tokens.access_token.expose().as_bytes());
            if encode_base64url(whole.as_ref().get(..16).unwrap_or_default()) != hash {
                return Err(refused("`at_hash` is of another access token"));
            }
        }
        Ok(IdToken { proven, text })
    }

    /// Checks that the authentication was not longer ago than was asked for (OpenID Connect
    /// Core §3.1.2.1, §3.1.3.7): the browser carried `max_age`, and could leave it out.
    pub(super) fn check_age(&self, id_token: &IdToken, most: Duration) -> Result<(), Failure> {
        let refused = |why: &str| Failure::Refused(format!("ID token: {why}"));
        let time = id_token.proven.claims.get("auth_time").and_then(Value::as_u64);
        let time = time.ok_or_else(|| refused("`auth_time` is not there, and `max_age` was asked for"))?;
        let age = self.environment.clock.now().since(Timestamp::from_unix_seconds(time));
        if age > most + self.settings.leeway {
            return Err(refused("`auth_time` is longer ago than the `max_age` that was asked for"));
        }
        Ok(())
    }

    pub(super) async fn prove(&self, issuers: &Arc<keys::Issuers>, token: &str) -> Result<Proven, Failure> {
        prove_once(issuers, token.as_bytes(), &*self.environment.clock).await.map_err(|unproven| {
            if unproven.is_temporary() {
                Failure::Unavailable(unproven.to_string())
            } else {
                Failure::Refused(unproven.to_string())
            }
        })
    }

    /// What a session holds after these tokens. `before` is what it held until now.
    pub(super) async fn state(
        &self,
        tokens: Tokens,
        id_token: Option<IdToken>,
        before: Option<(&Arc<Principal>, &keys::jwt::Accepted, &Arc<str>)>,
    ) -> Result<State, Failure> {
        let now = self.environment.clock.now();
        let lifetime = tokens.lifetime.unwrap_or(LIFETIME_DEFAULT).min(LIFETIME_MAX);
        let mut until = now.plus(lifetime);
        let nothing = || Failure::Refused("the provider gave no ID token".to_owned());
        let text: Arc<str> = match (&id_token, before) {
            (Some(id_token), _) => id_token.text.as_str().into(),
            (None, Some((_, _, text))) => Arc::clone(text),
            (None, None) => return Err(nothing()),
        };
        let (principal, accepted) = match (self.settings.claims_from, id_token, before) {
            (ClaimsFrom::AccessToken, _, _) => {
                let proven = self.prove(&self.access_tokens, tokens.access_token.expose()).await?;
                if proven.accepted.binding.is_some() {
                    let why = "the access token is bound to a key, which this session does not have";
                    return Err(Failure::Refused(why.to_owned()));
                }
                until = until.min(proven.accepted.until);
                (Arc::clone(&proven.accepted.principal), proven.accepted)
            }
            (ClaimsFrom::IdToken, Some(id_token), _) => {
                (Arc::clone(&id_token.proven.accepted.principal), id_token.proven.accepted)
            }
            // OpenID Connect Core §12.2: a refresh may bring no ID token.
            (ClaimsFrom::IdToken, None, Some((principal, accepted, _))) => {
                (Arc::clone(principal), accepted.clone())
            }
            (ClaimsFrom::IdToken, None, None) => return Err(nothing()),
        };
        self.check_subject(&principal)?;
        let early = REFRESH_BEFORE.min(lifetime / 5);
        Ok(State {
            judged: Arc::clone(&self.terms.judged),
            principal: Arc::new(of_session(&principal, until)),
            access: accepted.marks_of(tokens.access_token.expose().as_bytes()),
            accepted,
            fresh_until: until,
            refresh_at: until.minus(early),
            refresh_token: tokens.refresh_token.map(Arc::new),
            id_token: text,
            refreshing: None,
        })
    }

    fn check_subject(&self, principal: &Principal) -> Result<(), Failure> {
        let others = &self.settings.other_prefixes;
        match others.iter().find(|prefix| principal.id.starts_with(prefix.as_str())) {
            None => Ok(()),
            Some(prefix) => {
                let id = quote(&principal.id);
                Err(Failure::Refused(format!("subject \"{id}\" begins with \"{prefix}\", another issuer's")))
            }
        }
    }
}

/// The same being, proven by a session and for no longer than its tokens last.
fn of_session(principal: &Principal, until: Timestamp) -> Principal {
    Principal { credential: Credential::Session, expires: Some(until), ..principal.clone() }
}

impl Tokens {
    /// RFC 6749 §5.1.
    fn read(members: &Map<String, Value>) -> Result<Self, Failure> {
        let text = |name: &str| members.get(name).and_then(Value::as_str).map(str::to_owned);
        let refused = |why: &str| Failure::Refused(format!("the token endpoint's answer: {why}"));
        let bearer = text("token_type").is_some_and(|kind| kind.eq_ignore_ascii_case("bearer"));
        if !bearer {
            return Err(refused("expected `token_type` Bearer"));
        }
        Ok(Self {
            access_token: Secret::new(text("access_token").ok_or_else(|| refused("no `access_token`"))?),
            id_token: text("id_token"),
            refresh_token: text("refresh_token").map(Secret::new),
            lifetime: members.get("expires_in").and_then(Value::as_u64).map(Duration::from_secs),
        })
    }
}
