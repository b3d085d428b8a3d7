//! Opaque connections where something needs HTTP, and listeners that are for one service.

use http::StatusCode;
use model::event::Step;
use proxy::{ConnectionInfo, RequestHead, Version};

use crate::firewall::Mode;
use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::snapshot::{Route, Snapshot};

/// Lets an opaque connection pass where nothing on the route has to read what it carries.
///
/// # Errors
/// Something has to (403): what it cannot read it cannot let through.
pub fn fits(gateway: &Gateway, journey: &Journey<'_>, route: &Route, head: &RequestHead) -> Result<(), Stop> {
    if head.version != Version::Opaque {
        return Ok(());
    }
    let Some(needs) = needs_http(gateway.snapshot(), journey.connection(), route) else { return Ok(()) };
    let why = format!("the connection does not begin with HTTP, and {needs}");
    Err(Refusal::new(Step::Route, "not_http", StatusCode::FORBIDDEN, why).into())
}

/// What of a route needs HTTP.
fn needs_http(snapshot: &Snapshot, connection: &ConnectionInfo, route: &Route) -> Option<&'static str> {
    if route.own_answer.is_some() || route.in_process {
        return Some("the route answers itself");
    }
    if route.contract.is_some() {
        return Some("the route holds requests against a document");
    }
    let firewall = snapshot.firewalls.of(&connection.listener, Some(route));
    firewall.is_some_and(|firewall| firewall.mode == Mode::Block).then_some("the firewall reads requests")
}

/// Keeps a request to the service that its listener is for, where it is for one.
///
/// # Errors
/// The route leads to another one (421).
pub fn stays(snapshot: &Snapshot, connection: &ConnectionInfo, route: &Route) -> Result<(), Refusal> {
    match snapshot.service_of(&connection.listener) {
        Some(service) if **service != *route.service => Err(Refusal::new(
            Step::Route,
            "other_service",
            StatusCode::MISDIRECTED_REQUEST,
            format!("the listener is for the service {service:?}, the route leads to {:?}", &*route.service),
        )),
        _ => Ok(()),
    }
}
