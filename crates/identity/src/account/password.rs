//! Another password.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::{Method, header};
use axum::response::Response;
use model::Secret;
use store::Expect;

use super::{Owner, PATH, Visit, visit_anew};
use crate::Error;
use crate::call::Call;
use crate::login::password::strength::Weakness;
use crate::observe::AccountActivity;
use crate::page::{self, Frame};
use crate::realm::Realm;
use crate::record::Kind;
use crate::refusal::{Answer, Code, Refusal};
use crate::session::{cookie_name, set_cookie};
use crate::text::Notice;

/// Where it is, below the issuer.
const PASSWORD: &str = "/account/password";

/// The page.
#[derive(Template)]
#[template(path = "account_password.html")]
struct PasswordPage<'a> {
    frame: Frame<'a>,
    action: &'a str,
    csrf: &'a str,
    username: &'a str,
    length_min: usize,
    faults: &'a [String],
    back: &'a str,
}

/// Answers `GET` and `POST /account/password`.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    let answered = async {
        let owner = match visit_anew(&realm, &call, PASSWORD).await? {
            Visit::Owner(owner) => owner,
            Visit::Elsewhere(response) => return Ok(response),
        };
        match call.method {
            Method::POST => submit(&realm, &call, &owner).await,
            _ => show(&realm, &call, &owner, &[]),
        }
    };
    page::or_error(&realm, &call, answered.await)
}

fn show(realm: &Realm, call: &Call, owner: &Owner, faults: &[String]) -> Answer {
    let content = PasswordPage {
        frame: Frame::new(realm, call, PASSWORD),
        action: &realm.path(PASSWORD),
        csrf: &owner.session.value.csrf(realm),
        username: &owner.user.username,
        length_min: realm.settings.passwords.length_min,
        faults,
        back: &realm.path(PATH),
    };
    page::show(&content, None, !faults.is_empty())
}

async fn submit(realm: &Realm, call: &Call, owner: &Owner) -> Answer {
    owner.check_form(realm, call)?;
    let user = owner.user.id.as_str();
    let before = realm.records.get::<String>(Kind::Password, &[user]).await?;
    let texts = &call.language.texts().password;
    let given = |name: &str| call.parameters.get(name).unwrap_or_default();
    if given("password") != given("again") {
        return show(realm, call, owner, &[texts.different.to_owned()]);
    }
    let password = Secret::new(given("password").to_owned());
    if let Some(weakness) = realm.judge_password(&owner.user, &password).await? {
        return show(realm, call, owner, &Weakness::sentences(&weakness, call.language));
    }
    let salt = crate::random::bytes::<16>(realm.random.as_ref())?;
    let hash = realm.passwords.hash(password, salt).await?;
    // Judging and hashing took their time.
    let change = |changes| {
        let expect = before.as_ref().map_or(Expect::Absent, |before| Expect::Version(before.version));
        let changes = owner.as_judged(realm, changes);
        realm.records.write(changes, Kind::Password, &[user], &hash, None, expect)
    };
    let event = realm.event(AccountActivity::ChangePassword, Some(call)).by(&owner.user);
    // Everything that was begun with the old one ends, this session too.
    match realm.change_and_end(user, Some(&realm.telling(event)), change).await {
        Ok(_) => {}
        Err(Error::Contended(_)) => {
            let reason = "the session ended, or its person changed, since the form was sent";
            return Err(Refusal::person(Code::AccessDenied, Notice::SessionEnded, reason));
        }
        Err(error) => return Err(error.into()),
    }
    let mut response = page::message(realm, call, texts.changed)?;
    let cookie = set_cookie(realm, &cookie_name(realm), "", Some(Duration::ZERO))?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    Ok(response)
}
