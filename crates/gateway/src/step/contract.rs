//! Does the request keep what the API promised to take: its OpenAPI document or its
//! JSON Schema. Nothing of it has reached an upstream yet.

use std::sync::Arc;

use contract::{BodyCheck, Class, Contract, HasBody, Opened, Pass, Unmet, Violations};
use http::StatusCode;
use model::event::Step;
use proxy::head::Framing;
use proxy::{Ahead, Exchange, Held, RequestHead};

use crate::hand_off::hand_off;
use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::snapshot::Route;
use crate::step::forward;

/// Bodies up to this length are judged on the core; longer ones on another thread, so
/// that the other requests of the core go on. Bytes.
pub const INLINE_BYTES_MAX: usize = 8 * 1024;
/// Bodies of one core, of requests and of responses, that are judged or inspected on other
/// threads at the same time; more wait. One that nobody waits for any more counts until it is
/// judged.
pub const HANDED_OFF_MAX: usize = 4;

/// How a route holds its requests against a contract.
#[derive(Clone, Debug)]
pub struct RouteContract {
    /// The contract.
    pub contract: Arc<Contract>,
    /// Most bytes of a request's body that are held to be judged.
    pub body_bytes_max: usize,
}

/// Holds a request against its route's contract.
///
/// # Errors
/// It breaks the contract, and the contract is enforced (400, 404, 405, 413, 415); its
/// body cannot be read.
pub async fn judge<E: Exchange>(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    head: &RequestHead,
    exchange: &mut Held<'_, E>,
) -> Result<Pass, Stop> {
    let Some(rules) = &route.contract else { return Ok(Pass::without_contract()) };
    journey.step = Step::Inspect;
    let has_body = match head.framing {
        Framing::None | Framing::Length(0) => HasBody::No,
        Framing::Length(_) => HasBody::Yes,
        Framing::Chunked | Framing::Close | Framing::Stream => HasBody::Perhaps,
    };
    match rules.contract.open(head, has_body) {
        Ok(Opened::Done(pass)) => Ok(pass),
        Ok(Opened::Body(check)) => {
            let operation = check.operation();
            match judge_body(gateway, journey, rules, head, check, exchange).await? {
                Ok(pass) => Ok(pass),
                Err(violations) => {
                    settle(gateway, journey, route, rules, head, Unmet { violations, operation })
                }
            }
        }
        Err(unmet) => settle(gateway, journey, route, rules, head, unmet),
    }
}

async fn judge_body<E: Exchange>(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    rules: &RouteContract,
    head: &RequestHead,
    check: BodyCheck,
    exchange: &mut Held<'_, E>,
) -> Result<Result<Pass, Violations>, Stop> {
    if matches!(head.framing, Framing::Length(length) if length > rules.body_bytes_max as u64) {
        return Ok(Err(check.too_large()));
    }
    let ahead = exchange.read_ahead(rules.body_bytes_max).await;
    let ahead = ahead.map_err(|error| forward::refuse_body(gateway, journey, error))?;
    if ahead == Ahead::More {
        return Ok(Err(check.too_large()));
    }
    let body = exchange.body();
    if body.len() <= INLINE_BYTES_MAX {
        return Ok(check.judge(&body));
    }
    let places = Arc::clone(&gateway.core().handed_off);
    let verdict = hand_off(places, move || check.judge(&body)).await;
    Ok(verdict.ok_or_else(|| {
        let why = "the body could not be judged on another thread";
        Refusal::new(Step::Inspect, "contract_failed", StatusCode::INTERNAL_SERVER_ERROR, why)
    })?)
}

/// Refuses, or notes and lets pass, as the contract says.
fn settle(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    rules: &RouteContract,
    head: &RequestHead,
    unmet: Unmet,
) -> Result<Pass, Stop> {
    if unmet.violations.first().class.is_undocumented() {
        let core = gateway.core();
        core.inventory.note(core.index, &route.name, head.method.as_str(), &head.path, journey.time);
    }
    match rules.contract.excuse(unmet.violations.clone(), unmet.operation) {
        Ok(pass) => {
            journey.report(&unmet.violations);
            Ok(pass)
        }
        Err(violations) => Err(refuse(&violations).into()),
    }
}

/// The client learns that it is wrong, the log learns where.
fn refuse(violations: &Violations) -> Refusal {
    let class = violations.first().class;
    let status = match class {
        Class::Path => StatusCode::NOT_FOUND,
        Class::Method => StatusCode::METHOD_NOT_ALLOWED,
        Class::MediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        Class::Size => StatusCode::PAYLOAD_TOO_LARGE,
        Class::Parameter | Class::Body | Class::Complexity | Class::Status | Class::Header => {
            StatusCode::BAD_REQUEST
        }
    };
    let mut refusal = Refusal::new(Step::Inspect, class.name(), status, violations.to_string());
    refusal.close = class == Class::Size;
    if class == Class::Method {
        refusal = refusal.with("allow", violations.allow.clone());
    }
    refusal
}
