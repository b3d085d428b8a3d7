//! Whether an access token of ours is still good: what its signature cannot tell.

use std::sync::{Arc, OnceLock};

use axum::body::Bytes;
use model::Timestamp;
use serde_json::{Map, Value};

use crate::Error;
use crate::caches::Verified;
use crate::grant::{Grant, USER_OVER};
use crate::mint;
use crate::realm::Realm;
use crate::record::Kind;
use crate::revocation::{Named, is_dated_out, is_revoked};
use crate::user::User;

/// Whose a token is and what it came of, as the store says.
#[derive(Debug, Default)]
pub(crate) struct Origin {
    /// The person that it is about; `None` for a client on its own behalf.
    user: Option<User>,
    /// The grant that it came of.
    grant: Option<Grant>,
    /// What is told of it to whoever may know, as it is written: all of it is the token's own, and
    /// what is known here.
    told: OnceLock<Bytes>,
}

/// An access token that is good now.
#[derive(Debug)]
pub(crate) struct Live {
    token: Arc<Verified>,
    origin: Arc<Origin>,
}

impl Live {
    pub(crate) fn claims(&self) -> &Map<String, Value> {
        &self.token.claims
    }

    pub(crate) fn user(&self) -> Option<&User> {
        self.origin.user.as_ref()
    }

    pub(crate) fn grant(&self) -> Option<&Grant> {
        self.origin.grant.as_ref()
    }

    /// What is told of it, written once for as long as the store says the same.
    pub(crate) fn told<E>(&self, write: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Bytes, E> {
        if let Some(told) = self.origin.told.get() {
            return Ok(told.clone());
        }
        let told = Bytes::from(write()?);
        Ok(self.origin.told.get_or_init(|| told).clone())
    }

    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.claims().get(name)?.as_str()
    }

    pub(crate) fn has_scope(&self, scope: &str) -> bool {
        self.text("scope").is_some_and(|scopes| scopes.split(' ').any(|known| known == scope))
    }

    /// Whom it is for.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match self.claims().get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The key that it is bound to (RFC 9449 §6.1).
    pub(crate) fn key(&self) -> Option<&str> {
        self.claims().get("cnf")?.get("jkt")?.as_str()
    }

    /// The certificate that it is bound to (RFC 8705 §3.1).
    pub(crate) fn certificate(&self) -> Option<&str> {
        self.claims().get("cnf")?.get("x5t#S256")?.as_str()
    }

    pub(crate) fn expires(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.claims().get("exp").and_then(Value::as_u64).unwrap_or_default())
    }
}

/// Reads an access token. The inner error says for the log why it is not good.
pub(crate) async fn access_token(
    realm: &Realm,
    token: &str,
    now: Timestamp,
) -> Result<Result<Live, String>, Error> {
    let token = match mint::read(realm, token) {
        Ok(token) => token,
        Err(why) => return Ok(Err(why)),
    };
    let mut live = Live { token, origin: Arc::default() };
    if live.expires() <= now {
        return Ok(Err(format!("it ended at {}", live.expires().unix_seconds())));
    }
    // Records that have come to their end since are of no matter: those that a token hangs on
    // last as long as it does.
    if let Some(origin) = live.token.good(|as_of| realm.records.is_still(as_of)) {
        live.origin = origin;
        return Ok(Ok(live));
    }
    let as_of = realm.records.version();
    let Some(id) = live.text("jti") else { return Ok(Err("it has no jti".to_owned())) };
    if is_revoked(realm, Named::Token(id)).await? {
        return Ok(Err("it was revoked".to_owned()));
    }
    if let Some(session) = live.text("sid")
        && is_revoked(realm, Named::Session(session)).await?
    {
        return Ok(Err("its session has ended".to_owned()));
    }
    // It begins with its grant, where it is of one.
    let mut origin = Origin::default();
    if let Some((grant, _)) = id.split_once('.') {
        let Some(stored) = realm.records.get::<Grant>(Kind::Grant, &[grant]).await? else {
            return Ok(Err("its grant has ended".to_owned()));
        };
        origin.grant = Some(stored.value);
    }
    let (subject, client) =
        (live.text("sub").unwrap_or_default(), live.text("client_id").unwrap_or_default());
    // Without a time of its own it is as old as can be.
    let issued = live.claims().get("iat").and_then(Value::as_u64).unwrap_or_default();
    if !stands(realm, client, issued).await? {
        return Ok(Err("its client is disabled, or was since".to_owned()));
    }
    if live.text("azp") == Some(subject) {
        if !stands(realm, subject, issued).await? {
            return Ok(Err("the client that it is about is disabled, or was since".to_owned()));
        }
    } else if subject != client {
        let Some(grant) = &origin.grant else {
            return Ok(Err("no grant lets it be about a person".to_owned()));
        };
        let Some(user) = grant.user(realm).await? else { return Ok(Err(USER_OVER.to_owned())) };
        if live.claims().get("role_version").and_then(Value::as_u64).unwrap_or_default() < user.role_version {
            return Ok(Err("its person has lost a role since".to_owned()));
        }
        origin.user = Some(user);
    }
    if is_dated_out(realm, Named::Subject(subject, issued)).await? {
        return Ok(Err("what its subject was issued until then was revoked".to_owned()));
    }
    live.origin = Arc::new(origin);
    live.token.keep_good(as_of, &live.origin);
    Ok(Ok(live))
}

/// Whether a client may be used, and was neither switched off nor removed since that moment, Unix
/// seconds.
async fn stands(realm: &Realm, client: &str, since: u64) -> Result<bool, Error> {
    let ended = is_dated_out(realm, Named::Client(client, since));
    Ok(realm.client(client).await?.is_some() && !ended.await?)
}
