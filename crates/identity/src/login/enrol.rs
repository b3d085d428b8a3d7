//! Enrolling within a login: who has to have a factor and has none goes no further
//! without one.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::header;
use axum::response::Response;
use store::Transaction;

use super::advance::{advance, may_enrol, shown, standing};
use super::step::Next;
use super::{count_attempt, passkey as sign_in};
use crate::authorize::interaction::{self, Waiting};
use crate::call::Call;
use crate::factor::{self, FactorKind, Factors, Offer, passkey, qr, totp};
use crate::method;
use crate::observe::{AccountActivity, Telling};
use crate::page::{self, Frame};
use crate::realm::Realm;
use crate::refusal::Answer;
use crate::text::Notice;
use crate::user::User;

/// What an app is called whose owner does not say.
pub(crate) const APP: &str = "Authenticator app";
/// What events call recovery codes, beside the kinds of factors.
const RECOVERY_CODES: &str = "recovery_codes";
/// What a wrong code is told.
pub(crate) const WRONG_CODE: Notice = Notice::NotTheCodeOfNow;

/// The page.
#[derive(Template)]
#[template(path = "enrol.html")]
struct EnrolPage<'a> {
    frame: Frame<'a>,
    action: &'a str,
    flow: &'a str,
    csrf: &'a str,
    user: &'a str,
    may_wait: bool,
    /// What the browser is asked for a passkey with; empty: none can be enrolled.
    passkey: &'a str,
    /// Whether an app can be.
    app: bool,
    qr: qr::Code,
    address: &'a str,
    secret: String,
    name: &'a str,
    error: &'a str,
}

/// The recovery codes, shown once.
#[derive(Template)]
#[template(path = "codes.html")]
struct CodesPage<'a> {
    frame: Frame<'a>,
    codes: &'a [String],
    next: &'a str,
}

/// A secret in groups of four, easier to type.
pub(crate) fn grouped(secret: &str) -> String {
    let letters: Vec<char> = secret.chars().collect();
    letters.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join(" ")
}

/// Answers `GET /login/enrol`.
pub(crate) async fn page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let shown = async {
        let waiting = interaction::open(&realm, &call).await?;
        show(&realm, &call, waiting, None).await
    };
    page::or_error(&realm, &call, shown.await)
}

async fn show(realm: &Realm, call: &Call, waiting: Waiting, error: Option<Notice>) -> Answer {
    let shown = shown(&waiting.value)?;
    let standing = standing(realm, &waiting.value, &shown).await?;
    let (Next::Enrol { may_wait, kinds }, Some(offer), true) =
        (&standing.next, &waiting.value.offer, may_enrol(&shown, call.now))
    else {
        return advance(realm, call, waiting, shown).await;
    };
    let address = totp::address(&realm.settings.display_name, &standing.user.username, &offer.secret);
    let options = kinds
        .contains(&FactorKind::Passkey)
        .then(|| passkey::creation(realm, &standing.user, &standing.factors, &offer.challenge));
    let options = options.flatten().unwrap_or_default();
    let frame = Frame::new(realm, call, "/login/enrol");
    let content = EnrolPage {
        action: &realm.path("/login/enrol"),
        flow: call.parameters.require("flow")?,
        csrf: &waiting.value.csrf,
        user: &standing.user.username,
        may_wait: *may_wait,
        passkey: &options,
        app: kinds.contains(&FactorKind::Totp),
        qr: qr::code(&address)?,
        address: &address,
        secret: grouped(&offer.secret),
        name: call.parameters.get("name").unwrap_or(frame.texts.factor.app),
        error: error.map(frame.texts.notice).unwrap_or_default(),
        frame,
    };
    page::show_scripted(&content, waiting.value.form_target().as_deref(), error.is_some())
}

/// Answers `POST /login/enrol`.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, submit(&realm, &call).await)
}

async fn submit(realm: &Realm, call: &Call) -> Answer {
    let waiting = interaction::open(realm, call).await?;
    interaction::check_form(realm, call, &waiting.value.csrf)?;
    let mut shown = shown(&waiting.value)?;
    let standing = standing(realm, &waiting.value, &shown).await?;
    let as_judged = standing.as_judged(realm, &shown);
    let (Next::Enrol { may_wait, kinds }, Some(offer)) = (standing.next, waiting.value.offer.clone()) else {
        return advance(realm, call, waiting, shown).await;
    };
    if may_wait && call.parameters.get("decision") == Some("later") {
        let mut declined = waiting;
        declined.value.declined = true;
        return advance(realm, call, declined, shown).await;
    }
    if !may_enrol(&shown, call.now) {
        return advance(realm, call, waiting, shown).await;
    }
    count_attempt(realm, call, waiting).await?;
    let enrolled = take(realm, call, &standing.user, &kinds, &offer, &as_judged).await?;
    let mut waiting = interaction::open(realm, call).await?;
    let methods = match enrolled {
        Ok(methods) => methods,
        Err(error) => return show(realm, call, waiting, Some(error)).await,
    };
    // Another one for another factor.
    waiting.value.offer = Some(Offer::new(realm)?);
    let codes = first_codes(realm, call, &standing.user, &standing.factors, &as_judged).await?;
    shown.methods = method::add(&shown.methods, &methods);
    let response = advance(realm, call, waiting, shown).await?;
    if codes.is_empty() { Ok(response) } else { with_codes(realm, call, &codes, &response) }
}

/// Enrols what was sent: the methods that were shown by that, or what to tell the person.
/// `as_judged`: what has to be then as it was when they were judged.
pub(crate) async fn take(
    realm: &Realm,
    call: &Call,
    user: &User,
    kinds: &[FactorKind],
    offer: &Offer,
    as_judged: &Transaction,
) -> Answer<Result<Vec<&'static str>, Notice>> {
    let given = |name: &str| call.parameters.get(name);
    if let (Some(sent), true) = (given("credential"), kinds.contains(&FactorKind::Passkey)) {
        let name = given("name").unwrap_or("Passkey");
        let Some((passkey, proved)) = factor::created(realm, offer, name, sent, call.now)? else {
            return Ok(Err(sign_in::REFUSED));
        };
        let telling = enrolled(realm, call, user, FactorKind::Passkey.name());
        factor::add_passkey(realm, &user.id, &passkey, as_judged, Some(&telling)).await?;
        return Ok(Ok(proved.methods));
    }
    let (name, code) = (given("name").unwrap_or(APP), given("code").unwrap_or_default());
    let app = match kinds.contains(&FactorKind::Totp) {
        true => offer.confirmed(realm, name, code, call.now)?,
        false => None,
    };
    let Some(app) = app else { return Ok(Err(WRONG_CODE)) };
    let telling = enrolled(realm, call, user, FactorKind::Totp.name());
    factor::add_authenticator(realm, &user.id, &app, as_judged, Some(&telling)).await?;
    Ok(Ok(vec![method::ONE_TIME]))
}

/// That somebody has one factor more, once they have.
fn enrolled(realm: &Realm, call: &Call, user: &User, kind: &str) -> Telling {
    realm.telling(realm.event(AccountActivity::AddFactor, Some(call)).by(user).by_methods(&[kind]))
}

/// The recovery codes that come with a first factor; none, where there are some.
pub(crate) async fn first_codes(
    realm: &Realm,
    call: &Call,
    user: &User,
    before: &Factors,
    as_judged: &Transaction,
) -> Answer<Vec<String>> {
    match before.recovery.is_empty() {
        true => new_codes(realm, call, user, as_judged).await,
        false => Ok(Vec::new()),
    }
}

/// Recovery codes in the place of those before, if there were any.
pub(crate) async fn new_codes(
    realm: &Realm,
    call: &Call,
    user: &User,
    as_judged: &Transaction,
) -> Answer<Vec<String>> {
    let telling = enrolled(realm, call, user, RECOVERY_CODES);
    factor::renew_recovery(realm, &user.id, as_judged, Some(&telling)).await
}

/// The page of the codes in the place of a redirect, whose address its link leads to.
fn with_codes(realm: &Realm, call: &Call, codes: &[String], instead: &Response) -> Answer {
    let flow = call.parameters.require("flow")?;
    let next = crate::parameter::with_query(&realm.path("/flow"), &[("flow", flow)]);
    let mut response = show_codes(realm, call, codes, &next)?;
    for cookie in instead.headers().get_all(header::SET_COOKIE) {
        response.headers_mut().append(header::SET_COOKIE, cookie.clone());
    }
    Ok(response)
}

/// The page of the codes; `next`: where the person goes on.
pub(crate) fn show_codes(realm: &Realm, call: &Call, codes: &[String], next: &str) -> Answer {
    page::show(&CodesPage { frame: Frame::new(realm, call, ""), codes, next }, None, false)
}
