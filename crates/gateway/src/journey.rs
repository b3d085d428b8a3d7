//! What is known about a request on its way, kept for the one audit event that it
//! leaves, whichever way it ends.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use audit::Slot;
use bytes::Bytes;
use http::Method;
use model::event::{AccessEvent, Outcome, Step};
use model::{Principal, RequestId, Switch, Timestamp};
use proxy::admit::Refusal as RefusedHead;
use proxy::http2::is_grpc;
use proxy::world::ConnectionInfo;
use proxy::{Known, RequestHead, Version};

use crate::firewall::{Inspection, Line, MASK};
use crate::metric::Reporter;
use crate::serve::{End, Gateway};
use crate::snapshot::Route;
use crate::step::cors::Caller;
use crate::trace::{About, Traced};

/// Longest text of a client that an event keeps, bytes.
const TEXT_BYTES_MAX: usize = 256;
/// Longest path that an event keeps, bytes.
const PATH_BYTES_MAX: usize = 2048;

/// Makes request ids on one core. Not a secret: unique, and not guessable enough that
/// a client could make another's.
pub struct RequestIds {
    state: Cell<[u64; 2]>,
}

impl RequestIds {
    /// From random numbers; `core` keeps two cores apart.
    pub fn new(seed: [u64; 2], core: usize) -> Self {
        let [first, second] = seed;
        Self { state: Cell::new([first ^ (core as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15), second | 1]) }
    }

    /// The next id.
    pub fn next(&self, now: Timestamp) -> RequestId {
        let [counter, key] = self.state.get();
        let counter = counter.wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.state.set([counter, key]);
        let (high, low) = (mix(counter ^ key), mix(counter.rotate_left(32).wrapping_add(key)));
        RequestId::new(now.unix_millis(), (u128::from(high) << 64) | u128::from(low))
    }
}

/// The finaliser of SplitMix64: a bijection, so distinct counters give distinct ids.
const fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A request on its way.
///
/// INVARIANT: exactly one audit event comes of it. When it is dropped before
/// [`Journey::end`], because the client's connection ended, the event says so.
pub struct Journey<'g> {
    gateway: &'g Gateway,
    slot: Option<Slot>,
    begun: Duration,
    /// How it ended, and after how long, while the firewall still writes that down.
    ending: Option<(End, Duration)>,
    ended: bool,
    /// Its name.
    pub id: RequestId,
    /// The same as text.
    pub id_text: [u8; 32],
    /// When its head had arrived.
    pub time: Timestamp,
    connection: &'g ConnectionInfo,
    /// The client's address: the socket's, or what a trusted proxy vouched for.
    pub address: std::net::IpAddr,
    method: Cow<'static, str>,
    host: Bytes,
    path: Bytes,
    version: &'static str,
    user_agent: Bytes,
    /// The route's number, when there is one.
    pub route: Option<usize>,
    /// Who asks.
    pub principal: Option<Arc<Principal>>,
    /// Whether it brought a token about an end user that was verified.
    pub(crate) is_for_user: bool,
    /// What policy said, as JSON; empty when it was not asked.
    pub decision: Vec<u8>,
    /// What is wrong with it and was only reported.
    pub reported: String,
    /// The trace id of `traceparent`.
    pub trace_id: Option<[u8; 32]>,
    /// Where it went.
    pub upstream: Option<Arc<str>>,
    /// How many endpoints were tried.
    pub attempts: u32,
    /// Bytes of body from and to the client.
    pub bytes: (u64, u64),
    /// Where it is.
    pub step: Step,
    /// Whether a page of another origin asks that may, by the route's rules.
    pub(crate) cross_origin: Option<Caller>,
    /// Whether it is a call of gRPC, which reads no status of HTTP.
    pub(crate) is_grpc: bool,
    /// What the firewall does with it, once it has begun.
    pub(crate) inspection: Option<Box<Inspection>>,
    /// Where it stands in its trace; `None` while tracing is off or its head is unknown.
    pub(crate) traced: Option<Traced>,
}

impl<'g> Journey<'g> {
    /// Begins with nothing known but the connection.
    pub fn begin(gateway: &'g Gateway, connection: &'g ConnectionInfo) -> Self {
        let clock = &gateway.snapshot().process.clock;
        let time = clock.now();
        let id = gateway.core().ids.next(time);
        Self {
            id,
            id_text: id.to_ascii(),
            time,
            begun: clock.monotonic(),
            gateway,
            slot: None,
            ending: None,
            ended: false,
            connection,
            address: connection.peer.ip(),
            method: Cow::Borrowed(""),
            host: Bytes::new(),
            path: Bytes::new(),
            version: "",
            user_agent: Bytes::new(),
            route: None,
            principal: None,
            is_for_user: false,
            decision: gateway.core().spare_text(),
            reported: String::new(),
            trace_id: None,
            upstream: None,
            attempts: 0,
            bytes: (0, 0),
            step: Step::Accept,
            cross_origin: None,
            is_grpc: false,
            inspection: None,
            traced: None,
        }
    }

    /// The connection that it came on.
    pub fn connection(&self) -> &'g ConnectionInfo {
        self.connection
    }

    /// The client's address as text, which mostly its connection has already.
    pub(crate) fn address_text(&self) -> Cow<'g, str> {
        if self.address == self.connection.peer.ip() {
            Cow::Borrowed(&*self.connection.peer_text)
        } else {
            Cow::Owned(self.address.to_string())
        }
    }

    /// Whether it came over TLS.
    pub fn is_secure(&self) -> bool {
        self.connection.tls.is_some()
    }

    /// Monotonic time when its head had arrived.
    pub fn begun(&self) -> Duration {
        self.begun
    }

    /// Notes what is wrong and only reported.
    pub fn note(&mut self, what: impl std::fmt::Display) {
        use std::fmt::Write;
        let first = if self.reported.is_empty() { "reported, not refused: " } else { "; " };
        let _ = write!(self.reported, "{first}{what}");
    }

    /// Notes what breaks a contract that only reports.
    pub fn report(&mut self, violations: &contract::Violations) {
        self.note(violations);
        self.gateway.core().inventory.count_report();
    }

    /// Notes why policies would have denied it, where they are only tried.
    pub fn would_deny(&mut self, reason: &policy::Reason) {
        self.reported = format!("reported, not refused: policies would deny it: {reason}");
    }

    /// Takes a place in the audit queue.
    ///
    /// # Errors
    /// The queue is full and the configuration says to refuse.
    pub fn reserve(&mut self) -> Result<(), audit::Full> {
        let queue: &Rc<audit::Queue> = self.gateway.core().audit.as_ref().ok_or(audit::Full)?;
        self.slot = Some(queue.reserve(self.id, self.time)?);
        Ok(())
    }

    /// Notes what an admitted head says. Shares its buffer.
    pub fn note_head(&mut self, head: &RequestHead) {
        self.method = match head.method.as_str() {
            "GET" => Cow::Borrowed("GET"),
            "POST" => Cow::Borrowed("POST"),
            "PUT" => Cow::Borrowed("PUT"),
            "DELETE" => Cow::Borrowed("DELETE"),
            other => Cow::Owned(other.to_owned()),
        };
        self.host = head.host.clone();
        self.path = shown_path(&head.raw_target);
        self.version = head.version.name();
        // Each call is a POST, so that no other request is looked at for this.
        self.is_grpc = head.version == Version::Http2
            && head.method == Method::POST
            && is_grpc(head.fields.get(Known::ContentType));
        if let Some(sampling) = &self.gateway.snapshot().tracing {
            let traced = Traced::of(sampling, self.id, head);
            self.trace_id = Some(traced.id());
            self.traced = Some(traced);
        }
        if let Some(agent) = head.fields.get(Known::UserAgent) {
            let agent = agent.get(..TEXT_BYTES_MAX).unwrap_or(agent);
            self.user_agent = head.fields.buffer.slice_ref(agent);
        }
    }

    /// Notes what could be read of a refused head.
    pub fn note_refused_head(&mut self, refused: &RefusedHead) {
        self.method = Cow::Owned(String::from_utf8_lossy(&refused.seen.method).into_owned());
        self.host = refused.seen.host.clone();
        self.path = shown_path(&refused.seen.target);
        self.user_agent = refused.seen.user_agent.clone();
        self.is_grpc = refused.seen.is_grpc;
    }

    /// Leaves the audit event and the metrics, once the firewall's last rules have run.
    pub async fn end(&mut self, end: End) {
        self.ending = Some((end, self.took()));
        if let Some(inspection) = &mut self.inspection {
            inspection.end(self.gateway.snapshot().process.clock.now()).await;
        }
        self.leave_ending();
    }

    fn took(&self) -> Duration {
        self.gateway.snapshot().process.clock.monotonic().saturating_sub(self.begun)
    }

    fn leave_ending(&mut self) {
        if let Some((end, took)) = self.ending.take() {
            self.leave(&end, took);
        }
    }

    fn leave(&mut self, end: &End, took: Duration) {
        self.ended = true;
        let status = end.status.map_or(0, |status| status.as_u16());
        let snapshot = self.gateway.snapshot();
        let route = self.route.and_then(|route| snapshot.routes.get(route));
        self.count(end, status, route, took);
        self.leave_spans(end, status, route, took);
        let address = self.address_text();
        let firewall = self.end_inspection(status, end.step, route, &address);
        let Some(slot) = self.slot.take() else { return };
        if Switch::Audit.is_off() {
            return;
        }
        let principal = self.principal.as_deref();
        slot.commit(&AccessEvent {
            id: self.id,
            time: self.time,
            duration_nanos: u64::try_from(took.as_nanos()).unwrap_or(u64::MAX),
            outcome: end.outcome,
            step: end.step,
            reason: Cow::Borrowed(if end.reason.is_empty() { &self.reported } else { &end.reason }),
            status,
            client_address: address,
            client_port: self.connection.peer.port(),
            tls: Cow::Borrowed(self.connection.tls.as_ref().map_or("", |tls| tls.version.name())),
            method: Cow::Borrowed(&self.method),
            host: text(&self.host),
            path: text(self.path.get(..PATH_BYTES_MAX).unwrap_or(&self.path)),
            version: Cow::Borrowed(self.version),
            user_agent: text(&self.user_agent),
            route: Cow::Borrowed(route.map_or("", |route| &route.name)),
            upstream: Cow::Borrowed(self.upstream.as_deref().unwrap_or_default()),
            attempts: self.attempts,
            bytes_in: self.bytes.0,
            bytes_out: self.bytes.1,
            principal_kind: principal.map_or(model::PrincipalKind::Anonymous, |principal| principal.kind),
            principal: Cow::Borrowed(principal.map_or("", |principal| &principal.id)),
            credential: principal.map_or(model::Credential::None, |principal| principal.credential),
            issuer: Cow::Borrowed(principal.and_then(|p| p.issuer.as_deref()).unwrap_or_default()),
            trace_id: Cow::Borrowed(
                self.trace_id.as_ref().and_then(|id| std::str::from_utf8(id).ok()).unwrap_or_default(),
            ),
            decision: None,
            decision_json: Cow::Borrowed(&self.decision),
            firewall: None,
            firewall_json: Cow::Borrowed(&firewall),
        });
        self.gateway.core().keep_text(firewall);
    }
}

impl Journey<'_> {
    /// A step begins that a sampled request has a span for.
    pub(crate) fn enter(&mut self, step: &'static str) {
        let gateway = self.gateway;
        if let Some(traced) = &mut self.traced {
            traced.enter(step, || gateway.snapshot().process.clock.monotonic());
        }
    }

    /// It has ended.
    pub(crate) fn leave_step(&mut self) {
        let gateway = self.gateway;
        if let Some(traced) = &mut self.traced {
            traced.leave_step(|| gateway.snapshot().process.clock.monotonic());
        }
    }

    /// Leaves the spans, of those requests that leave some.
    fn leave_spans(&mut self, end: &End, status: u16, route: Option<&Route>, took: Duration) {
        let (Some(sampling), Some(sender)) = (&self.gateway.snapshot().tracing, &self.gateway.core().spans)
        else {
            return;
        };
        let traced = self.traced.take().unwrap_or_else(|| Traced::root(sampling, self.id));
        let about = About {
            id: self.id,
            time: self.time,
            begun: self.begun,
            took,
            end,
            status,
            route,
            method: &self.method,
            secure: self.is_secure(),
            host: &self.host,
            path: self.path.get(..PATH_BYTES_MAX).unwrap_or(&self.path),
            version: self.version,
            user_agent: &self.user_agent,
            client: self.address,
            peer: self.connection.peer,
            decision: &self.decision,
        };
        if let Some(trace) = traced.finish(sampling, &about) {
            self.trace_id = Some(trace.id.to_ascii());
            sender.send(trace);
        }
    }

    /// Ends the inspection and leaves its line in the firewall's log. Gives its record.
    fn end_inspection(&mut self, status: u16, step: Step, route: Option<&Route>, address: &str) -> Vec<u8> {
        let Some(mut inspection) = self.inspection.take() else { return Vec::new() };
        inspection.break_off(self.gateway.snapshot().process.clock.now());
        let mut record = self.gateway.core().spare_text();
        inspection.append_record(&mut record);
        if let Some(slot) = inspection.take_slot() {
            let path = self.path.get(..PATH_BYTES_MAX).unwrap_or(&self.path);
            let named = |who: &Principal| format!("{}::{}", who.kind.name(), who.id);
            let principal =
                self.principal.as_deref().filter(|who| who.kind != model::PrincipalKind::Anonymous);
            let about = Line {
                time: self.time,
                id: self.id,
                client_address: address,
                client_port: self.connection.peer.port(),
                method: &self.method,
                host: &String::from_utf8_lossy(&self.host),
                path: &String::from_utf8_lossy(path),
                route: route.map_or("", |route| &route.name),
                principal: &principal.map_or_else(String::new, named),
                step: step.name(),
                status,
            };
            slot.commit_line(|line| about.append(&record, line));
        }
        if let Some(spare) = inspection.into_spare() {
            self.gateway.core().spare_inspections.keep(spare);
        }
        record
    }

    fn count(&self, end: &End, status: u16, route: Option<&Route>, took: Duration) {
        let Some(metrics) = &self.gateway.core().metrics else { return };
        metrics.request(route.map(|route| route.label), status, end.step, took);
        metrics.bytes(self.bytes.0, self.bytes.1);
        if let Some(route) = route {
            let callee = (&*route.service, route.service_label);
            let workload = self.gateway.snapshot().workload.as_deref().filter(|_| route.in_mesh);
            let caller = self.principal.as_deref().and_then(|principal| principal.spiffe_id.as_ref());
            if let Some(caller) = caller {
                metrics.call(Reporter::Callee, caller.as_str(), callee, status, took);
            }
            if let Some(own) = workload {
                metrics.call(Reporter::Caller, own, callee, status, took);
            }
        }
        if end.class.is_empty() {
            return;
        }
        if end.step == Step::Admit {
            metrics.admission_refused(end.class);
        }
        metrics.refused(end.step, end.class);
    }
}

impl Drop for Journey<'_> {
    fn drop(&mut self) {
        self.give_up();
        self.gateway.core().keep_text(std::mem::take(&mut self.decision));
    }
}

impl Journey<'_> {
    /// Leaves the event of a request that nobody waits for any more.
    fn give_up(&mut self) {
        self.leave_ending();
        if !self.ended {
            let end = End {
                outcome: Outcome::Failed,
                step: self.step,
                status: None,
                class: "client_gone",
                reason: Cow::Borrowed("the client's connection ended first"),
            };
            self.leave(&end, self.took());
        }
    }
}

/// Bytes of a client as text. Nearly always they are one, and that is seen faster than what is
/// wrong with others.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

/// The path of a target as logs and traces show it: without the query, which can hold credentials, and
/// without the secrets of API keys.
fn shown_path(target: &Bytes) -> Bytes {
    let end = target.iter().position(|&byte| byte == b'?' || byte == b'#').unwrap_or(target.len());
    let path = target.slice(..end);
    match without_api_keys(&path) {
        Cow::Borrowed(_) => path,
        Cow::Owned(path) => path.into(),
    }
}

/// A path in which the secrets of API keys are masked.
pub(crate) fn without_api_keys(path: &[u8]) -> Cow<'_, [u8]> {
    let mut secrets = keys::api_key_secrets(path).peekable();
    if secrets.peek().is_none() {
        return Cow::Borrowed(path);
    }
    let (mut shown, mut from) = (Vec::with_capacity(path.len()), 0);
    for secret in secrets {
        shown.extend_from_slice(path.get(from..secret.start).unwrap_or_default());
        shown.extend_from_slice(MASK.as_bytes());
        from = secret.end;
    }
    shown.extend_from_slice(path.get(from..).unwrap_or_default());
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_an_api_key_is_in_no_path_that_is_shown() {
        let key = "bst_0123456789AB_CDEFGHIJKLMNOPQRSTUVWXYZabcdefgh012345";
        let cut = &key[..key.len() - 9];
        let (encoded, half) = (key.replace('_', "%5F"), key.replacen("B_", "B%5f", 1));
        for (target, shown) in [
            (format!("/v1/api-keys/{key}?x={key}"), "/v1/api-keys/bst_0123456789AB_***"),
            (format!("/v1/api-keys/{cut}"), "/v1/api-keys/bst_0123456789AB_***"),
            (format!("/a/{encoded}/b"), "/a/bst%5F0123456789AB%5F***/b"),
            (format!("/a/{half}-b"), "/a/bst_0123456789AB%5f***-b"),
            (format!("/{key}/{key}"), "/bst_0123456789AB_***/bst_0123456789AB_***"),
            (format!("/bst_bst_{key}/b"), "/bst_bst_***/b"),
            (format!("/bst__{key}"), "/bst__bst_0123456789AB_***"),
            ("/v1/api-keys/0123456789AB".to_owned(), "/v1/api-keys/0123456789AB"),
            ("/bst_0123456789AB/bst/_x?bst_1_2".to_owned(), "/bst_0123456789AB/bst/_x"),
            ("/bst".to_owned(), "/bst"),
        ] {
            assert_eq!(shown_path(&Bytes::from(target.clone())), shown, "{target}");
        }
    }

    #[test]
    fn ids_differ_within_a_core_and_between_cores() {
        let now = Timestamp::from_unix_seconds(1_795_384_267);
        let (one, two) = (RequestIds::new([7, 9], 0), RequestIds::new([7, 9], 1));
        let mut seen: Vec<RequestId> = (0..1000).flat_map(|_| [one.next(now), two.next(now)]).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 2000);
        assert!(seen.iter().all(|id| id.unix_millis() == now.unix_millis()));
    }

    #[test]
    fn a_query_never_reaches_the_log() {
        for (target, kept) in [
            ("/a?token=x", "/a"),
            ("/a", "/a"),
            ("?x", ""),
            ("/a#b?c", "/a"),
            ("http://h/p?q=1", "http://h/p"),
        ] {
            assert_eq!(shown_path(&Bytes::from_static(target.as_bytes())), kept, "{target}");
        }
    }
}
