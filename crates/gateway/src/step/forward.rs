//! To the upstream and back.

use http::StatusCode;
use model::event::{Outcome, Step};
use proxy::forward::{AttemptLog, ForwardError, Outcome as Forwarded};
use proxy::{Additions, BodyError, Cleared, Exchange, ResponseEdit, Version};

use crate::firewall::Inspected;
use crate::journey::Journey;
use crate::live::GatewayJudge;
use crate::respond::{Refusal, Stop};
use crate::response::{Refused, Shaped};
use crate::serve::{End, Gateway};
use crate::snapshot::Route;
use crate::step::authenticate::challenge;
use crate::step::inspect;

/// What is added to both messages.
pub(crate) struct Added<'a> {
    pub(crate) request: &'a Additions,
    pub(crate) response: &'a Additions,
}

/// Forwards, and says how it ended. The firewall sees the answer before the client does.
///
/// # Errors
/// It failed before a head was sent, or the firewall stopped the answer: the client gets
/// one of ours.
pub(crate) async fn forward<E: Exchange>(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    cleared: Cleared,
    added: Added<'_>,
    exchange: &mut E,
) -> Result<End, Stop> {
    journey.step = Step::Forward;
    if let Some(own) = &route.own_answer {
        return Err(own.answer(cleared.routed(), added.response)?);
    }
    let attempt_log =
        journey.traced.as_ref().and_then(|traced| traced.attempt_log(&*gateway.snapshot().process.clock));
    let judge = GatewayJudge { gateway, connection: journey.connection(), address: journey.address };
    let passage = Passage { gateway, added, judge, attempt_log: attempt_log.as_ref() };
    let inspection = journey.inspection.as_deref_mut();
    let (mut refused, mut reported) = (None, None);
    let opaque = cleared.routed().head().version == Version::Opaque;
    let outcome = if opaque || route.response.are_none() {
        passage.take(cleared, &mut Inspected::new(exchange, inspection)).await
    } else {
        let head = cleared.routed().head().clone();
        let operation = cleared.contract().operation();
        let places = &gateway.core().handed_off;
        let mut shaped = Shaped::new(exchange, route, &head, operation, places);
        // The firewall sees what the upstream sent, before it is compressed.
        let outcome = passage.take(cleared, &mut Inspected::new(&mut shaped, inspection)).await;
        (refused, reported) = (shaped.refused.take(), shaped.reported.take());
        outcome
    };
    if let Some(violations) = reported {
        journey.report(&violations);
    }
    if let (Some(attempt_log), Some(traced)) = (attempt_log, &mut journey.traced) {
        traced.keep(attempt_log.into_attempts());
    }
    let begun = exchange.head_sent();
    settle(gateway, journey, route, outcome, refused.map(|refused| (refused, begun)))
}

/// The way to the upstream and back, whatever stands between it and the client.
struct Passage<'a> {
    gateway: &'a Gateway,
    added: Added<'a>,
    judge: GatewayJudge<'a>,
    attempt_log: Option<&'a AttemptLog<'a>>,
}

impl Passage<'_> {
    async fn take<E: Exchange>(&self, cleared: Cleared, exchange: &mut E) -> Forwarded {
        let edit = ResponseEdit { set: self.added.response, remove: &[] };
        let upstreams = self.gateway.upstreams();
        proxy::forward(cleared, exchange, upstreams, self.added.request, edit, &self.judge, self.attempt_log)
            .await
    }
}

/// Notes how it went, and says how it ended. `refused`: an answer that may not go on, and whether
/// it had begun.
fn settle(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    mut outcome: Forwarded,
    refused: Option<(Refused, bool)>,
) -> Result<End, Stop> {
    if let Some(ForwardError::Cut(cut)) = &mut outcome.error
        && !cut.decision.is_empty()
    {
        // The decision that counts is the one that ended it.
        journey.decision = std::mem::take(&mut cut.decision);
    }
    journey.upstream = outcome.endpoint;
    journey.attempts = outcome.attempts;
    journey.bytes = (outcome.bytes_in, outcome.bytes_out);
    if let Some(stopped) = journey.inspection.as_ref().and_then(|inspection| inspection.stopped()) {
        let stop = inspect::refuse(stopped);
        journey.step = Step::Inspect;
        return Err(stop);
    }
    let failures = u64::from(outcome.attempts).saturating_sub(u64::from(outcome.error.is_none()));
    if let Some(metrics) = &gateway.core().metrics {
        metrics.upstream(route.service_label, u64::from(outcome.attempts), failures);
    }
    if let Some((refused, begun)) = refused {
        return answer_refused(&refused, begun, outcome.status);
    }
    match (outcome.error, outcome.status) {
        (None, status) => {
            Ok(End { outcome: Outcome::Allowed, step: Step::Forward, status, class: "", reason: "".into() })
        }
        (Some(ForwardError::Cut(cut)), Some(status)) => Ok(End {
            outcome: Outcome::Denied,
            step: cut.step,
            status: Some(status),
            class: cut.class,
            reason: format!("cut after the answer had begun: {}", cut.reason).into(),
        }),
        (Some(error), Some(status)) => Ok(End {
            outcome: Outcome::Failed,
            step: Step::Forward,
            status: Some(status),
            class: error.class(),
            reason: format!("after the answer had begun: {error}").into(),
        }),
        (Some(error), None) => Err(refuse(gateway, &error, route, journey)),
    }
}

/// The upstream answered, and the answer may not go on.
fn answer_refused(refused: &Refused, begun: bool, status: Option<StatusCode>) -> Result<End, Stop> {
    if !begun {
        let class = refused.class();
        return Err(Refusal::new(Step::Forward, class, StatusCode::BAD_GATEWAY, refused.reason()).into());
    }
    Ok(End {
        outcome: Outcome::Failed,
        step: Step::Forward,
        status,
        class: refused.class(),
        reason: format!("after the answer had begun: {}", refused.reason()).into(),
    })
}

/// A body that could not be read before the request went on.
pub fn refuse_body(gateway: &Gateway, journey: &mut Journey<'_>, error: BodyError) -> Stop {
    match error {
        BodyError::TooLarge { limit } => {
            gateway.count_limit("body_bytes_max");
            inspect::too_large(None, limit).into()
        }
        BodyError::Malformed(why) => {
            if why == "trailer_too_large" {
                gateway.count_limit("trailer_bytes_max");
            }
            inspect::malformed(why).into()
        }
        BodyError::Timeout => {
            let why = "the request's body did not arrive in time";
            Refusal::new(journey.step, "request_body", StatusCode::REQUEST_TIMEOUT, why).into()
        }
        BodyError::NoRoom { limit } => no_room(journey.step, limit).into(),
        // Somebody who went away gets no answer; the event says 499, as its readers expect.
        BodyError::Io(error) => {
            let status = StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST);
            let why = format!("the client went away: {error}");
            Refusal::new(journey.step, "client_gone", status, why).into()
        }
    }
}

/// The refusal of a body that there is no room to hold.
fn no_room(step: Step, limit: &str) -> Refusal {
    let why = format!("the body waits for its end, and as much is held of others as {limit} allows");
    Refusal::new(step, "held_bytes", StatusCode::SERVICE_UNAVAILABLE, why).with("retry-after", "1")
}

fn refuse(gateway: &Gateway, error: &ForwardError, route: &Route, journey: &mut Journey<'_>) -> Stop {
    if let ForwardError::Request(BodyError::TooLarge { limit }) = error {
        journey.step = Step::Inspect;
        gateway.count_limit("body_bytes_max");
        return inspect::too_large(None, *limit).into();
    }
    if let ForwardError::Request(BodyError::Malformed(why)) = error {
        journey.step = Step::Inspect;
        if *why == "trailer_too_large" {
            gateway.count_limit("trailer_bytes_max");
        }
        return inspect::malformed(why).into();
    }
    if let ForwardError::Request(BodyError::NoRoom { limit }) = error {
        return no_room(journey.step, limit).into();
    }
    if let ForwardError::Cut(cut) = error {
        journey.step = cut.step;
        let refusal = Refusal::new(cut.step, cut.class, cut.status, cut.to_string());
        return if cut.status == StatusCode::UNAUTHORIZED { challenge(route, refusal) } else { refusal }
            .into();
    }
    // Somebody who went away gets no answer; the event says 499, as its readers expect.
    let status = error.status().or(StatusCode::from_u16(499).ok()).unwrap_or(StatusCode::BAD_GATEWAY);
    let refusal = Refusal::new(
        Step::Forward,
        error.class(),
        status,
        format!(
            "service {:?} at {}: {error}",
            &*route.service,
            journey.upstream.as_deref().unwrap_or("no endpoint")
        ),
    );
    match error.retry_after() {
        Some(wait) => refusal.with("retry-after", wait.as_millis().div_ceil(1000).to_string()).into(),
        None => refusal.into(),
    }
}
