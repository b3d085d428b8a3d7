//! `bastide store` opens the store itself, whether a process runs or not. What it begins to do to all of it leaves its
//! event here, in the log of whoever runs; nothing is carried out.
//!
//! Policies are not asked: whoever has the unseal key needs no permit, and a `forbid` would only keep the event away.

use std::borrow::Cow;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use model::event::Step;
use serde::Deserialize;

use super::caller::Caller;
use super::problem::Problem;
use super::serve::{AdminState, event};

/// What events of it have in the place of a route.
pub const ROUTE: &str = "administration:store";
/// Where it is told, and what by.
const PATH: &str = "/v1/store/{work}";
/// What can be begun.
const WORKS: [&str; 3] = ["backup", "restore", "rotate"];
/// Largest body of a note, bytes.
const BODY_BYTES_MAX: usize = 16 << 10;
/// Longest text of a note in an event, characters.
const ABOUT_CHARACTERS_MAX: usize = 1024;

/// What is begun, in words: the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    about: String,
}

/// Adds the place where it is told.
pub fn route(router: Router, state: &Arc<AdminState>) -> Router {
    let state = Arc::clone(state);
    let answer = move |Path(work): Path<String>, request: Request| {
        let state = Arc::clone(&state);
        async move { write_down(&state, &work, request).await.unwrap_or_else(|problem| problem.respond(None)) }
    };
    router.route(PATH, post(answer))
}

async fn write_down(state: &AdminState, work: &str, request: Request<Body>) -> Result<Response, Problem> {
    let (head, body) = request.into_parts();
    // Only a command on the machine does anything of the kind.
    let caller = head.extensions.get::<Caller>().filter(|caller| caller.is_local());
    let Some(caller) = caller.filter(|_| WORKS.contains(&work)) else {
        return Err(Problem::not_found("such operation"));
    };
    let wrong = |_| Problem::malformed("body: expected what it is about");
    let body = axum::body::to_bytes(body, BODY_BYTES_MAX).await.map_err(wrong)?;
    let note: Note = serde_json::from_slice(&body).map_err(|fault| Problem::malformed(fault.to_string()))?;
    let now = state.now();
    let entry = state.entry(now).await?;
    let mut event = event("POST", ROUTE.to_owned(), &entry, caller, &head, head.uri.path(), now);
    event.step = Step::Forward;
    event.status = StatusCode::NO_CONTENT.as_u16();
    event.reason = Cow::Owned(note.about.chars().take(ABOUT_CHARACTERS_MAX).collect());
    entry.commit(event);
    Ok(StatusCode::NO_CONTENT.into_response())
}
