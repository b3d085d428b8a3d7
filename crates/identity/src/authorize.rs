//! The authorization endpoint (RFC 6749 §4.1.1, OpenID Connect Core §3.1.2).
//!
//! ```text
//! parameters ─ target (client, redirect URI) ─ request ─ next step ─┬─ login ───┐
//!   or pushed      wrong: a page, never a       wrong: to the       ├─ step up ─┤ interaction
//!                  redirect                     client              ├─ consent ─┤
//!                                                                   ├─ code     │
//!                                                                   └─ error  ◄─┘
//! ```

pub(crate) mod consent;
mod decide;
pub(crate) mod interaction;
pub(crate) mod pushed;
pub(crate) mod request;
mod respond;

use std::sync::Arc;

use axum::extract::State;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};

use crate::call::Call;
use crate::client::Client;
use crate::factor::{self, Factors};
use crate::grant::{Decided, code};
use crate::login::step::{Class, Wanted};
use crate::realm::Realm;
use crate::refusal::{Answer, Refusal};
use crate::session;
use crate::token::uncached;
use crate::{login, page, text};
use decide::{Facts, Step};
use interaction::{Then, Waiting};
use request::{Request, Target};

pub(crate) use respond::see_other;

/// Answers `GET` and `POST /authorize`.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    if call.method == Method::HEAD {
        return head();
    }
    page::or_error(&realm, &call, begin(&realm, &call).await)
}

/// To whoever asks for the head alone. INVARIANT: nothing is begun, used up or issued by it: programs
/// that look where an address leads ask so (RFC 9110 §9.2.1).
fn head() -> Response {
    uncached(StatusCode::OK.into_response())
}

async fn begin(realm: &Arc<Realm>, call: &Call) -> Answer {
    call.parameters.check_once(&request::ADDRESS)?;
    let (client, parameters, jkt) = pushed::resolve(realm, call).await?;
    // Until this line nothing is sent anywhere; from here on the client is told.
    let target = Target::read(&client, &parameters)?;
    let request = match Request::read(realm, &client, &target, &parameters, jkt) {
        Ok(request) => request,
        Err(refusal) => return respond::refused(realm, call, &target, &refusal),
    };
    // A browser does not send its session along with somebody else's form.
    let cross_site = call.method == Method::POST && !request.prompt.none;
    let session = session::current(realm, call).await?;
    let person = Person::read(realm, session.as_ref().map(|stored| &stored.value), &client, &request).await?;
    let facts = Facts {
        session: session.as_ref().map(|stored| &stored.value),
        fresh: false,
        consented: consent::given(realm, session.as_ref().map(|stored| &stored.value), &request).await?,
        decided: false,
        declined: false,
        wanted: &person.wanted,
        factors: &person.factors,
        available: &login::available(realm),
        now: call.now,
    };
    let step = decide::next(&realm.settings, &client, &request, &facts);
    match (step, &session) {
        (Step::Answer, Some(session)) if !cross_site => {
            answer(realm, call, &client, &request, &session.value).await
        }
        (Step::Refuse(code, why), _) => {
            respond::refused(realm, call, &request.target, &Refusal::plain(code, why))
        }
        _ => {
            // Of a pushed request too.
            let language = parameters.get("ui_locales").and_then(text::preferred);
            interaction::begin(realm, call, Then::Authorize(Box::new(request)), language).await
        }
    }
}

/// Answers `GET /flow`: the next step of an authorization that waits for a person.
pub(crate) async fn go_on(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    if call.method == Method::HEAD {
        return head();
    }
    page::or_error(&realm, &call, resume(&realm, &call).await)
}

async fn resume(realm: &Arc<Realm>, call: &Call) -> Answer {
    let waiting = interaction::open(realm, call).await?;
    if let Some(shown) = waiting.value.shown.clone() {
        return login::advance(realm, call, waiting, shown).await;
    }
    let session = session::current(realm, call).await?;
    let own = session.as_ref().map(|stored| &stored.value);
    let fresh = own.is_some_and(|session| waiting.value.session.as_ref() == Some(&session.id));
    let request = match &waiting.value.then {
        Then::Authorize(request) => request,
        Then::Visit(path) | Then::Confirm(path) => {
            let confirm = matches!(waiting.value.then, Then::Confirm(_));
            if own.is_none() || (confirm && !fresh) {
                return interaction::go_to(realm, call, "/login");
            }
            interaction::end(realm, call, &waiting).await?;
            return Ok(see_other(&realm.path(path)));
        }
        Then::Reach { path, client } => {
            let Some(session) = own else { return interaction::go_to(realm, call, "/login") };
            let client = request::client(realm, client).await?;
            let class = login::class(realm, &client, session).await?;
            if class == Class::StepUp {
                return step_up(realm, call, waiting, session).await;
            }
            interaction::end(realm, call, &waiting).await?;
            return if class == Class::Good {
                Ok(see_other(&realm.path(path)))
            } else {
                Err(login::unmet(&client))
            };
        }
    };
    // From here on the client may be told again.
    let client = request::client_still(realm, request).await?;
    let person = Person::read(realm, own, &client, request).await?;
    let facts = Facts {
        session: own,
        fresh,
        consented: consent::given(realm, own, request).await?,
        // Whoever consented: another may have logged in since.
        decided: own.is_some_and(|session| waiting.value.consented.as_ref() == Some(&session.user)),
        declined: waiting.value.declined,
        wanted: &person.wanted,
        factors: &person.factors,
        available: &login::available(realm),
        now: call.now,
    };
    match (decide::next(&realm.settings, &client, request, &facts), own) {
        (Step::More, Some(session)) => step_up(realm, call, waiting, session).await,
        (Step::Login | Step::More, _) => interaction::go_to(realm, call, "/login"),
        (Step::Consent, _) => interaction::go_to(realm, call, "/consent"),
        (Step::Answer, Some(session)) => {
            // First the end, so that one interaction is at most one code.
            interaction::end(realm, call, &waiting).await?;
            answer(realm, call, &client, request, session).await
        }
        (Step::Refuse(code, why), _) => {
            interaction::end(realm, call, &waiting).await?;
            respond::refused(realm, call, &request.target, &Refusal::plain(code, why))
        }
        (Step::Answer, None) => interaction::go_to(realm, call, "/login"),
    }
}

/// Goes on with what was shown for a session.
async fn step_up(realm: &Realm, call: &Call, waiting: Waiting, session: &session::Session) -> Answer {
    let Some(user) = realm.user_since(&session.user, session.authenticated).await? else {
        return interaction::go_to(realm, call, "/login");
    };
    login::advance(realm, call, waiting, session.shown(&user)).await
}

/// What the decision needs to know of a person.
#[derive(Default)]
struct Person {
    wanted: Wanted,
    factors: Factors,
}

impl Person {
    async fn read(
        realm: &Realm,
        session: Option<&session::Session>,
        client: &Client,
        request: &Request,
    ) -> Answer<Self> {
        let Some(session) = session else { return Ok(Self::default()) };
        let Some(user) = realm.user(&session.user).await? else { return Ok(Self::default()) };
        let wanted = login::wanted(realm, client.acr.as_deref(), Some(request), &user);
        Ok(Self { wanted, factors: factor::get(realm, &user.id).await? })
    }
}

/// Gives the client its code.
async fn answer(
    realm: &Realm,
    call: &Call,
    client: &Client,
    request: &Request,
    session: &session::Session,
) -> Answer {
    let decided = Decided {
        client: client.id.clone(),
        user: session.user.clone(),
        scopes: request.scopes.clone(),
        resources: request.resources.clone(),
        asked: request.asked.clone(),
        authentication: session.authentication(),
        nonce: request.nonce.clone(),
        at: call.now,
    };
    let uri = &request.target.redirect_uri;
    let challenge = request.challenge.as_deref();
    let code = code::make(realm, decided, uri, challenge, request.jkt.clone(), call.now).await?;
    tracing::info!(client = client.id, user = session.user, "identity: code issued");
    respond::to_client(realm, call, &request.target, &[("code", &code)])
}
