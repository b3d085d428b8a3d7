//! To the upstream and back.

use http::StatusCode;
use model::event::{Outcome, Step};
use proxy::forward::ForwardError;
use proxy::upstream::dial::DialError;
use proxy::{Additions, BodyError, Cleared, Exchange, ResponseEdit};

use crate::journey::Journey;
use crate::live::Overseer;
use crate::respond::{Refusal, Stop};
use crate::serve::{End, Gateway};
use crate::snapshot::Route;
use crate::step::authenticate::challenge;
use crate::step::inspect;

/// Forwards, and says how it ended.
///
/// # Errors
/// It failed before a head was sent: the client gets an answer of ours.
pub async fn forward<E: Exchange>(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    cleared: Cleared,
    request: &Additions,
    response: &Additions,
    exchange: &mut E,
) -> Result<End, Stop> {
    journey.step = Step::Forward;
    let edit = ResponseEdit { set: response, remove: &[] };
    let judge = Overseer { gateway, connection: journey.connection(), address: journey.address };
    let mut outcome = proxy::forward(cleared, exchange, gateway.upstreams(), request, edit, &judge).await;
    if let Some(ForwardError::Cut(cut)) = &mut outcome.error
        && !cut.decision.is_empty()
    {
        // The decision that counts is the one that ended it.
        journey.decision = std::mem::take(&mut cut.decision);
    }
    journey.upstream = outcome.endpoint;
    journey.attempts = outcome.attempts;
    journey.bytes = (outcome.bytes_in, outcome.bytes_out);
    let failures = u64::from(outcome.attempts).saturating_sub(u64::from(outcome.error.is_none()));
    if let Some(metrics) = &gateway.core().metrics {
        metrics.upstream(route.service_label, u64::from(outcome.attempts), failures);
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
            class: class(&error),
            reason: format!("after the answer had begun: {error}").into(),
        }),
        (Some(error), None) => Err(refuse(gateway, &error, route, journey)),
    }
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
        class(error),
        status,
        format!(
            "service {:?} at {}: {error}",
            &*route.service,
            journey.upstream.as_deref().unwrap_or("no endpoint")
        ),
    );
    if let ForwardError::BreakerOpen { retry_after } = error {
        let seconds = retry_after.as_millis().div_ceil(1000).max(1);
        return refusal.with("retry-after", seconds.to_string()).into();
    }
    refusal.into()
}

const fn class(error: &ForwardError) -> &'static str {
    match error {
        ForwardError::NoService => "no_endpoint",
        ForwardError::BreakerOpen { .. } => "breaker_open",
        ForwardError::Connect(DialError::Full) => "upstream_full",
        ForwardError::Connect(_) => "connect",
        ForwardError::Timeout(_) => "upstream_timeout",
        ForwardError::Upstream(_) => "upstream",
        ForwardError::ClientGone(_) => "client_gone",
        ForwardError::Request(_) => "request_body",
        ForwardError::Cut(_) => "cut",
    }
}
