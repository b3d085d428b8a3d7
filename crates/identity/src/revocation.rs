//! What was revoked before its time: told to introspection here, and to gateways by
//! [`Realm::revocations`] in their own terms.

mod feed;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use keys::Revocation;
use model::Timestamp;
use store::{Expect, Transaction};

use crate::Error;
use crate::call::Call;
use crate::client::authenticate_at;
use crate::grant;
use crate::mint;
use crate::realm::Realm;
use crate::record::{Kind, Written};
use crate::refusal::Answer;

pub use feed::RevocationFeed;

/// Most revocations that are listed.
const LISTING_MAX: usize = keys::REVOCATIONS_MAX;

/// What a revocation names.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Named<'a> {
    /// An access token's `jti`.
    Token(&'a str),
    /// A grant: every access token of it.
    Grant(&'a str),
    /// What a user, or a client about itself, was issued until a moment, Unix seconds.
    Subject(&'a str, u64),
    /// What a user was issued by the time that they had lost roles so often.
    Roles(&'a str, u64),
    /// What a client was issued until a moment, Unix seconds, about whomever.
    Client(&'a str, u64),
    /// A session's `sid`.
    Session(&'a str),
}

impl Named<'_> {
    fn path(&self) -> [&str; 2] {
        match self {
            Self::Token(id) => ["token", id],
            Self::Grant(id) => ["grant", id],
            Self::Subject(id, _) => ["subject", id],
            Self::Roles(id, _) => ["roles", id],
            Self::Client(id, _) => ["client", id],
            Self::Session(id) => ["session", id],
        }
    }
}

/// Adds a revocation to a transaction; it is forgotten when nothing that it names is good
/// any more.
pub(crate) fn write(
    realm: &Realm,
    transaction: Transaction,
    named: Named<'_>,
    until: Timestamp,
) -> Result<Transaction, Error> {
    // Verifiers allow for clocks that are apart.
    let until = until.plus(keys::LEEWAY_MAX);
    let mut entry = Revocation {
        issuer: Some(realm.settings.issuer.clone()),
        until: Some(until.unix_seconds()),
        ..Revocation::default()
    };
    match named {
        Named::Token(id) => entry.token = Some(id.to_owned()),
        Named::Grant(id) => entry.grant = Some(id.to_owned()),
        Named::Subject(id, issued_until) => {
            entry.subject = Some(id.to_owned());
            entry.issued_until = Some(issued_until);
        }
        Named::Roles(id, role_version_until) => {
            entry.subject = Some(id.to_owned());
            entry.role_version_until = Some(role_version_until);
        }
        Named::Client(id, issued_until) => {
            entry.client = Some(id.to_owned());
            entry.issued_until = Some(issued_until);
        }
        Named::Session(id) => entry.session = Some(id.to_owned()),
    }
    realm.records.write(transaction, Kind::Revoked, &named.path(), &entry, Some(until), Expect::Any)
}

/// Adds to a transaction that nothing is known of the roles that a user lost: one who comes to have
/// their id begins to lose them anew.
pub(crate) fn forget_roles(realm: &Realm, transaction: Transaction, user: &str) -> Transaction {
    let key = realm.records.key(Kind::Revoked, &Named::Roles(user, 0).path());
    transaction.delete(key, Expect::Any)
}

/// Whether this was revoked.
pub(crate) async fn is_revoked(realm: &Realm, named: Named<'_>) -> Result<bool, Error> {
    realm.records.exists(Kind::Revoked, &named.path()).await
}

/// Whether what a subject or a client was issued then, Unix seconds, was revoked: also where there is
/// one of its name again.
pub(crate) async fn is_dated_out(realm: &Realm, named: Named<'_>) -> Result<bool, Error> {
    let (Named::Subject(_, issued) | Named::Client(_, issued)) = named else {
        return is_revoked(realm, named).await;
    };
    let found = realm.records.get::<Revocation>(Kind::Revoked, &named.path()).await?;
    Ok(found.is_some_and(|found| found.value.issued_until.is_none_or(|until| issued <= until)))
}

impl Realm {
    /// Everything that is revoked and would otherwise still be good, for the gateways. A
    /// subject is named as tokens do, without the prefix that a gateway may put before it.
    ///
    /// # Errors
    /// The store fails.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, Error> {
        let found = self.records.all(Kind::Revoked, LISTING_MAX).await?;
        Ok(found.into_iter().map(|(_, entry)| entry).collect())
    }
}

/// Answers `POST /revoke` (RFC 7009): a refresh token ends its grant, an access token
/// only itself. A token that is none of the client's is answered alike and left alone.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Answer {
    let authenticated = authenticate_at(&realm, &call, "/revoke").await?;
    let client = &authenticated.client.id;
    let token = call.parameters.require("token")?;
    if let Some((grant, _)) = grant::refresh::find(&realm, token).await? {
        if grant.value.client == *client {
            grant::revoke(&realm, &grant.value.id, grant::Why::RevokedByClient).await?;
        }
    } else if let Ok(verified) = mint::read(&realm, token) {
        let claims = &verified.claims;
        let text = |name: &str| claims.get(name).and_then(serde_json::Value::as_str);
        let until = claims.get("exp").and_then(serde_json::Value::as_u64).unwrap_or_default();
        let until = Timestamp::from_unix_seconds(until);
        if text("client_id") == Some(client.as_str())
            && until > call.now
            && let Some(id) = text("jti")
        {
            let change = write(&realm, Transaction::new(), Named::Token(id), until)?;
            match realm.records.commit(change).await? {
                Written::Done => {}
                Written::Conflict => return Err(Error::Contended("a revocation").into()),
            }
        }
    }
    Ok(StatusCode::OK.into_response())
}
