//! Factors: adding, naming, removing, and new recovery codes.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::Method;
use axum::response::Response;
use store::{Expect, Transaction};

use super::{Done, Owner, PATH, Visit, done, visit, visit_anew};
use crate::call::Call;
use crate::factor::{self, FactorKind, Offer, passkey, qr, totp};
use crate::login;
use crate::observe::AccountActivity;
use crate::page::{self, Frame};
use crate::realm::Realm;
use crate::record::{Kind, Written};
use crate::refusal::Answer;
use crate::text::Notice;

/// Where factors are added, below the issuer.
const ADD: &str = "/account/factor";

/// The page.
#[derive(Template)]
#[template(path = "account_factor.html")]
struct FactorPage<'a> {
    frame: Frame<'a>,
    action: &'a str,
    csrf: &'a str,
    passkey: &'a str,
    qr: qr::Code,
    address: &'a str,
    secret: String,
    error: &'a str,
    back: &'a str,
}

/// Answers `GET` and `POST /account/factor`: adds one.
pub(crate) async fn add(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let answered = async {
        let owner = match visit_anew(&realm, &call, ADD).await? {
            Visit::Owner(owner) => owner,
            Visit::Elsewhere(response) => return Ok(response),
        };
        match call.method {
            Method::POST => enrol(&realm, &call, &owner).await,
            _ => show(&realm, &call, &owner, None).await,
        }
    };
    page::or_error(&realm, &call, answered.await)
}

async fn show(realm: &Realm, call: &Call, owner: &Owner, error: Option<Notice>) -> Answer {
    let offer = offer(realm, owner, call).await?;
    let address = totp::address(&realm.settings.display_name, &owner.user.username, &offer.secret);
    let passkey = passkey::creation(realm, &owner.user, &owner.factors, &offer.challenge);
    let frame = Frame::new(realm, call, ADD);
    let content = FactorPage {
        action: &realm.path(ADD),
        csrf: &owner.session.value.csrf(realm),
        passkey: passkey.as_deref().unwrap_or_default(),
        qr: qr::code(&address)?,
        address: &address,
        secret: login::enrol::grouped(&offer.secret),
        error: error.map(frame.texts.notice).unwrap_or_default(),
        back: &realm.path(PATH),
        frame,
    };
    page::show_scripted(&content, None, error.is_some())
}

/// What this session is offered: the same until it is taken, so that a page that is loaded
/// again shows the code that the phone has.
async fn offer(realm: &Realm, owner: &Owner, call: &Call) -> Answer<Offer> {
    let path = [owner.session.value.id.as_str()];
    if let Some(known) = realm.records.get::<Offer>(Kind::Offer, &path).await? {
        return Ok(known.value);
    }
    let offer = Offer::new(realm)?;
    let until = Some(call.now.plus(realm.settings.lifetimes.interaction));
    match realm.records.put(Kind::Offer, &path, &offer, until, Expect::Absent).await? {
        Written::Done => Ok(offer),
        Written::Conflict => Err(crate::Error::Contended("an offer of factors").into()),
    }
}

async fn enrol(realm: &Realm, call: &Call, owner: &Owner) -> Answer {
    owner.check_form(realm, call)?;
    let offer = offer(realm, owner, call).await?;
    let kinds: Vec<FactorKind> = login::available(realm);
    let as_judged = owner.as_judged(realm, Transaction::new());
    if let Err(error) = login::enrol::take(realm, call, &owner.user, &kinds, &offer, &as_judged).await? {
        return show(realm, call, owner, Some(error)).await;
    }
    realm.records.remove(Kind::Offer, &[&owner.session.value.id]).await?;
    let codes = login::enrol::first_codes(realm, call, &owner.user, &owner.factors, &as_judged).await?;
    if codes.is_empty() {
        return Ok(done(realm, Done::Factor));
    }
    login::enrol::show_codes(realm, call, &codes, &realm.path(PATH))
}

/// Answers `POST /account/factors`: names, removes, or makes recovery codes.
pub(crate) async fn change(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, submit(&realm, &call).await)
}

async fn submit(realm: &Realm, call: &Call) -> Answer {
    let given = |name: &str| call.parameters.get(name);
    // A name opens nothing.
    let visited = match given("rename") {
        Some(_) => visit(realm, call, PATH).await?,
        None => visit_anew(realm, call, PATH).await?,
    };
    let owner = match visited {
        Visit::Owner(owner) => owner,
        Visit::Elsewhere(response) => return Ok(response),
    };
    owner.check_form(realm, call)?;
    let user = owner.user.id.as_str();
    if let (Some(id), Some(name)) = (given("rename"), given("name")) {
        factor::rename(realm, user, id, name).await?;
        return Ok(done(realm, Done::Renamed));
    }
    let as_judged = owner.as_judged(realm, Transaction::new());
    if let Some(id) = given("remove") {
        let kind = owner.factors.list().into_iter().find(|factor| factor.id == id).map(|factor| factor.kind);
        let event = realm.event(AccountActivity::RemoveFactor, Some(call)).by(&owner.user);
        let telling = realm.telling(event.by_methods(kind.map(FactorKind::name).as_slice()));
        factor::remove(realm, user, id, &as_judged, Some(&telling)).await?;
        return Ok(done(realm, Done::Removed));
    }
    if given("recovery").is_some() && !owner.factors.is_empty() {
        let codes = login::enrol::new_codes(realm, call, &owner.user, &as_judged).await?;
        return login::enrol::show_codes(realm, call, &codes, &realm.path(PATH));
    }
    Ok(crate::authorize::see_other(&realm.path(PATH)))
}
