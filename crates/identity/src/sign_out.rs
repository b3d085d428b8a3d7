//! The end of everything that a person began: when they are switched off, removed, given
//! another password, or signed out by an administrator.
//!
//! What stands first is one transaction: the change itself, the moment before which all is
//! over ([`User::signed_out`]), a revocation of the subject for the gateways, and a note of what
//! is left to do ([`Ended`]). A process that is killed after it leaves nothing usable behind;
//! what follows only tidies up, and tells the clients.

use model::Timestamp;
use serde::Serialize;
use store::Transaction;

use crate::Error;
use crate::grant::{self, Grant};
use crate::logout::ended::Ended;
use crate::logout::{self, Ends};
use crate::observe::Telling;
use crate::realm::Realm;
use crate::record::{Change, Kind, Stored};
use crate::revocation::{self, Named};
use crate::session::{self, Session};
use crate::user::{User, described};

/// A session, as an administrator or its person sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    /// Its `sid`.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// When the person last showed who they are.
    pub authenticated: Timestamp,
    /// When it was last used, to the minute.
    pub seen: Timestamp,
    /// When it ends if it is not used.
    pub expires: Timestamp,
    /// The class of the authentication.
    pub acr: Option<String>,
    /// Its methods (RFC 8176).
    pub amr: Vec<String>,
}

/// What a person allowed a client, as an administrator or they themselves see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GrantInfo {
    /// Its id.
    pub id: String,
    /// The client.
    pub client: String,
    /// The session that it began in.
    pub session: String,
    /// What was allowed.
    pub scopes: Vec<String>,
    /// Whether it goes on without its session.
    pub offline: bool,
    /// When it ends at the latest.
    pub until: Timestamp,
}

impl Realm {
    /// The sessions of a user that are good, the newest first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn sessions(&self, user: &str) -> Result<Vec<SessionInfo>, Error> {
        let mut found = session::of_user(self, user, self.now()).await?;
        found.sort_by_key(|session| std::cmp::Reverse(session.authenticated));
        let info = |session: Session| SessionInfo {
            expires: session.expires(self),
            id: session.id,
            user: session.user,
            authenticated: session.authenticated,
            seen: session.seen,
            acr: session.acr,
            amr: session.amr,
        };
        Ok(found.into_iter().map(info).collect())
    }

    /// What a user allowed clients and is still good.
    ///
    /// # Errors
    /// The store fails.
    pub async fn grants(&self, user: &str) -> Result<Vec<GrantInfo>, Error> {
        let mut found = Vec::new();
        for (id, _) in self.records.list_all::<String>(Kind::UserGrant, &[user]).await? {
            let Some(stored) = self.records.get::<Grant>(Kind::Grant, &[&id]).await? else { continue };
            let grant = stored.value;
            found.push(GrantInfo {
                offline: grant.is_offline(),
                id: grant.id,
                client: grant.client,
                session: grant.authentication.session,
                scopes: grant.scopes.into_iter().collect(),
                until: grant.until,
            });
        }
        found.sort_by(|one, other| (&one.client, &one.id).cmp(&(&other.client, &other.id)));
        Ok(found)
    }

    /// Ends a grant: its refresh tokens, and its access tokens at the gateways too. Gives whether there
    /// was one.
    ///
    /// # Errors
    /// The store fails.
    pub async fn end_grant(&self, id: &str) -> Result<bool, Error> {
        grant::revoke(self, id, grant::Why::Administrator).await
    }

    /// Ends everything that a user began until now: sessions, grants, refresh tokens, and
    /// access tokens at the gateways too. Gives how many sessions and grants were open.
    ///
    /// # Errors
    /// [`Error::Record`] when there is no such user; the store fails.
    pub async fn sign_out(&self, user: &str) -> Result<usize, Error> {
        self.change_and_end(user, None, Ok).await
    }

    /// Does a change of a user's credentials and ends everything that they began, at one
    /// moment, and tells of it then.
    pub(crate) async fn change_and_end(
        &self,
        user: &str,
        telling: Option<&Telling>,
        change: impl Fn(Transaction) -> Result<Transaction, Error>,
    ) -> Result<usize, Error> {
        let decide = |stored: Option<Stored<User>>| {
            let Some(stored) = stored else {
                let what = described(user);
                return Err(Error::Record { what, why: "there is none".to_owned() });
            };
            let now = self.now();
            let value = User { signed_out: Some(now), ..stored.value };
            let besides = self.end_tokens(change(Transaction::new())?, user, now)?;
            Ok((Some(Change { value, expires: None, besides }), ()))
        };
        self.records.change_and_tell(Kind::User, &[user], "a user", telling, decide).await?;
        self.finish(user).await
    }

    /// Does what [`Self::end_tokens`] left to do.
    pub(crate) async fn finish(&self, user: &str) -> Result<usize, Error> {
        // Whatever is there at this moment: clocks of processes may be apart.
        let ended = self.tidy_up(user, None).await?;
        Ended::User { id: user.to_owned(), until: self.now() }.done(self).await?;
        Ok(ended)
    }

    /// Ends what a user began, until a moment or at all, and forgets what was theirs if they are
    /// gone.
    pub(crate) async fn tidy_up(&self, user: &str, until: Option<Timestamp>) -> Result<usize, Error> {
        logout::ended::follow_sessions(self, user, self.now()).await?;
        let ended = self.end_begun(user, until, None).await?;
        if self.records.exists(Kind::User, &[user]).await? {
            return Ok(ended);
        }
        // Each with what leads to it.
        for factor in self.factors(user).await? {
            self.remove_factor(user, &factor.id).await?;
        }
        for kind in Kind::OF_USER {
            self.records.remove_all(kind, &[user]).await?;
        }
        Ok(ended)
    }

    /// Adds the end of a user's tokens at the gateways to a transaction, and what is left to do.
    pub(crate) fn end_tokens(
        &self,
        changes: Transaction,
        user: &str,
        now: Timestamp,
    ) -> Result<Transaction, Error> {
        // Tokens tell their time in whole seconds. Those of the second under way are told
        // by their session or grant, so that whoever logs in again in it keeps what they get.
        let issued_until = now.unix_seconds().saturating_sub(1);
        let until = now.plus(self.longest_token());
        let changes = Ended::User { id: user.to_owned(), until: now }.note(self, changes, now)?;
        revocation::write(self, changes, Named::Subject(user, issued_until), until)
    }

    /// Adds the end of the tokens of a user who had lost roles so often, and now loses one more, to a
    /// transaction: here, at the gateways, and nothing besides.
    pub(crate) fn end_roles(
        &self,
        changes: Transaction,
        user: &str,
        role_version: u64,
    ) -> Result<Transaction, Error> {
        let until = self.now().plus(self.longest_token());
        revocation::write(self, changes, Named::Roles(user, role_version), until)
    }

    /// Adds the end of the tokens that a client was issued about itself until now to a transaction: here,
    /// at the gateways, and nothing besides. Of the second under way too, in which it may just have got
    /// one: what it gets in the rest of that second is of no use, and it asks again.
    pub(crate) fn end_issued(
        &self,
        changes: Transaction,
        client: &str,
        now: Timestamp,
    ) -> Result<Transaction, Error> {
        let until = now.plus(self.longest_token());
        revocation::write(self, changes, Named::Subject(client, now.unix_seconds()), until)
    }

    /// Ends the sessions and grants that a user began, until a moment or at all, but for one
    /// session and what began in it.
    pub(crate) async fn end_begun(
        &self,
        user: &str,
        until: Option<Timestamp>,
        but: Option<&str>,
    ) -> Result<usize, Error> {
        let is_meant = |begun: Timestamp| until.is_none_or(|until| begun <= until);
        let mut ended = 0;
        for (id, _) in self.records.list_all::<()>(Kind::UserSession, &[user]).await? {
            if Some(id.as_str()) == but {
                continue;
            }
            // Whatever it is worth: an index that leads nowhere is tidied up by its expiry.
            if let Some(stored) = self.records.get::<Session>(Kind::Session, &[&id]).await?
                && is_meant(stored.value.authenticated)
            {
                let why = if but.is_some() { "ended_by_its_person" } else { "signed_out" };
                logout::end(self, &stored.value, Ends { why, call: None }, self.now()).await?;
                ended += 1;
            }
        }
        // After the sessions: no grant can begin in one that has ended.
        for (id, _) in self.records.list_all::<String>(Kind::UserGrant, &[user]).await? {
            let found = self.records.get::<Grant>(Kind::Grant, &[&id]).await?;
            let Some(grant) = found.map(|stored| stored.value) else { continue };
            let begun = &grant.authentication;
            if Some(begun.session.as_str()) != but && is_meant(begun.time) {
                grant::revoke(self, &id, grant::Why::SignedOut).await?;
                ended += 1;
            }
        }
        Ok(ended)
    }
}
