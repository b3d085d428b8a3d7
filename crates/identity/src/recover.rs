//! Another password for somebody who lost theirs, the first one for somebody who was
//! invited, and an address that its person shows to be theirs: by a link in a message.
//!
//! ```text
//! /recover ─ who? ─ outbox          the answer is the same whoever it is, and as fast
//! message ─ /recover/password ─ another password ─ everything that they began ends ─ login
//! message ─ /verify ─ a button ─ the address is theirs
//! ```
//!
//! A link logs nobody in: who has a second factor needs it at the login as before. Opening a
//! link changes nothing, because mail servers and browsers open links by themselves; its form
//! does.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::Response;
use model::Secret;
use store::{Expect, Transaction};

use crate::Error;
use crate::authorize::interaction::{self, check_form};
use crate::call::Call;
use crate::login::password::strength::Weakness;
use crate::mail::Purpose;
use crate::mail::outbox::{self, Whom};
use crate::mail::secret::{self, Good};
use crate::observe::AccountActivity;
use crate::page::{self, Frame, PasswordPage, RecoverPage, VerifyPage};
use crate::realm::Realm;
use crate::record::{ATTEMPTS_MAX, Kind, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::text::Notice;
use crate::throttle;
use crate::user::User;

/// The links that lead to another password.
const PASSWORD_LINKS: [Purpose; 2] = [Purpose::Recovery, Purpose::Invitation];

/// Answers `GET /recover`: who has lost their password?
pub(crate) async fn page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, ask(&realm, &call))
}

fn ask(realm: &Realm, call: &Call) -> Answer {
    mail_is_there(realm)?;
    let browser = interaction::browser(realm, call)?;
    let content = RecoverPage {
        frame: Frame::new(realm, call, "/recover"),
        action: &realm.path("/recover"),
        csrf: &browser.csrf(realm),
    };
    Ok(browser.keep(page::show(&content, None, false)?))
}

/// Answers `POST /recover`.
///
/// INVARIANT: what is done here does not depend on whether there is such a person.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, begin(&realm, &call).await)
}

async fn begin(realm: &Realm, call: &Call) -> Answer {
    mail_is_there(realm)?;
    check_form(realm, call, &interaction::browser(realm, call)?.csrf(realm))?;
    let typed = call.parameters.get("username").unwrap_or_default();
    if throttle::recovery(realm, call, typed).await? {
        let whom = Whom::Typed(typed.chars().take(255).collect());
        outbox::put(realm, Purpose::Recovery, whom, call.language, call.now).await?;
    }
    page::message(realm, call, call.language.texts().recover.sent)
}

/// Answers `GET /recover/password`: the page behind the link.
pub(crate) async fn password_page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let shown = async {
        let good = linked(&realm, &call, &PASSWORD_LINKS).await?;
        show(&realm, &call, &good.user, &[])
    };
    page::or_error(&realm, &call, shown.await)
}

/// Answers `POST /recover/password`: another password.
pub(crate) async fn password_endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, change(&realm, &call).await)
}

async fn change(realm: &Realm, call: &Call) -> Answer {
    check_form(realm, call, &interaction::browser(realm, call)?.csrf(realm))?;
    let good = linked(realm, call, &PASSWORD_LINKS).await?;
    let user = &good.user;
    let texts = &call.language.texts().password;
    let password = Secret::new(call.parameters.get("password").unwrap_or_default().to_owned());
    if call.parameters.get("again").unwrap_or_default() != password.expose().as_str() {
        return show(realm, call, user, &[texts.different.to_owned()]);
    }
    if let Some(weakness) = realm.judge_password(user, &password).await? {
        tracing::info!(user = user.id, "identity: a password was too weak");
        return show(realm, call, user, &Weakness::sentences(&weakness, call.language));
    }
    let salt = crate::random::bytes::<16>(realm.random.as_ref())?;
    let hash = realm.passwords.hash(password, salt).await?;
    let token = call.parameters.require("token")?;
    // Judging and hashing took their time.
    let change = |changes| {
        let changes = good.as_judged(realm, secret::spend(realm, changes, token, &good.secret));
        let changes = told(realm, call, changes, user)?;
        realm.records.write(changes, Kind::Password, &[&user.id], &hash, None, good.password)
    };
    let event = realm.event(AccountActivity::ResetPassword, Some(call)).by(user);
    // Whoever knew the old one is out with it.
    match realm.change_and_end(&user.id, Some(&realm.telling(event)), change).await {
        Ok(_) => {}
        Err(Error::Contended(_)) => {
            let reason = "a link used twice at once, or its person changed meanwhile";
            return Err(link_over(reason));
        }
        Err(error) => return Err(error.into()),
    }
    // The message came to them: the address is theirs, unless another was faster.
    verified(realm, user, &good.secret.value.email).await?;
    let mut response = page::message(realm, call, texts.changed)?;
    let known = throttle::remember(realm, call, &user.username)?;
    response.headers_mut().append(header::SET_COOKIE, known);
    Ok(response)
}

/// Adds a message that says so to the change of a password.
fn told(realm: &Realm, call: &Call, changes: Transaction, user: &User) -> Result<Transaction, Error> {
    let whom = Whom::User(user.id.clone());
    outbox::add(realm, changes, Purpose::PasswordChanged, whom, call.language, call.now)
}

/// Answers `GET /verify`: asks whether the address is theirs.
pub(crate) async fn verify_page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let shown = async {
        let good = linked(&realm, &call, &[Purpose::Verification]).await?;
        let browser = interaction::browser(&realm, &call)?;
        let content = VerifyPage {
            frame: Frame::new(&realm, &call, "/verify"),
            action: &realm.path("/verify"),
            csrf: &browser.csrf(&realm),
            token: call.parameters.require("token")?,
            email: &good.secret.value.email,
        };
        Ok(browser.keep(page::show(&content, None, false)?))
    };
    page::or_error(&realm, &call, shown.await)
}

/// Answers `POST /verify`.
pub(crate) async fn verify_endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let done = async {
        check_form(&realm, &call, &interaction::browser(&realm, &call)?.csrf(&realm))?;
        let Good { secret, user, .. } = linked(&realm, &call, &[Purpose::Verification]).await?;
        if !verified(&realm, &user, &secret.value.email).await? {
            return Err(link_over("an address that another user has shown to be theirs meanwhile"));
        }
        let spent = secret::spend(&realm, Transaction::new(), call.parameters.require("token")?, &secret);
        match realm.records.commit(spent).await? {
            // A second one at the same time came to the same.
            Written::Done | Written::Conflict => {}
        }
        page::message(&realm, &call, call.language.texts().recover.verified)
    };
    page::or_error(&realm, &call, done.await)
}

/// Notes that an address is its person's; `false`: somebody else showed meanwhile that it is theirs.
async fn verified(realm: &Realm, user: &User, email: &str) -> Result<bool, Error> {
    for attempt in 0..ATTEMPTS_MAX {
        realm.records.pause(attempt).await;
        let found = realm.find_user_by_id(&user.id).await?;
        let theirs = |now: &User| now.email.as_deref() == Some(email) && !now.email_verified;
        let Some((now, version)) = found.filter(|(now, _)| theirs(now)) else { return Ok(true) };
        // This alone: what an administrator changes at the same time stays.
        let verified = User { email_verified: true, updated: realm.now(), ..now };
        match realm.write_user(&verified, Expect::Version(version)).await {
            Ok(Written::Done) => return Ok(true),
            Ok(Written::Conflict) => {}
            Err(Error::Owned { .. }) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Err(Error::Contended("a user"))
}

/// What the link of a request is good for.
async fn linked(realm: &Realm, call: &Call, purposes: &[Purpose]) -> Answer<Good> {
    let token = call.parameters.get("token").unwrap_or_default();
    let found = secret::find(realm, token, purposes, call.now).await?;
    found.ok_or_else(|| link_over("no such secret of a message"))
}

/// The answer to every link that is not good, whyever.
fn link_over(reason: &str) -> Box<Refusal> {
    Refusal::person(Code::InvalidRequest, Notice::LinkOver, reason)
}

fn mail_is_there(realm: &Realm) -> Answer<()> {
    let refused =
        || Refusal::plain(Code::InvalidRequest, "this realm has no mail").with_status(StatusCode::NOT_FOUND);
    if realm.has_mail() { Ok(()) } else { Err(refused()) }
}

fn show(realm: &Realm, call: &Call, user: &User, faults: &[String]) -> Answer {
    let browser = interaction::browser(realm, call)?;
    let content = PasswordPage {
        frame: Frame::new(realm, call, "/recover/password"),
        action: &realm.path("/recover/password"),
        csrf: &browser.csrf(realm),
        token: call.parameters.require("token")?,
        user: &user.username,
        length_min: realm.settings.passwords.length_min,
        faults,
    };
    let mut response = browser.keep(page::show(&content, None, false)?);
    if !faults.is_empty() {
        *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
    }
    Ok(response)
}
