//! What the body may be. The firewall joins here.

use http::StatusCode;
use model::Switch;
use model::event::Step;
use proxy::head::Framing;
use proxy::{Exchange, RequestHead};

use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::snapshot::Route;

/// Refuses a body that says it is too long, and bounds one that does not say.
///
/// # Errors
/// The body is over the route's limit (413).
pub fn body_limit<E: Exchange>(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    head: &RequestHead,
    exchange: &mut E,
) -> Result<(), Stop> {
    journey.step = Step::Inspect;
    if Switch::Inspect.is_off() {
        return Ok(());
    }
    if let Framing::Length(length) = head.framing
        && length > route.body_bytes_max
    {
        gateway.count_limit("body_bytes_max");
        return Err(too_large(Some(length), route.body_bytes_max).into());
    }
    exchange.limit_request(route.body_bytes_max);
    Ok(())
}

/// The refusal of a body over the limit.
pub fn too_large(length: Option<u64>, limit: u64) -> Refusal {
    let found = length.map_or_else(|| "more".to_owned(), |length| format!("{length} bytes"));
    let why = format!("the body may have {limit} bytes here, it has {found}");
    let mut refusal = Refusal::new(Step::Inspect, "body_bytes", StatusCode::PAYLOAD_TOO_LARGE, why);
    refusal.close = true;
    refusal
}

/// The refusal of a body whose framing is broken.
pub fn malformed(why: &str) -> Refusal {
    let mut refusal = Refusal::new(
        Step::Inspect,
        "body_malformed",
        StatusCode::BAD_REQUEST,
        format!("malformed body: {why}"),
    );
    refusal.close = true;
    refusal
}
