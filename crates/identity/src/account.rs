//! The account page: what a person sees and changes of their own account.
//!
//! Everything is a plain form with the session's token. What makes an account easier to
//! take over, or harder to take back, asks for a login of a moment ago.

pub(crate) mod factor;
pub(crate) mod grant;
pub(crate) mod password;
pub(crate) mod session;

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::response::Response;
use model::Timestamp;
use store::{Transaction, Version};
use time::OffsetDateTime;

use crate::authorize::interaction::{self, Then};
use crate::authorize::see_other;
use crate::call::Call;
use crate::factor::{Factor, Factors};
use crate::method::SEVERAL;
use crate::page::{self, Frame};
use crate::parameter::with_query;
use crate::realm::Realm;
use crate::record::Stored;
use crate::refusal::Answer;
use crate::session::Session;
use crate::text::account::Account;
use crate::user::User;

/// How fresh a login has to be for a change of password or factors.
const RECENT: Duration = Duration::from_secs(600);

/// Where it is, below the issuer.
pub(crate) const PATH: &str = "/account";

/// Somebody at their own account.
pub(crate) struct Owner {
    pub(crate) session: Stored<Session>,
    pub(crate) user: User,
    version: Version,
    pub(crate) factors: Factors,
}

/// Who it is, or the way to log in first.
pub(crate) enum Visit {
    Owner(Box<Owner>),
    Elsewhere(Response),
}

/// Who visits; who is not logged in, logs in and comes back to `path`.
pub(crate) async fn visit(realm: &Realm, call: &Call, path: &str) -> Answer<Visit> {
    if let Some(session) = crate::session::current(realm, call).await?
        && let Some((user, version)) = realm.find_user_by_id(&session.value.user).await?
        && !user.disabled
        && !user.is_over(session.value.authenticated)
    {
        let factors = crate::factor::get(realm, &user.id).await?;
        return Ok(Visit::Owner(Box::new(Owner { session, user, version, factors })));
    }
    let response = interaction::begin(realm, call, Then::Visit(path.to_owned()), None).await?;
    Ok(Visit::Elsewhere(response))
}

/// The same for what asks for a login of a moment ago, with a factor where there is one.
pub(crate) async fn visit_anew(realm: &Realm, call: &Call, path: &str) -> Answer<Visit> {
    match visit(realm, call, path).await? {
        Visit::Owner(owner) if !owner.is_fresh(call.now) => {
            let response = interaction::begin(realm, call, Then::Confirm(path.to_owned()), None).await?;
            Ok(Visit::Elsewhere(response))
        }
        visit => Ok(visit),
    }
}

impl Owner {
    fn is_fresh(&self, now: Timestamp) -> bool {
        let session = &self.session.value;
        let strong = self.factors.is_empty() || session.amr.iter().any(|method| method == SEVERAL);
        strong && now.since(session.authenticated) <= RECENT
    }

    /// Adds to a transaction that their session has not ended since, and that they are as they
    /// were: what was read of both a while ago may be why somebody ends it.
    pub(crate) fn as_judged(&self, realm: &Realm, changes: Transaction) -> Transaction {
        realm.as_judged(changes, (&self.user.id, self.version), Some(&self.session.value.id))
    }

    /// Checks that a form is of this session's pages.
    pub(crate) fn check_form(&self, realm: &Realm, call: &Call) -> Answer<()> {
        interaction::check_form(realm, call, &self.session.value.csrf(realm))
    }
}

/// What was done, for the page to say: an address can name these and nothing else.
#[derive(Clone, Copy)]
pub(crate) enum Done {
    Session,
    Others,
    Factor,
    Removed,
    Renamed,
    Withdrawn,
}

impl Done {
    const ALL: [Self; 6] =
        [Self::Session, Self::Others, Self::Factor, Self::Removed, Self::Renamed, Self::Withdrawn];

    const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Others => "others",
            Self::Factor => "factor",
            Self::Removed => "removed",
            Self::Renamed => "renamed",
            Self::Withdrawn => "withdrawn",
        }
    }

    const fn text(self, texts: &Account) -> &'static str {
        match self {
            Self::Session => texts.done_session,
            Self::Others => texts.done_others,
            Self::Factor => texts.done_factor,
            Self::Removed => texts.done_removed,
            Self::Renamed => texts.done_renamed,
            Self::Withdrawn => texts.done_withdrawn,
        }
    }
}

/// Back to the page, which says what was done.
pub(crate) fn done(realm: &Realm, what: Done) -> Response {
    see_other(&with_query(&realm.path(PATH), &[("done", what.name())]))
}

/// The page.
#[derive(Template)]
#[template(path = "account.html")]
struct AccountPage<'a> {
    frame: Frame<'a>,
    path: &'a str,
    csrf: &'a str,
    user: &'a User,
    done: &'a str,
    factors: Vec<Row>,
    recovery: usize,
    sessions: Vec<session::Row>,
    applications: Vec<grant::Row>,
    log_out: &'a str,
}

/// A factor, as it is shown.
struct Row {
    factor: Factor,
    added: String,
    used: Option<String>,
}

/// Answers `GET /account`.
pub(crate) async fn page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, show(&realm, &call).await)
}

async fn show(realm: &Realm, call: &Call) -> Answer {
    let owner = match visit(realm, call, PATH).await? {
        Visit::Owner(owner) => owner,
        Visit::Elsewhere(response) => return Ok(response),
    };
    let frame = Frame::new(realm, call, PATH);
    let done = call.parameters.get("done").unwrap_or_default();
    let done = Done::ALL.into_iter().find(|known| known.name() == done);
    let row = |factor: Factor| Row { added: day(factor.created), used: factor.used.map(moment), factor };
    let content = AccountPage {
        path: &realm.path(PATH),
        csrf: &owner.session.value.csrf(realm),
        done: done.map(|done| done.text(&frame.texts.account)).unwrap_or_default(),
        factors: owner.factors.list().into_iter().map(row).collect(),
        recovery: owner.factors.recovery.len(),
        sessions: session::rows(realm, &owner, &frame.texts.account, call.now).await?,
        applications: grant::rows(realm, &owner, frame.language).await?,
        log_out: &realm.path("/logout"),
        user: &owner.user,
        frame,
    };
    page::show(&content, None, false)
}

/// A day, as ISO 8601 writes it: in every language the same.
pub(crate) fn day(at: Timestamp) -> String {
    moment(at).split(' ').next().unwrap_or_default().to_owned()
}

/// A minute, in UTC.
pub(crate) fn moment(at: Timestamp) -> String {
    let seconds = i64::try_from(at.unix_seconds()).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (date, hour, minute) = (at.date(), at.hour(), at.minute());
    format!("{date} {hour:02}:{minute:02} UTC")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_as_iso_8601_has_them() {
        let at = Timestamp::from_unix_seconds(1_795_384_267);
        assert_eq!((day(at).as_str(), moment(at).as_str()), ("2026-11-22", "2026-11-22 21:51 UTC"));
    }
}
