//! Whether an access token of ours is still good: what its signature cannot tell.

use model::Timestamp;
use serde_json::{Map, Value};

use crate::Error;
use crate::grant::{Grant, USER_OVER};
use crate::mint;
use crate::realm::Realm;
use crate::record::Kind;
use crate::revocation::{Named, is_revoked};
use crate::user::User;

/// An access token that is good now.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) claims: Map<String, Value>,
    /// The person that it is about; `None` for a client on its own behalf.
    pub(crate) user: Option<User>,
    /// The grant that it came of.
    pub(crate) grant: Option<Grant>,
}

impl Live {
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.claims.get(name)?.as_str()
    }

    pub(crate) fn has_scope(&self, scope: &str) -> bool {
        self.text("scope").is_some_and(|scopes| scopes.split(' ').any(|known| known == scope))
    }

    /// Whom it is for.
    pub(crate) fn audiences(&self) -> Vec<&str> {
        match self.claims.get("aud") {
            Some(Value::String(one)) => vec![one],
            Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        }
    }

    /// The key that it is bound to (RFC 9449 §6.1).
    pub(crate) fn key(&self) -> Option<&str> {
        self.claims.get("cnf")?.get("jkt")?.as_str()
    }

    /// The certificate that it is bound to (RFC 8705 §3.1).
    pub(crate) fn certificate(&self) -> Option<&str> {
        self.claims.get("cnf")?.get("x5t#S256")?.as_str()
    }

    pub(crate) fn expires(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.claims.get("exp").and_then(Value::as_u64).unwrap_or_default())
    }
}

/// Reads an access token. The inner error says for the log why it is not good.
pub(crate) async fn access_token(
    realm: &Realm,
    token: &str,
    now: Timestamp,
) -> Result<Result<Live, String>, Error> {
    let claims = match mint::read(realm, token) {
        Ok(claims) => claims,
        Err(why) => return Ok(Err(why)),
    };
    let mut live = Live { claims, user: None, grant: None };
    if live.expires() <= now {
        return Ok(Err(format!("it ended at {}", live.expires().unix_seconds())));
    }
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
    let grant = match id.split_once('.') {
        Some((grant, _)) => match realm.records.get::<Grant>(Kind::Grant, &[grant]).await? {
            Some(stored) => Some(stored.value),
            None => return Ok(Err("its grant has ended".to_owned())),
        },
        None => None,
    };
    let (subject, client) =
        (live.text("sub").unwrap_or_default(), live.text("client_id").unwrap_or_default());
    if realm.client(client).await?.is_none() {
        return Ok(Err("its client is switched off".to_owned()));
    }
    if live.text("azp") == Some(subject) {
        if realm.client(subject).await?.is_none() {
            return Ok(Err("the client that it is about is switched off".to_owned()));
        }
    } else if subject != client {
        let Some(grant) = &grant else { return Ok(Err("no grant lets it be about a person".to_owned())) };
        let Some(user) = grant.user(realm).await? else { return Ok(Err(USER_OVER.to_owned())) };
        live.user = Some(user);
    }
    live.grant = grant;
    Ok(Ok(live))
}
