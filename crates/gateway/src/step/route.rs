//! Which route, and whether the request came over a connection that was opened for
//! this host.

use http::{Method, StatusCode};
use model::event::Step;
use proxy::route::WhyUnrouted;
use proxy::{Admitted, RequestHead, Routed};

use crate::firewall::Mode;
use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::snapshot::{Route, WebSocket};
use crate::step::{cors, limit};

/// The protocol of WebSockets in `Upgrade` (RFC 6455 §11.2).
pub const WEBSOCKET: &[u8] = b"websocket";

/// Finds the route.
///
/// # Errors
/// None stands (404, 405), the path is not allowed there (400), the connection was
/// opened for another host (421); or the request is a CORS preflight, which is answered
/// here.
pub fn route(gateway: &Gateway, journey: &mut Journey<'_>, admitted: Admitted) -> Result<Routed, Stop> {
    journey.step = Step::Route;
    let head = admitted.head();
    if let Some(tls) = &journey.connection().tls
        && tls.is_misdirected(&head.host)
    {
        return Err(Refusal::new(
            Step::Route,
            "misdirected",
            StatusCode::MISDIRECTED_REQUEST,
            format!(
                "the connection was opened for another host than {:?}",
                String::from_utf8_lossy(&head.host)
            ),
        )
        .into());
    }
    let snapshot = gateway.snapshot();
    if let Some(method) = cors::preflight(head)
        && let Ok(method) = Method::from_bytes(method)
        && let Some(id) = snapshot.router.route_for(head, &method)
        && let Some(route) = snapshot.routes.get(id.0 as usize)
        && let Some(cors) = &route.cors
    {
        journey.route = Some(id.0 as usize);
        limit::address_lists(gateway, journey, route)?;
        return Err(Stop::Answer(Box::new(cors.answer_preflight(head)?)));
    }
    match snapshot.router.route(admitted) {
        Ok(routed) => {
            let number = routed.route().0 as usize;
            journey.route = Some(number);
            let cors = snapshot.routes.get(number).and_then(|route| route.cors.as_ref());
            journey.cross_origin = cors.and_then(|cors| cors.caller(routed.head()));
            Ok(routed)
        }
        Err(unrouted) => Err(refuse(&unrouted.why).into()),
    }
}

/// Refuses a WebSocket that the route does not allow: without its `Upgrade` the upstream could only
/// refuse it, for a reason that nobody would find. Every other wish to switch is ignored (RFC 9110 §7.8).
///
/// # Errors
/// 403.
pub fn websocket(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    head: &RequestHead,
) -> Result<(), Stop> {
    if head.upgrade.as_deref() != Some(WEBSOCKET) {
        return Ok(());
    }
    let why = match route.websocket {
        WebSocket::Allowed => return Ok(()),
        WebSocket::Uninspected => {
            let listener = &journey.connection().listener;
            let firewall = gateway.snapshot().firewalls.of(listener, Some(route));
            // One that only detects changes nothing but the log.
            if firewall.is_none_or(|firewall| firewall.mode == Mode::Detect) {
                return Ok(());
            }
            "a WebSocket, which the firewall would not inspect, and the route does not allow it (upgrades)"
        }
        WebSocket::Refused => "a WebSocket, and the route allows none (upgrades; with HTTP/2 there are none)",
    };
    journey.step = Step::Route;
    Err(Refusal::new(Step::Route, "upgrade", StatusCode::FORBIDDEN, why).into())
}

fn refuse(why: &WhyUnrouted) -> Refusal {
    let status = StatusCode::from_u16(why.status()).unwrap_or(StatusCode::NOT_FOUND);
    match why {
        WhyUnrouted::NotFound => {
            Refusal::new(Step::Route, "no_route", status, "no route matches host and path")
        }
        WhyUnrouted::MethodNotAllowed { allow } => {
            Refusal::new(Step::Route, "method", status, format!("routes match, but only for {allow}"))
                .with("allow", allow.clone())
        }
        WhyUnrouted::EncodedSlash { .. } => Refusal::new(
            Step::Route,
            "encoded_slash",
            status,
            "the path holds an encoded slash and the route does not set encoded_slashes",
        ),
    }
}
