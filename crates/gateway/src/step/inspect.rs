//! What the body may be, and whether the firewall has something against the request.

use std::net::SocketAddr;
use std::sync::Arc;

use http::StatusCode;
use model::Switch;
use model::event::Step;
use proxy::head::Framing;
use proxy::{BodyError, Exchange, Frame, Held, RequestHead, Version};
use waf::Pass;

use crate::firewall::{
    Allowance, Begin, Extent, Firewall, Head, Inspection, Mode, Reading, Shown, Side, Stopped,
};
use crate::journey::Journey;
use crate::respond::{Refusal, Stop};
use crate::serve::Gateway;
use crate::session::cookie;
use crate::snapshot::Route;
use crate::step::forward;

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

/// Takes the request through the firewall's phases 1 and 2. Its body is read for that
/// only when a rule needs it, and then goes on from what was read; a firewall that only detects
/// reads none of it, and is shown a copy of what goes by. Where the firewall blocks,
/// trailers do not go on: phase 1 is over when they come, and where the body is not read to its
/// end phase 2 does not see them either.
///
/// # Errors
/// The firewall stops it, or its body cannot be read.
pub(crate) async fn request<E: Exchange>(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    head: &RequestHead,
    exchange: &mut Held<'_, E>,
) -> Result<Pass, Stop> {
    journey.step = Step::Inspect;
    let listener = &journey.connection().listener;
    let firewall = gateway.snapshot().firewalls.of(listener, Some(route));
    // An opaque connection is here only where nothing would be refused.
    let reads = head.version != Version::Opaque && !Switch::Firewall.is_off();
    let Some(firewall) = firewall.filter(|_| reads) else {
        return Ok(Pass::without_firewall());
    };
    // Detect mode has no effect: nobody waits for its line, and trailers go on.
    if firewall.mode == Mode::Block {
        gateway.core().await_firewall_place().await;
        exchange.drop_trailers();
    }
    let inspection = begin(gateway, journey, firewall, firewall.mode)?;
    // Kept with the journey: what was found is told even when the client goes away.
    let inspection = journey.inspection.insert(inspection);
    let cookies = cookies_of_upstreams(gateway, head);
    let shown = Head::admitted(head, cookies.as_deref());
    inspection.request_headers(&shown).await.map_err(|stopped| refuse(&stopped))?;
    let reads = head.framing != Framing::None && inspection.needs_request_body();
    if firewall.mode == Mode::Detect {
        return observe(inspection, head, reads).await;
    }
    if reads {
        match read_body(inspection, head, exchange).await {
            Ok(()) => {}
            Err(Unread::Stopped(stopped)) => return Err(refuse(&stopped)),
            Err(Unread::Broken(error)) => return Err(forward::refuse_body(gateway, journey, error)),
        }
    }
    if let Some(trailers) = exchange.trailers() {
        inspection.request_trailers(trailers);
    }
    let judged = inspection.request_body_end().await;
    if let Some(kept) = inspection.kept_request_body() {
        exchange.give_back(&kept).map_err(|_| refuse(&Stopped::Unable))?;
    }
    judged.map_err(|stopped| refuse(&stopped))?;
    // INVARIANT: without the engine's own word the request does not go on.
    inspection.pass().ok_or_else(|| refuse(&Stopped::Unable))
}

/// Lets the request go on, and shows the rules a copy of its body as that goes by: to wait for it
/// would be an effect.
async fn observe(inspection: &mut Inspection, head: &RequestHead, reads: bool) -> Result<Pass, Stop> {
    let reading = match reads {
        true => inspection.reading(Side::Request, &head.fields).map_err(|stopped| refuse(&stopped))?,
        false => Reading::Not,
    };
    if let Reading::Not = reading {
        inspection.request_body_end().await.map_err(|stopped| refuse(&stopped))?;
        inspection.observe(None);
    } else {
        inspection.observe(Some(reading));
    }
    inspection.pass().ok_or_else(|| refuse(&Stopped::Unable))
}

/// Shows the rules what was read of the body of a request that does not go on.
pub(crate) fn observe_held<E: Exchange>(journey: &mut Journey<'_>, exchange: &Held<'_, E>) {
    let Some(inspection) = journey.inspection.as_deref_mut().filter(|seen| seen.is_observing()) else {
        return;
    };
    inspection.observe_request(&Frame::Data(exchange.body()));
    match exchange.trailers() {
        Some(fields) => inspection.observe_request(&Frame::Trailers(fields.clone())),
        None if exchange.is_whole() => inspection.observe_request(&Frame::End),
        None => {}
    }
}

/// The cookies that upstreams see, where the request brings some of our own besides.
fn cookies_of_upstreams(gateway: &Gateway, head: &RequestHead) -> Option<Vec<u8>> {
    gateway.snapshot().party.as_ref().and_then(|_| cookie::not_ours(head))
}

/// Why a body was not read as far as the rules want it.
enum Unread {
    Stopped(Stopped),
    Broken(BodyError),
}

/// Shows the rules as much of the request's body as they want, unpacked where it came
/// compressed.
async fn read_body<E: Exchange>(
    inspection: &mut Inspection,
    head: &RequestHead,
    exchange: &mut Held<'_, E>,
) -> Result<(), Unread> {
    let mut reading = inspection.reading(Side::Request, &head.fields).map_err(Unread::Stopped)?;
    let lends = matches!(reading, Reading::Plain) && inspection.lends_request_body();
    loop {
        // What the rules keep is not held a second time.
        let data = if lends { exchange.lend_frame().await } else { exchange.read_frame().await };
        let Some(mut data) = data.map_err(Unread::Broken)? else { break };
        let wanted = match &mut reading {
            Reading::Not => return Ok(()),
            Reading::Plain => inspection.request_body(&data),
            Reading::Unpacked(unpacker) => loop {
                let shown = inspection.show_packed(Side::Request, unpacker, &mut data);
                exchange.keep_besides(unpacker.given()).map_err(Unread::Broken)?;
                match shown {
                    Ok(Shown::Some) => tokio::task::yield_now().await,
                    shown => break shown.map(|shown| shown == Shown::Whole),
                }
            },
        };
        if !wanted.map_err(Unread::Stopped)? {
            return Ok(());
        }
    }
    match &reading {
        Reading::Unpacked(unpacker) => {
            inspection.end_packed(Side::Request, unpacker).map_err(Unread::Stopped)
        }
        Reading::Plain | Reading::Not => Ok(()),
    }
}

/// Shows the firewall a head that admission refused, so that the log names the attack,
/// within what the core may spend on that. Changes nothing about the refusal.
pub(crate) async fn refused_head(gateway: &Gateway, journey: &mut Journey<'_>, raw: &[u8]) {
    let listener = &journey.connection().listener;
    if raw.is_empty() {
        return;
    }
    let Some(firewall) = gateway.snapshot().firewalls.of(listener, None) else { return };
    let core = gateway.core();
    // A connection of HTTP/2 goes on and may ask again at once.
    let allowance = if Head::is_http2(raw) { &core.unwelcome } else { &core.unreadable_heads };
    show(gateway, journey, firewall, allowance, || Head::refused(raw), Extent::Request).await;
}

/// Shows the firewall the head of a request that is refused for want of a credential or
/// a permit, within what the core may spend on that. Changes nothing about the refusal.
pub(crate) async fn unwelcome(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    route: &Route,
    head: &RequestHead,
) {
    let listener = &journey.connection().listener;
    if head.version == Version::Opaque {
        return;
    }
    let Some(firewall) = gateway.snapshot().firewalls.of(listener, Some(route)) else { return };
    let allowance = &gateway.core().unwelcome;
    let cookies = cookies_of_upstreams(gateway, head);
    let shown = || Head::admitted(head, cookies.as_deref());
    show(gateway, journey, firewall, allowance, shown, Extent::Head).await;
}

/// Inspects what is refused anyway, as far as the allowance goes.
async fn show<'h>(
    gateway: &Gateway,
    journey: &mut Journey<'_>,
    firewall: &Arc<Firewall>,
    allowance: &Allowance,
    head: impl FnOnce() -> Head<'h>,
    extent: Extent,
) {
    let clock = &*gateway.snapshot().process.clock;
    let begin = || begin(gateway, journey, firewall, Mode::Detect);
    let begun = allowance.slice(clock, || begin().map(|inspection| (inspection, head())));
    let Some(Ok((inspection, head))) = begun else { return };
    let now = journey.time;
    journey.inspection.insert(inspection).show(&head, extent, allowance, clock, now).await;
}

/// Begins an inspection in a mode, with a place for its line in the firewall's log.
fn begin(
    gateway: &Gateway,
    journey: &Journey<'_>,
    firewall: &Arc<Firewall>,
    mode: Mode,
) -> Result<Box<Inspection>, Stop> {
    let queue = gateway.core().firewall_log.as_ref();
    let slot = match queue.map(|queue| queue.reserve(journey.id, journey.time)) {
        Some(Ok(slot)) => Some(slot),
        // Detect mode has no effect.
        _ if mode == Mode::Detect => None,
        _ => {
            let why = "the firewall's log is full";
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Refusal::new(Step::Inspect, "firewall_log_full", status, why)
                .with("retry-after", "1")
                .into());
        }
    };
    let connection = journey.connection();
    let begin = Begin {
        id: journey.id,
        time: journey.time,
        client: SocketAddr::new(journey.address, connection.peer.port()),
        server: connection.local,
        places: &gateway.core().handed_off,
    };
    let spare = gateway.core().spare_inspections.take();
    Ok(Box::new(Inspection::begin(firewall, mode, &begin, slot, spare)))
}

/// What the client is told when the firewall stops a message.
pub(crate) fn refuse(stopped: &Stopped) -> Stop {
    let status = |status: u16| StatusCode::from_u16(status).ok().filter(|s| s.as_u16() >= 300);
    match stopped {
        Stopped::Deny { status: said, rule, cause } => {
            let status = status(*said).unwrap_or(StatusCode::FORBIDDEN);
            // The engine itself refuses what no rule could judge.
            let why = cause.map_or_else(|| format!("rule {rule} of the firewall"), |cause| cause.to_string());
            Refusal::new(Step::Inspect, "firewall", status, why).into()
        }
        Stopped::Drop { rule } => {
            let why = format!("rule {rule} of the firewall drops the connection");
            let mut refusal = Refusal::new(Step::Inspect, "firewall", StatusCode::FORBIDDEN, why);
            refusal.silent = true;
            refusal.into()
        }
        Stopped::Redirect { status: said, location, rule } => {
            let why = format!("rule {rule} of the firewall sends the client elsewhere");
            let status = status(*said).filter(StatusCode::is_redirection).unwrap_or(StatusCode::FOUND);
            let refusal = Refusal::new(Step::Inspect, "firewall", status, why);
            match String::from_utf8(location.clone()) {
                Ok(location) => refusal.with("location", location).into(),
                Err(_) => refuse(&Stopped::Deny { status: 403, rule: *rule, cause: None }),
            }
        }
        Stopped::Unreadable { status, why } => {
            let reason = format!("the firewall cannot read the body: {why}");
            let refusal = Refusal::new(Step::Inspect, "firewall_unreadable", *status, reason);
            match why.accepted().filter(|_| *status == StatusCode::UNSUPPORTED_MEDIA_TYPE) {
                Some(codings) => refusal.with("accept-encoding", codings).into(),
                None => refusal.into(),
            }
        }
        Stopped::Unable => {
            let why = "the firewall could not say";
            Refusal::new(Step::Inspect, "firewall_unable", StatusCode::FORBIDDEN, why).into()
        }
    }
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

#[cfg(test)]
mod tests {
    use waf::Cause;

    use super::*;

    #[test]
    fn what_no_rule_refused_has_a_reason_of_its_own() {
        for (status, rule, cause, said) in [
            (400, 0, Some(Cause::BodyUnreadable), "the firewall cannot read the body to its end"),
            (
                400,
                0,
                Some(Cause::BodyAmbiguous),
                "a service could read the body differently than the firewall",
            ),
            (
                413,
                0,
                Some(Cause::BodyTooLong),
                "the body has more bytes than the firewall's rules are given to see",
            ),
            (
                500,
                0,
                Some(Cause::ResponseTooLong),
                "the response has more bytes than the firewall's rules are given to see",
            ),
            (
                500,
                0,
                Some(Cause::ValuesTooMany),
                "the message's values take more memory than the firewall's rules have",
            ),
            (500, 0, Some(Cause::Operator), "a rule of the firewall could not be evaluated"),
            (
                500,
                0,
                Some(Cause::MatchesTooMany),
                "more values match than a rule of the firewall is given to see",
            ),
            (
                500,
                0,
                Some(Cause::NamesTooMany),
                "the firewall's rules keep more variables than they have room for",
            ),
            (400, 7, None, "rule 7 of the firewall"),
        ] {
            let stopped = Stopped::Deny { status, rule, cause };
            let Stop::Refuse(refusal) = refuse(&stopped) else { panic!("{status}") };
            assert_eq!(refusal.reason, said, "{cause:?}");
            assert_eq!(refusal.status.as_u16(), status);
        }
    }
}
