//! Consent: what a client may do in a person's name, asked once and kept.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Expect, Transaction};

use super::interaction::{self, Then};
use super::request::{self, Request};
use super::respond;
use crate::call::Call;
use crate::page::{self, ConsentPage};
use crate::realm::Realm;
use crate::record::{Change, Kind, Stored, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::session::{self, Session};
use crate::settings::RealmSettings;
use crate::text::{Language, Notice};

/// What a person consented to.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Consent {
    pub(crate) scopes: BTreeSet<String>,
    resources: BTreeSet<String>,
    pub(crate) at: Timestamp,
}

/// Everything that a request needs consent to.
fn needed(realm: &Realm, request: &Request) -> BTreeSet<String> {
    let mut scopes = request.asked.scopes(&realm.settings.claims);
    scopes.extend(request.scopes.iter().cloned());
    scopes
}

/// Whether the person consented to all of it before.
pub(super) async fn given(realm: &Realm, session: Option<&Session>, request: &Request) -> Answer<bool> {
    let Some(session) = session else { return Ok(false) };
    let path = [session.user.as_str(), request.client.as_str()];
    let found = realm.records.get::<Consent>(Kind::Consent, &path).await?;
    Ok(found.is_some_and(|found| {
        needed(realm, request).is_subset(&found.value.scopes)
            && request.resources.is_subset(&found.value.resources)
    }))
}

/// What a person consented to, by client.
pub(crate) async fn of_user(realm: &Realm, user: &str) -> Result<Vec<(String, Consent)>, crate::Error> {
    let found = realm.records.list_all::<Consent>(Kind::Consent, &[user]).await?;
    Ok(found.into_iter().map(|(client, stored)| (client, stored.value)).collect())
}

/// Forgets what a person consented to for a client, and notes when, for what they allowed and
/// the client has not fetched yet.
pub(crate) async fn withdraw(
    realm: &Realm,
    user: &str,
    client: &str,
    now: Timestamp,
) -> Result<(), crate::Error> {
    tracing::info!(user, client, "identity: a consent was withdrawn");
    let (records, path) = (&realm.records, [user, client]);
    let changes = Transaction::new().delete(records.key(Kind::Consent, &path), Expect::Any);
    match records.commit(withdrawn(realm, changes, &path, now)?).await? {
        Written::Done => Ok(()),
        Written::Conflict => Err(crate::Error::Contended("a consent")),
    }
}

/// Adds to a transaction that what was allowed until now, and was not fetched yet, is taken back: by
/// a person from a client, or from a client alone, whoever allowed it.
pub(crate) fn withdrawn(
    realm: &Realm,
    changes: Transaction,
    path: &[&str],
    now: Timestamp,
) -> Result<Transaction, crate::Error> {
    let lifetimes = &realm.settings.lifetimes;
    let until = Some(now.plus(lifetimes.code.max(lifetimes.device_code)));
    realm.records.write(changes, Kind::Withdrawn, path, &now, until, Expect::Any)
}

/// What the page says of each scope: first who it is, then what there is here, in the order of the
/// configuration, and last that it goes on while nobody is there.
pub(crate) fn describe(realm: &Realm, language: Language, scopes: &BTreeSet<String>) -> Vec<String> {
    let texts = &language.texts().consent;
    let text = |scope: &String| match scope.as_str() {
        "openid" => texts.openid.to_owned(),
        "profile" => texts.profile.to_owned(),
        "email" => texts.email.to_owned(),
        "address" => texts.address.to_owned(),
        "phone" => texts.phone.to_owned(),
        "offline_access" => texts.offline_access.to_owned(),
        other => {
            let described = realm.settings.scopes.get(other).filter(|text| !text.is_empty());
            described.cloned().unwrap_or_else(|| other.to_owned())
        }
    };
    let mut scopes: Vec<&String> = scopes.iter().collect();
    scopes.sort_by_key(|scope| place(&realm.settings, scope));
    scopes.into_iter().map(text).collect()
}

/// Where a scope stands among others.
fn place<'s>(settings: &RealmSettings, scope: &'s str) -> (usize, usize, &'s str) {
    const ABOUT_THE_PERSON: [&str; 5] = ["openid", "profile", "email", "phone", "address"];
    match ABOUT_THE_PERSON.iter().position(|name| *name == scope) {
        Some(place) => (0, place, scope),
        None if scope == "offline_access" => (2, 0, scope),
        None => {
            let place = settings.scope_order.iter().position(|name| name == scope);
            (1, place.unwrap_or(usize::MAX), scope)
        }
    }
}

/// Answers `GET /consent`: the page.
pub(crate) async fn page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, show(&realm, &call).await)
}

async fn show(realm: &Realm, call: &Call) -> Answer {
    let waiting = interaction::open(realm, call).await?;
    let (request, session) = parties(realm, call, &waiting.value.then).await?;
    let client = request::client_still(realm, request).await?;
    let user = realm.user(&session.user).await?.map(|user| user.username).unwrap_or_default();
    let content = ConsentPage {
        frame: page::Frame::new(realm, call, "/consent"),
        action: &realm.path("/consent"),
        flow: call.parameters.require("flow")?,
        csrf: &waiting.value.csrf,
        client: client.display_name(),
        user: &user,
        scopes: describe(realm, call.language, &needed(realm, request)),
    };
    page::show(&content, waiting.value.form_target().as_deref(), false)
}

async fn parties<'a>(realm: &Realm, call: &Call, then: &'a Then) -> Answer<(&'a Request, Session)> {
    let over = |reason: &str| Refusal::person(Code::InvalidRequest, Notice::InteractionOver, reason);
    let Then::Authorize(request) = then else { return Err(over("nothing to consent to")) };
    let session = session::current(realm, call).await?.ok_or_else(|| over("the session has ended"))?;
    Ok((request, session.value))
}

/// Answers `POST /consent`: the decision.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, submit(&realm, &call).await)
}

async fn submit(realm: &Realm, call: &Call) -> Answer {
    let waiting = interaction::open(realm, call).await?;
    interaction::check_form(realm, call, &waiting.value.csrf)?;
    let (request, session) = parties(realm, call, &waiting.value.then).await?;
    // Nobody is sent to where it was registered once, nor consents to what the next client of its
    // name asks for.
    request::client_still(realm, request).await?;
    if call.parameters.get("decision") != Some("allow") {
        interaction::end(realm, call, &waiting).await?;
        let refusal = Refusal::plain(Code::AccessDenied, "the person did not consent");
        return respond::refused(realm, call, &request.target, &refusal);
    }
    remember(realm, &session.user, request, call.now).await?;
    interaction::consented(realm, call, waiting, &session.user).await?;
    interaction::go_on(realm, call)
}

/// Adds to what was consented to before.
async fn remember(realm: &Realm, user: &str, request: &Request, now: Timestamp) -> Answer<()> {
    let path = [user, request.client.as_str()];
    let decide = |before: Option<Stored<Consent>>| {
        let mut consent = before.map(|before| before.value).unwrap_or_default();
        consent.scopes.extend(needed(realm, request));
        consent.resources.extend(request.resources.iter().cloned());
        consent.at = now;
        let client = realm.records.key(Kind::Client, &[&request.client]);
        let besides = Transaction::new().require(client, Expect::Present);
        Ok((Some(Change { value: consent, expires: None, besides }), ()))
    };
    realm.records.change(Kind::Consent, &path, "a consent", decide).await
}
