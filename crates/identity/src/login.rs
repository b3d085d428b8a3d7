//! People showing who they are: the pages, and the factors behind them.
//!
//! ```text
//! /login ─ password ─┐
//! /login/passkey ────┼─ advance ─┬─ /login/factor   a passkey, a code, a recovery code
//! session, stepped up┘     ▲     ├─ /login/enrol    who has to have a factor and has none
//!                          └─────┤
//!                                └─ complete        the session begins: now, and not before
//! ```
//!
//! [`step`] says what is missing, [`acr`] which class of authentication the methods
//! together amount to.

pub mod acr;
mod advance;
pub(crate) mod enrol;
pub(crate) mod factor;
pub(crate) mod passkey;
pub(crate) mod password;
pub(crate) mod step;

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::Response;
use model::Secret;

use crate::authorize::interaction::{self, Then, Waiting};
use crate::call::Call;
use crate::method;
use crate::observe::{AccountActivity, Event, Failure};
use crate::page::{self, LoginPage};
use crate::realm::Realm;
use crate::record::{self, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::session::Shown;
use crate::text::Notice;
use crate::throttle;

pub(crate) use advance::{advance, available, class, unmet, wanted};

/// Passwords and codes that are tried in one login; then it has to begin anew.
const ATTEMPTS_MAX: u32 = 10;
/// Longest password, bytes: what is hashed has a bound.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Answers `GET /login`: the page.
pub(crate) async fn page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let shown = async {
        let waiting = interaction::open(&realm, &call).await?;
        show(&realm, &call, &waiting, None)
    };
    page::or_error(&realm, &call, shown.await)
}

/// Answers `POST /login`: user name and password.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, submit(&realm, &call).await)
}

async fn submit(realm: &Arc<Realm>, call: &Call) -> Answer {
    password::refuse_where_full(realm)?;
    let waiting = interaction::open(realm, call).await?;
    interaction::check_form(realm, call, &waiting.value.csrf)?;
    let username = call.parameters.get("username").unwrap_or_default();
    let password = Secret::new(call.parameters.get("password").unwrap_or_default().to_owned());
    let event = logon(realm, call, &waiting);
    // Whoever is refused there or here leaves no record, and takes no turn.
    let admitted = match refuse_spent(&waiting) {
        Ok(()) => throttle::admit(realm, call, username).await,
        Err(refusal) => Err(refusal),
    };
    let attempt = match admitted {
        Ok(attempt) => attempt,
        Err(refusal) => {
            if let Some(failure) = unjudged(&refusal) {
                realm.tell_beside(username, event.failed(failure));
            }
            return Err(refusal);
        }
    };
    if let Err(refusal) = count_in_turn(realm, call, waiting).await {
        attempt.never_judged(realm, call.now).await;
        return Err(refusal);
    }
    let (counted, telling, typed, now) = (attempt.clone(), Arc::clone(realm), username.to_owned(), call.now);
    let wrong = |judged: password::Wrong| async move {
        counted.failed(Arc::clone(&telling), now).await;
        let event = event.failed(judged.failure).by_typed(&telling, &typed, judged.user.as_ref());
        telling.tell(event).await;
    };
    let checked = match password::check(realm, username, password, wrong).await {
        Ok(checked) => checked,
        Err(refusal) => {
            attempt.never_judged(realm, call.now).await;
            return Err(refusal);
        }
    };
    let Some(user) = checked else {
        let waiting = interaction::open(realm, call).await?;
        return show(realm, call, &waiting, Some(Notice::WrongPassword));
    };
    let known = attempt.succeeded(realm, call).await?;
    let waiting = interaction::open(realm, call).await?;
    let methods = vec![method::PASSWORD.to_owned()];
    let shown = Shown::by(&user, methods, call.now);
    let mut response = advance(realm, call, waiting, shown).await?;
    response.headers_mut().append(header::SET_COOKIE, known);
    Ok(response)
}

/// An attempt to log in for what waits.
fn logon(realm: &Realm, call: &Call, waiting: &Waiting) -> Event {
    realm.event(AccountActivity::LogOn, Some(call)).for_client(waiting.value.client())
}

/// Why an attempt was refused before it was judged, where its person is.
fn unjudged(refusal: &Refusal) -> Option<Failure> {
    match refusal.notice? {
        Notice::SlowDown => Some(Failure::Throttled),
        Notice::TooManyAttempts => Some(Failure::TooManyAttempts),
        _ => None,
    }
}

/// Refuses a login in which nothing is tried any more.
fn refuse_spent(waiting: &Waiting) -> Answer<()> {
    if waiting.value.attempts < ATTEMPTS_MAX {
        Ok(())
    } else {
        Err(too_many("a login with too many attempts"))
    }
}

/// Counts an attempt before it is judged: of many at once one is tried.
async fn count_attempt(realm: &Realm, call: &Call, waiting: Waiting) -> Answer<()> {
    match counted(realm, call, waiting).await? {
        Written::Done => Ok(()),
        Written::Conflict => Err(too_many("a login with several attempts at once")),
    }
}

/// The same for passwords, of which each is tried: a form is sent twice by a double click, and a browser
/// shows the answer to the last. How many may be guessed at once the throttle says.
async fn count_in_turn(realm: &Realm, call: &Call, waiting: Waiting) -> Answer<()> {
    let mut waiting = waiting;
    for attempt in 1..record::ATTEMPTS_MAX {
        if counted(realm, call, waiting).await? == Written::Done {
            return Ok(());
        }
        realm.records.pause(attempt).await;
        waiting = interaction::open(realm, call).await?;
    }
    count_attempt(realm, call, waiting).await
}

/// Writes that one more is tried; a conflict: another was counted at this moment.
async fn counted(realm: &Realm, call: &Call, waiting: Waiting) -> Answer<Written> {
    refuse_spent(&waiting)?;
    let mut counted = waiting;
    counted.value.attempts += 1;
    interaction::written(realm, call, &counted).await
}

/// The same for somebody who is known, and tells of an attempt that is not judged.
async fn count_told(realm: &Realm, call: &Call, waiting: Waiting, event: &Event) -> Answer<()> {
    let counted = count_attempt(realm, call, waiting).await;
    if let Some(failure) = counted.as_ref().err().and_then(|refusal| unjudged(refusal)) {
        realm.tell(event.clone().failed(failure)).await;
    }
    counted
}

fn too_many(reason: &str) -> Box<Refusal> {
    Refusal::person(Code::AccessDenied, Notice::TooManyAttempts, reason)
}

fn show(realm: &Realm, call: &Call, waiting: &Waiting, error: Option<Notice>) -> Answer {
    let hint = call.parameters.get("username").or(match &waiting.value.then {
        Then::Authorize(request) => request.login_hint.as_deref(),
        Then::Visit(_) | Then::Confirm(_) | Then::Reach { .. } => None,
    });
    let flow = call.parameters.require("flow")?;
    let options = passkey::options(realm, waiting, None);
    let frame = page::Frame::new(realm, call, "/login");
    let content = LoginPage {
        action: &realm.path("/login"),
        flow,
        csrf: &waiting.value.csrf,
        username: hint.unwrap_or_default(),
        error: error.map(frame.texts.notice).unwrap_or_default(),
        recovery: &if realm.has_mail() { realm.path("/recover") } else { String::new() },
        passkey: options.as_deref().unwrap_or_default(),
        passkey_action: &realm.path("/login/passkey"),
        frame,
    };
    page::show_scripted(&content, waiting.value.form_target().as_deref(), error.is_some())
}
