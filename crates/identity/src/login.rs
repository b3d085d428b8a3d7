//! People showing who they are: the pages, and the factors behind them.
//!
//! [`endpoint`] is the page; [`password`] the one factor so far; [`acr`] says which class
//! of authentication the factors together amount to.

pub mod acr;
pub(crate) mod password;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::Response;
use model::Secret;
use store::Expect;

use crate::authorize::interaction::{self, Interaction, Then};
use crate::call::Call;
use crate::logout;
use crate::page::{self, LoginPage};
use crate::realm::Realm;
use crate::record::{Stored, Written};
use crate::refusal::{Answer, Code, Refusal};
use crate::session::{self, set_cookie};

/// Passwords that are tried in one login; then it has to begin anew.
const ATTEMPTS_MAX: u32 = 10;
/// Longest password, bytes: what is hashed has a bound.
pub const PASSWORD_BYTES_MAX: usize = 1024;

/// Methods (`amr`, RFC 8176) that a person can show here.
pub(crate) fn methods() -> BTreeSet<String> {
    BTreeSet::from(["pwd".to_owned()])
}

/// Answers `GET /login`: the page.
pub(crate) async fn page(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let shown = async {
        let waiting = interaction::open(&realm, &call).await?;
        show(&realm, &call, &waiting, None)
    };
    page::or_error(&realm, shown.await)
}

/// Answers `POST /login`: user name and password.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, submit(&realm, &call).await)
}

async fn submit(realm: &Arc<Realm>, call: &Call) -> Answer {
    let waiting = interaction::open(realm, call).await?;
    interaction::check_form(realm, call, &waiting.value.csrf)?;
    let username = call.parameters.get("username").unwrap_or_default();
    let password = Secret::new(call.parameters.get("password").unwrap_or_default().to_owned());
    count_attempt(realm, call, waiting).await?;
    let checked = password::check(realm, username, password).await?;
    let waiting = interaction::open(realm, call).await?;
    let Some(user) = checked else {
        // One text for every reason: nobody learns which users exist.
        tracing::info!(attempts = waiting.value.attempts, "identity: login failed");
        return show(realm, call, &waiting, Some("The user name or the password is wrong."));
    };
    let (amr, levels) = (vec!["pwd".to_owned()], &realm.settings.acr_levels);
    let acr = acr::reached(levels, &amr).map(str::to_owned);
    // The browser's session before: renewed for the same person, ended for another.
    let before = session::current(realm, call).await?;
    let renewed = match before {
        Some(before) if before.value.user == user.id => Some(before.value.id),
        Some(before) => {
            logout::end(realm, &before.value, call.now).await?;
            None
        }
        None => None,
    };
    let begun = session::begin(realm, &user.id, renewed, acr, amr, call.now).await?;
    tracing::info!(user = user.id, session = begun.session.id, "identity: login");
    interaction::logged_in(realm, call, waiting, &begun.session.id).await?;
    let mut response = interaction::go_on(realm, call)?;
    let cookie = set_cookie(&session::cookie_name(realm), &begun.cookie, None)?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}

/// Counts an attempt before it is judged: of many at once one is tried.
async fn count_attempt(realm: &Realm, call: &Call, waiting: Stored<Interaction>) -> Answer<()> {
    let refused = |reason: &str| {
        let told = "Too many attempts. Go back to the application and begin again.";
        Err(Refusal::new(Code::AccessDenied, told, reason))
    };
    if waiting.value.attempts >= ATTEMPTS_MAX {
        return refused("a login with too many attempts");
    }
    let name = interaction::name(call)?;
    let mut counted = waiting.value;
    counted.attempts += 1;
    match interaction::keep(realm, &name, &counted, Expect::Version(waiting.version)).await? {
        Written::Done => Ok(()),
        Written::Conflict => refused("a login with several attempts at once"),
    }
}

fn show(realm: &Realm, call: &Call, waiting: &Stored<Interaction>, error: Option<&str>) -> Answer {
    let hint = call.parameters.get("username").or(match &waiting.value.then {
        Then::Authorize(request) => request.login_hint.as_deref(),
        Then::Visit(_) => None,
    });
    let flow = call.parameters.require("flow")?;
    let content = LoginPage {
        realm: &realm.settings.display_name,
        base: realm.settings.path(),
        action: &realm.path("/login"),
        flow,
        csrf: &waiting.value.csrf,
        username: hint.unwrap_or_default(),
        error: error.unwrap_or_default(),
    };
    page::show(&content, waiting.value.form_target().as_deref(), error.is_some())
}
