//! Opaque connections where something needs HTTP, and listeners that are for one service.

use http::StatusCode;
use model::event::Step;
use model::suggestion::nearest;
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

/// Keeps what comes to the outbound proxy away from the program's own service, whose route takes every
/// host: it was meant for another one. The program is told which; nobody else can ask here.
///
/// # Errors
/// The name is none of a service of the mesh (404).
pub fn leads_out(
    snapshot: &Snapshot,
    connection: &ConnectionInfo,
    route: &Route,
    head: &RequestHead,
) -> Result<(), Refusal> {
    let Some(outbound) = &snapshot.outbound else { return Ok(()) };
    if outbound.listener != connection.listener || *outbound.own != *route.service {
        return Ok(());
    }
    let name = String::from_utf8_lossy(&head.host);
    let hint = match nearest(&name, outbound.others.iter().map(String::as_str)) {
        _ if *name == *outbound.own => ": it is the program's own, and has its own port".to_owned(),
        Some(near) => format!("; did you mean {near:?}?"),
        None => String::new(),
    };
    let why = format!("unknown service {name:?}{hint}");
    let refusal = Refusal::new(Step::Route, "unknown_service", StatusCode::NOT_FOUND, why.clone());
    let detail = connection.peer.ip().is_loopback().then_some(why);
    Err(Refusal { detail, ..refusal })
}
