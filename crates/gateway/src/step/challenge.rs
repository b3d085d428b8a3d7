//! Requests of an ACME server that looks whether a name is ours (RFC 8555 §8.3), and
//! listeners that are there for them and send everybody else to https.

use http::{Method, StatusCode};
use model::event::Step;
use proxy::{Additions, ListenerKey, RequestHead};

use crate::journey::Journey;
use crate::respond::{Answer, Refusal, Stop};
use crate::serve::Gateway;
use crate::step::limit;

/// A listener that sends its requests to https.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpsRedirect {
    /// Which listener.
    pub listener: ListenerKey,
    /// To which port.
    pub port: u16,
}

/// Answers what asks on a cleartext listener for a proof that is offered. Everything else
/// goes on as if there were no proofs: an unknown token is a path like any other.
///
/// # Errors
/// The answer.
pub fn prove(gateway: &Gateway, journey: &Journey<'_>, head: &RequestHead) -> Result<(), Stop> {
    if journey.is_secure() || head.method != Method::GET {
        return Ok(());
    }
    let challenges = &gateway.snapshot().process.challenges;
    let Some(body) = challenges.http_answer(&head.host, &head.path) else { return Ok(()) };
    let mut fields = Additions::default();
    let _ = fields.push("content-type", b"application/octet-stream");
    let _ = fields.push("cache-control", b"no-store");
    Err(Stop::Answer(Box::new(Answer { step: Step::Route, status: StatusCode::OK, fields, body })))
}

/// Sends requests of a listener that only does that to the same place with https.
///
/// # Errors
/// The answer, or the address is not welcome (403).
pub fn redirect(gateway: &Gateway, journey: &Journey<'_>, head: &RequestHead) -> Result<(), Stop> {
    let listener = journey.connection().listener;
    let redirects = &gateway.snapshot().https_redirects;
    let Some(redirect) = redirects.iter().find(|redirect| redirect.listener == listener) else {
        return Ok(());
    };
    limit::everywhere(gateway, journey)?;
    if !head.names_host() {
        // It would be our own address, which may be one that only those behind a translation know.
        let why = "no host is named that could be asked by https";
        return Err(Refusal::new(Step::Route, "missing_host", StatusCode::BAD_REQUEST, why).into());
    }
    let mut fields = Additions::default();
    let _ = fields.push("location", &location(head, redirect.port));
    let status = StatusCode::PERMANENT_REDIRECT;
    let answer = Answer { step: Step::Route, status, fields, body: bytes::Bytes::new() };
    Err(Stop::Answer(Box::new(answer)))
}

/// The same host, path and query, on this port.
fn location(head: &RequestHead, port: u16) -> Vec<u8> {
    let mut target = b"https://".to_vec();
    target.extend_from_slice(&head.host);
    if port != 443 {
        target.extend_from_slice(format!(":{port}").as_bytes());
    }
    target.extend_from_slice(&head.path);
    if let Some(query) = &head.query {
        target.push(b'?');
        target.extend_from_slice(query);
    }
    target
}
