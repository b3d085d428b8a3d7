//! Grants: what a person allowed a client, the tokens that come of it, and their end.

pub(crate) mod client_credentials;
pub(crate) mod code;
pub(crate) mod device;
pub(crate) mod exchange;
pub(crate) mod refresh;

use std::collections::BTreeSet;
use std::time::Duration;

use model::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::{Expect, Transaction};

use crate::Error;
use crate::claim::{Asked, Subject};
use crate::client::{Client, GrantType};
use crate::login::{self, step};
use crate::mint::{self, AccessToken, Authentication, Binding, IdToken};
use crate::realm::Realm;
use crate::record::{ATTEMPTS_MAX, Kind, Stored, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::revocation;
use crate::session;
use crate::settings::ACCESS_TOKEN_MAX;
use crate::token::Issued;
use crate::user::User;

/// Grants that end in one transaction, each with the records that lead to it.
const REVOKED_AT_ONCE: usize = 100;
/// How often the end of a grant is tried on the record as it was read. Each answer to a refresh token
/// writes it: whoever sends one all the time is not to keep it.
const REVOKED_AS_READ_MAX: u32 = 3;

/// Why nothing comes of what somebody allowed.
pub(crate) const USER_OVER: &str = "the user is disabled, or was signed out everywhere";

/// What a person allowed a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) user: String,
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) resources: BTreeSet<String>,
    pub(crate) asked: Asked,
    pub(crate) authentication: Authentication,
    /// What refresh tokens are bound to: those of public clients to their key (RFC 9449
    /// §5), others by their client's authentication.
    pub(crate) binding: Binding,
    /// When it ends, however often it is refreshed.
    pub(crate) until: Timestamp,
    pub(crate) family: Option<Family>,
    /// When the last access token of it ends, at the latest: one that a repeated refresh gets is
    /// counted beforehand.
    tokens_until: Timestamp,
    /// Until when the records that lead to it from its session and its user stand there.
    #[serde(default)]
    indexed_until: Timestamp,
}

/// The refresh tokens of a grant: always one that is current.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Family {
    /// How often it was rotated.
    pub(crate) generation: u64,
    /// When it was last.
    pub(crate) rotated: Timestamp,
    /// What its tokens are derived from, with the realm's secret.
    pub(crate) seed: String,
}

/// What a person decided, on the way to a grant.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Decided {
    pub(crate) client: String,
    pub(crate) user: String,
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) resources: BTreeSet<String>,
    pub(crate) asked: Asked,
    pub(crate) authentication: Authentication,
    pub(crate) nonce: Option<String>,
    /// When.
    #[serde(default)]
    pub(crate) at: Timestamp,
}

impl Decided {
    /// Who decided, while they may do something, and what they decided is neither over nor taken
    /// back; and the beginning of the transaction that makes a grant of it, which fails when it
    /// is taken back before, or the client is switched off or removed.
    pub(crate) async fn stands(&self, realm: &Realm) -> Result<Result<(User, Transaction), &str>, Error> {
        let Some(user) = realm.user_since(&self.user, self.authentication.time).await? else {
            return Ok(Err(USER_OVER));
        };
        let session = realm.records.key(Kind::Session, &[&self.authentication.session]);
        let mut as_read = Transaction::new().require(session, Expect::Present);
        let (user_id, client) = (self.user.as_str(), self.client.as_str());
        for path in [&[user_id, client][..], &[client]] {
            let withdrawn = realm.records.get::<Timestamp>(Kind::Withdrawn, path).await?;
            if withdrawn.as_ref().is_some_and(|withdrawn| self.at <= withdrawn.value) {
                return Ok(Err("the person withdrew it, or its client ended"));
            }
            let expect = withdrawn.map_or(Expect::Absent, |withdrawn| Expect::Version(withdrawn.version));
            as_read = as_read.require(realm.records.key(Kind::Withdrawn, path), expect);
        }
        Ok(Ok((user, as_read)))
    }
}

impl Grant {
    /// Whose it is, while they may do something and what they granted is not over. Its record may
    /// outlive that: it is tidied up after a sign-out.
    pub(crate) async fn user(&self, realm: &Realm) -> Result<Option<User>, Error> {
        realm.user_since(&self.user, self.authentication.time).await
    }

    /// A grant that begins now; with refresh tokens when the client has that grant.
    pub(crate) fn begin(
        realm: &Realm,
        client: &Client,
        decided: &Decided,
        binding: &Binding,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let random = realm.random.as_ref();
        let family = if client.allows(GrantType::RefreshToken) {
            Some(Family { generation: 0, rotated: now, seed: crate::random::secret(random)? })
        } else {
            None
        };
        // What the client lost since the person decided is not granted.
        let scopes: BTreeSet<String> = decided.scopes.intersection(&client.scopes).cloned().collect();
        let lifetimes = &realm.settings.lifetimes;
        let mut until = now.plus(lifetimes.refresh_absolute);
        if !scopes.contains("offline_access") {
            // With the session that it is of: no token outlives it.
            until = until.min(decided.authentication.time.plus(lifetimes.session_absolute));
        }
        Ok(Self {
            id: crate::random::name(random)?,
            client: decided.client.clone(),
            user: decided.user.clone(),
            scopes,
            resources: decided.resources.intersection(&client.resources).cloned().collect(),
            asked: decided.asked.clone(),
            authentication: decided.authentication.clone(),
            binding: if client.is_public() { binding.clone() } else { Binding::default() },
            until,
            family,
            tokens_until: now,
            indexed_until: Timestamp::default(),
        })
    }

    /// Whether it goes on without its session (OpenID Connect Core §11).
    pub(crate) fn is_offline(&self) -> bool {
        self.scopes.contains("offline_access")
    }

    /// Makes the tokens of one answer and remembers when the access token ends.
    pub(crate) fn issue(
        &mut self,
        realm: &Realm,
        parties: Parties<'_>,
        narrowed: Narrowed,
        nonce: Option<&str>,
        now: Timestamp,
    ) -> Result<Issued, Error> {
        let Parties { client, user, binding } = parties;
        let subject = Subject::User(user);
        let access = mint::access_token(
            realm,
            &AccessToken {
                subject,
                client: &client.id,
                scopes: &narrowed.scopes,
                resources: &narrowed.resources,
                authentication: Some(&self.authentication),
                session: (!self.is_offline()).then_some(self.authentication.session.as_str()),
                grant: Some(&self.id),
                binding,
                actor: None,
                until: Some(self.until),
            },
            now,
        )?;
        let id_token = if narrowed.scopes.contains("openid") {
            let what = IdToken {
                subject,
                client,
                scopes: &narrowed.scopes,
                asked: &self.asked,
                authentication: &self.authentication,
                nonce,
                grant: &self.id,
                access_token: &access.token,
            };
            Some(mint::id_token(realm, &what, now)?)
        } else {
            None
        };
        self.tokens_until = self.tokens_until.max(access.expires);
        Ok(Issued {
            token_type: binding.token_type(),
            scopes: narrowed.scopes,
            refresh_token: self.refresh_token(realm),
            id_token,
            issued_token_type: None,
            subject: user.id.clone(),
            access,
        })
    }

    /// The text of the current refresh token.
    fn refresh_token(&self, realm: &Realm) -> Option<String> {
        let family = self.family.as_ref()?;
        let tag = self.refresh_tag(realm, family, family.generation);
        Some(format!("{}.{}.{tag}", self.id, family.generation))
    }

    /// What proves that a refresh token of this generation was given out by us.
    pub(crate) fn refresh_tag(&self, realm: &Realm, family: &Family, generation: u64) -> String {
        realm.key_ring().derive("refresh", &format!("{} {} {generation}", self.id, family.seed))
    }

    /// From when on its record is of no use.
    fn expires(&self, realm: &Realm, now: Timestamp) -> Timestamp {
        let last = self.tokens_until;
        let idle = now.plus(realm.settings.lifetimes.refresh_idle);
        if self.family.is_some() { idle.min(self.until).max(last) } else { last }
    }

    /// Adds a new one to a transaction. From then on its client knows of the session.
    pub(crate) fn write_new(
        &mut self,
        realm: &Realm,
        transaction: Transaction,
        now: Timestamp,
    ) -> Result<Transaction, Error> {
        let session = &self.authentication.session;
        let transaction = session::known_by(realm, transaction, session, &self.client, now, Expect::Any)?;
        self.write(realm, transaction, Expect::Absent, now)
    }

    /// Adds its record to a transaction, and those that lead to it where theirs would end
    /// before it: they last for longer, so that not every refresh writes three records.
    pub(crate) fn write(
        &mut self,
        realm: &Realm,
        transaction: Transaction,
        expect: Expect,
        now: Timestamp,
    ) -> Result<Transaction, Error> {
        let expires = self.expires(realm, now);
        let records = &realm.records;
        let is_indexed = self.indexed_until >= expires;
        if !is_indexed {
            let longer = if self.family.is_some() {
                realm.settings.lifetimes.refresh_idle / 2
            } else {
                Duration::ZERO
            };
            self.indexed_until = expires.plus(longer);
        }
        let transaction =
            records.write(transaction, Kind::Grant, &[&self.id], self, Some(expires), expect)?;
        if is_indexed {
            return Ok(transaction);
        }
        let expires = Some(self.indexed_until);
        let of_session = [self.authentication.session.as_str(), self.id.as_str()];
        let transaction = records.write(
            transaction,
            Kind::SessionGrant,
            &of_session,
            &self.client,
            expires,
            Expect::Any,
        )?;
        let of_user = [self.user.as_str(), self.id.as_str()];
        records.write(transaction, Kind::UserGrant, &of_user, &self.client, expires, Expect::Any)
    }
}

/// For whom tokens are made, and bound to what.
#[derive(Clone, Copy)]
pub(crate) struct Parties<'a> {
    pub(crate) client: &'a Client,
    pub(crate) user: &'a User,
    pub(crate) binding: &'a Binding,
}

/// Refuses tokens where more is asked of a login by now than these methods amount to: the person has
/// another role, the client or the realm another setting. Nothing that leads to tokens is used up by
/// it.
pub(crate) fn check_class(realm: &Realm, client: &Client, user: &User, amr: &[String]) -> Answer<()> {
    if is_strong_enough(realm, client, user, amr) {
        return Ok(());
    }
    let reason = format!("client {:?}, user {:?}: {amr:?} is less than is asked for", client.id, user.id);
    Err(Refusal::new(Code::InvalidGrant, "a stronger login is needed", reason))
}

/// Whether what a person showed is enough for what is asked of them now.
pub(crate) fn is_strong_enough(realm: &Realm, client: &Client, user: &User, amr: &[String]) -> bool {
    let wanted = login::wanted(realm, client.acr.as_deref(), None, user);
    step::is_met(&realm.settings.acr_levels, &wanted, amr)
}

/// What of a grant one token is for.
pub(crate) struct Narrowed {
    pub(crate) scopes: BTreeSet<String>,
    pub(crate) resources: BTreeSet<String>,
}

/// Why a grant ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    CodeReused,
    RefreshTokenReused,
    SessionEnded,
    SignedOut,
    Administrator,
    Withdrawn,
    RevokedByClient,
    ClientGone,
}

impl Why {
    const fn text(self) -> &'static str {
        match self {
            Self::CodeReused => "its code was used again",
            Self::RefreshTokenReused => "a refresh token was used again",
            Self::SessionEnded => "its session has ended",
            Self::SignedOut => "its user was signed out",
            Self::Administrator => "ended by an administrator",
            Self::Withdrawn => "its person withdrew it",
            Self::RevokedByClient => "revoked by its client",
            Self::ClientGone => "its client was switched off or removed",
        }
    }

    /// Whether it may be that somebody has what is not theirs; the rest is everyday.
    const fn is_attack(self) -> bool {
        matches!(self, Self::CodeReused | Self::RefreshTokenReused)
    }
}

/// Ends a grant: its refresh tokens are gone, its access tokens are revoked, the one that
/// somebody gets at this very moment too. Gives whether there was one.
///
/// INVARIANT: however often others write it meanwhile, it ends.
pub(crate) async fn revoke(realm: &Realm, id: &str, why: Why) -> Result<bool, Error> {
    let records = &realm.records;
    for attempt in 0..ATTEMPTS_MAX {
        records.pause(attempt).await;
        let Some(stored) = records.get::<Grant>(Kind::Grant, &[id]).await? else { return Ok(false) };
        let end = if attempt < REVOKED_AS_READ_MAX { end } else { end_whatever_it_is };
        if records.commit(end(realm, Transaction::new(), &stored)?).await? == Written::Done {
            let Grant { client, user, .. } = stored.value;
            let text = why.text();
            if why.is_attack() {
                tracing::warn!(grant = id, client, user, why = text, "identity: grant revoked");
            } else {
                tracing::info!(grant = id, client, user, why = text, "identity: grant revoked");
            }
            return Ok(true);
        }
    }
    Err(Error::Contended("a grant that is revoked"))
}

/// Adds the end of a grant to a transaction: it fails when the grant was written meanwhile.
fn end(realm: &Realm, changes: Transaction, stored: &Stored<Grant>) -> Result<Transaction, Error> {
    end_at(realm, changes, &stored.value, Expect::Version(stored.version), stored.value.tokens_until)
}

/// The same, written meanwhile or not: for as long as an access token of this moment may last.
fn end_whatever_it_is(
    realm: &Realm,
    changes: Transaction,
    stored: &Stored<Grant>,
) -> Result<Transaction, Error> {
    let until = stored.value.tokens_until.max(realm.now().plus(ACCESS_TOKEN_MAX));
    end_at(realm, changes, &stored.value, Expect::Present, until)
}

fn end_at(
    realm: &Realm,
    changes: Transaction,
    grant: &Grant,
    expect: Expect,
    tokens_until: Timestamp,
) -> Result<Transaction, Error> {
    let records = &realm.records;
    let (id, session) = (grant.id.as_str(), grant.authentication.session.as_str());
    let changes = changes
        .delete(records.key(Kind::Grant, &[id]), expect)
        .delete(records.key(Kind::SessionGrant, &[session, id]), Expect::Any)
        .delete(records.key(Kind::UserGrant, &[&grant.user, id]), Expect::Any);
    revocation::write(realm, changes, revocation::Named::Grant(id), tokens_until)
}

/// Ends many grants, many at a time.
pub(crate) async fn revoke_all(realm: &Realm, grants: &[Stored<Grant>], why: Why) -> Result<(), Error> {
    for some in grants.chunks(REVOKED_AT_ONCE) {
        let changes = some.iter().try_fold(Transaction::new(), |changes, one| end(realm, changes, one))?;
        if realm.records.commit(changes).await? == Written::Done {
            tracing::info!(grants = some.len(), why = why.text(), "identity: grants revoked");
            continue;
        }
        // One of them is in use at this moment.
        for one in some {
            revoke(realm, &one.value.id, why).await?;
        }
    }
    Ok(())
}

/// Ends what a person granted a client.
pub(crate) async fn revoke_of(realm: &Realm, user: &str, client: &str, why: Why) -> Result<(), Error> {
    for (id, of) in realm.records.list_all::<String>(Kind::UserGrant, &[user]).await? {
        if of.value == client {
            revoke(realm, &id, why).await?;
        }
    }
    Ok(())
}

/// The chain of actors with one more at its head (RFC 8693 §4.1).
pub(crate) fn actor(subject: &str, before: Option<&Value>) -> Value {
    let mut actor = serde_json::json!({ "sub": subject });
    if let (Some(actor), Some(before)) = (actor.as_object_mut(), before) {
        actor.insert("act".to_owned(), before.clone());
    }
    actor
}

#[cfg(test)]
mod tests {
    use super::Why;

    #[test]
    fn only_what_may_be_somebody_else_s_doing_is_a_warning() {
        let why = [
            (Why::CodeReused, true),
            (Why::RefreshTokenReused, true),
            (Why::SessionEnded, false),
            (Why::SignedOut, false),
            (Why::Administrator, false),
            (Why::Withdrawn, false),
            (Why::RevokedByClient, false),
            (Why::ClientGone, false),
        ];
        for (why, is_attack) in why {
            assert_eq!(why.is_attack(), is_attack, "{}", why.text());
        }
    }
}
