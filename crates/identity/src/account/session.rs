//! Where a person is logged in, and ending it.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use model::Timestamp;

use super::{Done, Owner, PATH, Visit, done, moment, visit};
use crate::call::Call;
use crate::logout::{self, Ends};
use crate::page;
use crate::realm::Realm;
use crate::refusal::Answer;
use crate::session::{self, Session};
use crate::text::account::Account;

/// A session, as it is shown.
pub(super) struct Row {
    pub(super) id: String,
    /// The browser, as its person would call it.
    pub(super) browser: String,
    pub(super) address: String,
    pub(super) seen: String,
    /// Of this browser.
    pub(super) here: bool,
}

/// The person's sessions, this one first, then the newest.
pub(super) async fn rows(realm: &Realm, owner: &Owner, texts: &Account, now: Timestamp) -> Answer<Vec<Row>> {
    let here = &owner.session.value.id;
    let mut sessions = session::of_user(realm, &owner.user.id, now).await?;
    sessions.sort_by_key(|session| (session.id != *here, std::cmp::Reverse(session.seen)));
    let row = |session: Session| Row {
        browser: browser(&session.agent).unwrap_or_else(|| texts.somewhere.to_owned()),
        address: session.address.map(|address| address.to_string()).unwrap_or_default(),
        seen: moment(session.seen),
        here: session.id == *here,
        id: session.id,
    };
    Ok(sessions.into_iter().map(row).collect())
}

/// Browser and system of a `User-Agent`, from the words that they are known by. The first that
/// is there counts: browsers name those that they are like after themselves.
fn browser(agent: &str) -> Option<String> {
    const BROWSERS: [(&str, &str); 8] = [
        ("Edg", "Edge"),
        ("OPR/", "Opera"),
        ("SamsungBrowser", "Samsung Internet"),
        ("Firefox/", "Firefox"),
        ("FxiOS", "Firefox"),
        ("Chrome/", "Chrome"),
        ("CriOS", "Chrome"),
        ("Safari/", "Safari"),
    ];
    const SYSTEMS: [(&str, &str); 7] = [
        ("iPhone", "iPhone"),
        ("iPad", "iPad"),
        ("Android", "Android"),
        ("Windows", "Windows"),
        ("CrOS", "ChromeOS"),
        ("Mac OS X", "macOS"),
        ("Linux", "Linux"),
    ];
    let find = |known: &[(&str, &'static str)]| {
        known.iter().find(|(word, _)| agent.contains(word)).map(|(_, name)| *name)
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => Some(format!("{browser}, {system}")),
        (Some(name), None) | (None, Some(name)) => Some(name.to_owned()),
        (None, None) => None,
    }
}

/// Answers `POST /account/sessions`: ends one, or all others.
pub(crate) async fn endpoint(State(realm): State<Arc<Realm>>, call: Call) -> Response {
    page::or_error(&realm, &call, submit(&realm, &call).await)
}

async fn submit(realm: &Realm, call: &Call) -> Answer {
    let owner = match visit(realm, call, PATH).await? {
        Visit::Owner(owner) => owner,
        Visit::Elsewhere(response) => return Ok(response),
    };
    owner.check_form(realm, call)?;
    let here = owner.session.value.id.as_str();
    if call.parameters.get("others").is_some() {
        realm.end_begun(&owner.user.id, None, Some(here)).await?;
        return Ok(done(realm, Done::Others));
    }
    let named = call.parameters.get("session");
    // Only among the person's own: another's id finds nothing.
    for session in session::of_user(realm, &owner.user.id, call.now).await? {
        if session.id != here && named == Some(session.id.as_str()) {
            let ends = Ends { why: "ended_by_its_person", call: Some(call) };
            logout::end(realm, &session, ends, call.now).await?;
        }
    }
    Ok(done(realm, Done::Session))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_are_called_what_their_people_call_them() {
        for (agent, name) in [
            (
                "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
                Some("Firefox, Linux"),
            ),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Safari/537.36 Edg/140.0.0.0",
                Some("Edge, Windows"),
            ),
            (
                "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0.0.0 Mobile Safari/537.36",
                Some("Chrome, Android"),
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1",
                Some("Safari, iPhone"),
            ),
            ("<script>alert(1)</script>", None),
            ("", None),
        ] {
            assert_eq!(browser(agent).as_deref(), name, "{agent}");
        }
    }
}
