//! Browsers' sessions as a proof of identity: found by their cookie, held to the site that
//! they are of, kept fresh, and where there is none begun by a login.

use std::sync::Arc;

use http::{Method, StatusCode};
use keys::Refusal as Unproven;
use model::event::Step;
use model::{Principal, Switch};
use proxy::{ConnectionInfo, Known, RequestHead};

use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::session::site::{self, Source};
use crate::session::{Level, RelyingParty, Session, Standing, cookie};
use crate::snapshot::{Route, Snapshot};
use crate::step::possession::origin;

/// How long a request waits for a refresh of its session's tokens.
const WAIT_MAX: std::time::Duration = std::time::Duration::from_secs(10);

/// Whom the session of a request speaks of; `None` for a request without one.
///
/// # Errors
/// The request was not meant by the site itself (403).
pub(crate) async fn prove(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    head: &RequestHead,
) -> Result<Option<Result<Arc<Principal>, Unproven>>, Stop> {
    let Some(party) = &gateway.snapshot().party else { return Ok(None) };
    let origin = origin(gateway.snapshot(), journey.connection(), head);
    let session = match found(party, head, &origin, journey) {
        Some(Ok(session)) => session,
        Some(Err(unproven)) => return Ok(Some(Err(unproven))),
        None => return Ok(None),
    };
    if site::can_change(&head.method, head.upgrade.is_some()) && !Switch::CrossSite.is_off() {
        own_site(route, head, &origin)?;
    }
    let revocations = gateway.snapshot().issuers.revocations();
    for _ in 0..2 {
        match party.standing(&session, &revocations, journey.time, true) {
            Standing::Good(principal) => return Ok(Some(Ok(principal))),
            Standing::Stale(principal) => {
                drop(party.refresh(&session));
                return Ok(Some(Ok(principal)));
            }
            Standing::Over(unproven) => return Ok(Some(Err(unproven))),
            Standing::Ended => {
                journey.enter("refresh session");
                let mut refreshed = party.refresh(&session);
                let _ = tokio::time::timeout(WAIT_MAX, refreshed.changed()).await;
                journey.enter(Step::Authenticate.name());
            }
        }
    }
    Ok(Some(Err(Unproven::SessionUnavailable)))
}

/// The session that the request's cookie names.
fn found(
    party: &RelyingParty,
    head: &RequestHead,
    origin: &str,
    journey: &Journey<'_>,
) -> Option<Result<Arc<Session>, Unproven>> {
    let over = |why: &'static str| Some(Err(Unproven::Session { why }));
    match cookie::one(cookie::of_head(head), cookie::names(origin).session) {
        Ok(None) => None,
        Err(cookie::Ambiguous) => over("there are two cookies of one"),
        Ok(Some(sealed)) => match party.find(sealed, origin, journey.time) {
            Some(session) => Some(Ok(session)),
            None => over("it was ended, or its cookie is not one of this place"),
        },
    }
}

fn own_site(route: &Route, head: &RequestHead, origin: &str) -> Result<(), Stop> {
    let source = Source {
        origin: head.fields.get(Known::Origin),
        fetch_site: head.fields.named(b"sec-fetch-site").next(),
    };
    let allowed = route.cors.as_ref().map_or(&[][..], |cors| cors.with_credentials());
    site::check(source, origin, allowed).map_err(|why| {
        let why = format!("a request with a session that could change something: {why}");
        Refusal::new(Step::Authenticate, "cross_site", StatusCode::FORBIDDEN, why).into()
    })
}

/// The session of an exchange under way, at this moment. Neither a use of it, nor waited
/// for: when its tokens are to be refreshed, that begins.
pub(crate) fn prove_again(
    snapshot: &Snapshot,
    connection: &ConnectionInfo,
    head: &RequestHead,
    now: model::Timestamp,
) -> Option<Result<Arc<Principal>, Unproven>> {
    let party = snapshot.party.as_ref()?;
    let origin = origin(snapshot, connection, head);
    let sealed = cookie::one(cookie::of_head(head), cookie::names(&origin).session).ok()??;
    let Some(session) = party.find(sealed, &origin, now) else {
        return Some(Err(Unproven::Session { why: "it was ended" }));
    };
    Some(match party.standing(&session, &snapshot.issuers.revocations(), now, false) {
        Standing::Good(principal) => Ok(principal),
        Standing::Stale(principal) => {
            drop(party.refresh(&session));
            Ok(principal)
        }
        Standing::Ended => {
            drop(party.refresh(&session));
            Err(Unproven::SessionUnavailable)
        }
        Standing::Over(unproven) => Err(unproven),
    })
}

/// Whether a person's browser opens a page: then it can be sent to log in. Everything else
/// is a call that would only follow the redirect into a page that it cannot read.
pub(crate) fn is_navigation(head: &RequestHead) -> bool {
    let reads_pages = head
        .fields
        .values(Known::Accept)
        .any(|value| value.windows(b"text/html".len()).any(|part| part.eq_ignore_ascii_case(b"text/html")));
    let mode = head.fields.named(b"sec-fetch-mode").next();
    matches!(head.method, Method::GET | Method::HEAD)
        && head.upgrade.is_none()
        // Browsers name their host. Whoever does not would come back to our own address, which is not told.
        && head.names_host()
        && reads_pages
        && mode.is_none_or(|mode| mode == b"navigate")
}

/// Sends a browser to the provider, to come back to what it asked for.
///
/// # Errors
/// Always: the redirect, or why there is none (503).
pub(crate) fn send_to_provider(
    gateway: &Gateway,
    journey: &Journey<'_>,
    head: &RequestHead,
    level: Option<&Level>,
    (step, class, why): (Step, &'static str, String),
) -> Stop {
    let unavailable = |why: String| {
        Refusal::new(step, "provider", StatusCode::SERVICE_UNAVAILABLE, why).with("retry-after", "5")
    };
    let Some(party) = &gateway.snapshot().party else {
        return unavailable("no provider is configured".to_owned()).into();
    };
    let origin = origin(gateway.snapshot(), journey.connection(), head);
    let back_to = String::from_utf8_lossy(&head.raw_target);
    match party.begin(&origin, &back_to, level, cookie::of_head(head), journey.time) {
        Ok(begun) => {
            let refusal =
                Refusal::new(step, class, StatusCode::SEE_OTHER, why).with("location", begun.location);
            begun
                .cookies
                .into_iter()
                .fold(refusal, |refusal, cookie| refusal.with("set-cookie", cookie))
                .into()
        }
        Err(why) => unavailable(format!("nobody can be sent to log in: {why}")).into(),
    }
}

/// The session of a request that was proven by one.
pub(crate) fn current(gateway: &Gateway, journey: &Journey<'_>, head: &RequestHead) -> Option<Arc<Session>> {
    let party = gateway.snapshot().party.as_ref()?;
    let origin = origin(gateway.snapshot(), journey.connection(), head);
    found(party, head, &origin, journey)?.ok()
}
