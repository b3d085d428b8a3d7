//! The trace that a request belongs to, and the spans that it leaves when it is sampled:
//! one for the request, one for each step that takes time, one for each attempt to reach
//! an upstream; names and attributes as OpenTelemetry's semantic conventions for HTTP
//! have them (stable ones), ours beside them under `bastide.`.
//!
//! INVARIANT: a request that is not sampled allocates nothing here, and one that comes
//! while tracing is off does not get here.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use model::event::{DecisionRecord, Outcome};
use model::{RequestId, Timestamp};
use proxy::forward::{Attempt, AttemptLog};
use proxy::telemetry::context::SAMPLED;
use proxy::telemetry::{Event, Parent, Sampling, Span, SpanId, SpanKind, Trace, TraceId, Value};
use proxy::{Additions, Known, RequestHead};

use crate::journey::without_api_keys;
use crate::serve::End;
use crate::snapshot::Route;

/// Longest `tracestate` that a span keeps, bytes (Trace Context §3.3.1.5: at least 512).
const STATE_BYTES_MAX: usize = 512;
/// Spans of steps that one request leaves; there are fewer steps.
const STEPS_MAX: usize = 16;

/// Where a request stands in its trace.
pub(crate) struct Traced {
    parent: Option<Parent>,
    trace_id: TraceId,
    /// From which its spans get their ids.
    seed: u64,
    /// What is taken down on the way; only when it is sampled.
    taken: Option<Box<Taken>>,
}

#[derive(Default)]
struct Taken {
    state: Bytes,
    port: Option<u16>,
    steps: Vec<Step>,
    attempts: Vec<Attempt>,
}

struct Step {
    name: &'static str,
    begun: Duration,
    ended: Option<Duration>,
}

impl Traced {
    /// Of a request whose head is not known, or not admitted.
    pub(crate) fn root(sampling: &Sampling, id: RequestId) -> Self {
        let trace_id = TraceId(id.to_bytes());
        Self::with(sampling, id, trace_id, None)
    }

    /// Of an admitted request: goes on with the trace that it belongs to, or begins one
    /// whose id is the request's.
    pub(crate) fn of(sampling: &Sampling, id: RequestId, head: &RequestHead) -> Self {
        let parent = parent(head);
        let mut traced = match parent {
            Some(parent) => Self::with(sampling, id, parent.trace_id, Some(parent)),
            None => Self::root(sampling, id),
        };
        if let Some(taken) = &mut traced.taken {
            taken.port = head.port;
            taken.state = if parent.is_some() { state(head) } else { Bytes::new() };
        }
        traced
    }

    fn with(sampling: &Sampling, id: RequestId, trace_id: TraceId, parent: Option<Parent>) -> Self {
        let [.., a, b, c, d, e, f, g, h] = id.to_bytes();
        let seed = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        let sampled = sampling.samples(parent.as_ref(), trace_id);
        Self { parent, trace_id, seed, taken: sampled.then(Box::default) }
    }

    /// The trace's id, as it is written.
    pub(crate) fn id(&self) -> [u8; 32] {
        self.trace_id.to_ascii()
    }

    /// A step begins; the one before has ended.
    pub(crate) fn enter(&mut self, name: &'static str, now: impl Fn() -> Duration) {
        let Some(taken) = &mut self.taken else { return };
        let now = now();
        taken.close(now);
        if taken.steps.len() < STEPS_MAX {
            taken.steps.push(Step { name, begun: now, ended: None });
        }
    }

    /// The step has ended, and what follows takes no time.
    pub(crate) fn leave_step(&mut self, now: impl Fn() -> Duration) {
        if let Some(taken) = &mut self.taken {
            taken.close(now());
        }
    }

    /// Tells the upstream where it stands. Its parent is the span of the first attempt;
    /// when nothing is taken down, the caller's.
    pub(crate) fn tell(&self, request: &mut Additions) {
        let flags = self.parent.map_or(0, |parent| parent.flags & !SAMPLED);
        let parent = match (&self.taken, self.parent) {
            (None, Some(parent)) => Parent { flags, ..parent },
            (taken, _) => Parent {
                trace_id: self.trace_id,
                span_id: AttemptLog::span(self.seed, 0),
                flags: flags | if taken.is_some() { SAMPLED } else { 0 },
            },
        };
        let _ = request.push("traceparent", &parent.to_field());
        if self.parent.is_none() {
            request.remove("tracestate");
        }
    }

    /// Takes down the attempts of this request, if it is sampled.
    pub(crate) fn attempt_log<'a>(&self, clock: &'a dyn model::Clock) -> Option<AttemptLog<'a>> {
        self.taken.as_ref()?;
        let flags = self.parent.map_or(0, |parent| parent.flags) | SAMPLED;
        let first = Parent { trace_id: self.trace_id, span_id: AttemptLog::span(self.seed, 0), flags };
        Some(AttemptLog::new(clock, first, self.seed))
    }

    /// Keeps what an [`AttemptLog`] has taken down.
    pub(crate) fn keep(&mut self, attempts: Vec<Attempt>) {
        if let Some(taken) = &mut self.taken {
            taken.attempts = attempts;
        }
    }

    /// The spans of the request, if it leaves any.
    pub(crate) fn finish(self, sampling: &Sampling, about: &About<'_>) -> Option<Box<Trace>> {
        let wanted = match about.end.outcome {
            _ if self.taken.is_some() => true,
            Outcome::Denied => sampling.refusals,
            Outcome::Failed => sampling.failures,
            Outcome::Allowed => false,
        };
        if !wanted {
            return None;
        }
        let mut taken = self.taken.unwrap_or_default();
        taken.close(about.begun + about.took);
        let server = SpanId::nth(self.seed, 0);
        let mut spans = Vec::with_capacity(1 + taken.steps.len() + taken.attempts.len());
        spans.push(about.server(server, self.parent, taken.port));
        // Steps have ids behind those of all attempts.
        let ids = (u32::MAX / 2..).map(|n| SpanId::nth(self.seed, n));
        spans.extend(taken.steps.iter().zip(ids).map(|(step, id)| about.step(id, server, step)));
        let attempts = taken.attempts.iter().enumerate();
        spans.extend(attempts.map(|(number, attempt)| about.attempt(server, number, attempt)));
        Some(Box::new(Trace {
            id: self.trace_id,
            state: String::from_utf8_lossy(&taken.state).into(),
            flags: self.parent.map_or(0, |parent| parent.flags) | SAMPLED,
            spans,
        }))
    }
}

impl Taken {
    fn close(&mut self, now: Duration) {
        if let Some(last) = self.steps.last_mut().filter(|step| step.ended.is_none()) {
            last.ended = Some(now);
        }
    }
}

/// What the spans say about the request.
pub(crate) struct About<'a> {
    pub(crate) id: RequestId,
    /// When it began, by the wall clock and monotonic.
    pub(crate) time: Timestamp,
    pub(crate) begun: Duration,
    pub(crate) took: Duration,
    pub(crate) end: &'a End,
    pub(crate) status: u16,
    pub(crate) route: Option<&'a Route>,
    pub(crate) method: &'a str,
    pub(crate) secure: bool,
    pub(crate) host: &'a [u8],
    pub(crate) path: &'a [u8],
    pub(crate) version: &'static str,
    pub(crate) user_agent: &'a [u8],
    pub(crate) client: std::net::IpAddr,
    pub(crate) peer: std::net::SocketAddr,
    /// What policy said, as JSON; empty when it was not asked.
    pub(crate) decision: &'a [u8],
}

type Attributes = Vec<(&'static str, Value)>;

impl About<'_> {
    fn at(&self, monotonic: Duration) -> Timestamp {
        self.time.plus(monotonic.saturating_sub(self.begun))
    }

    fn server(&self, id: SpanId, parent: Option<Parent>, port: Option<u16>) -> Span {
        let (method, original) = known_method(self.method);
        let scheme = if self.secure { "https" } else { "http" };
        let mut attributes: Attributes = Vec::with_capacity(20);
        let mut add = |name, value: Value| attributes.push((name, value));
        add("http.request.method", method.into());
        if let Some(original) = original {
            add("http.request.method_original", original.into());
        }
        add("url.scheme", scheme.into());
        add("url.path", text(self.path).into());
        if !self.host.is_empty() {
            add("server.address", text(self.host).into());
        }
        if let Some(port) = port {
            add("server.port", u64::from(port).into());
        }
        add("client.address", self.client.to_string().into());
        add("network.peer.address", self.peer.ip().to_string().into());
        add("network.peer.port", u64::from(self.peer.port()).into());
        if !self.version.is_empty() {
            add("network.protocol.version", self.version.into());
        }
        if !self.user_agent.is_empty() {
            add("user_agent.original", text(self.user_agent).into());
        }
        if let Some(route) = self.route {
            add("http.route", route.pattern.clone().into());
            add("bastide.route", route.name.clone().into());
        }
        if self.status > 0 {
            add("http.response.status_code", u64::from(self.status).into());
        }
        let failed = self.status >= 500 || self.end.outcome == Outcome::Failed;
        if failed || self.end.outcome == Outcome::Denied {
            let class = if self.end.class.is_empty() { "_OTHER" } else { self.end.class };
            add("error.type", class.into());
        }
        add("bastide.request.id", self.id.to_string().into());
        add("bastide.outcome", self.end.outcome.name().into());
        add("bastide.step", self.end.step.name().into());
        let name = match self.route {
            Some(route) => Cow::Owned(format!("{} {}", span_method(method), route.pattern)),
            None => Cow::Borrowed(span_method(method)),
        };
        Span {
            id,
            parent: parent.map(|parent| parent.span_id),
            remote_parent: parent.is_some(),
            name,
            kind: SpanKind::Server,
            start: self.time,
            end: self.time.plus(self.took),
            attributes,
            events: vec![self.decided()],
            failed,
        }
    }

    /// Which step decided, and which policies.
    fn decided(&self) -> Event {
        let mut attributes: Attributes = vec![
            ("bastide.step", self.end.step.name().into()),
            ("bastide.outcome", self.end.outcome.name().into()),
        ];
        if !self.end.class.is_empty() {
            attributes.push(("bastide.reason.class", self.end.class.into()));
        }
        if !self.end.reason.is_empty() {
            attributes.push(("bastide.reason", self.end.reason.to_string().into()));
        }
        if let Ok(record) = serde_json::from_slice::<DecisionRecord>(self.decision) {
            attributes.push(("bastide.policy.generation", record.generation.into()));
            attributes.push(("bastide.policies", Value::List(record.policies)));
        }
        Event { name: "bastide.decision", time: self.time.plus(self.took), attributes }
    }

    fn step(&self, id: SpanId, server: SpanId, step: &Step) -> Span {
        Span {
            id,
            parent: Some(server),
            remote_parent: false,
            name: Cow::Borrowed(step.name),
            kind: SpanKind::Internal,
            start: self.at(step.begun),
            end: self.at(step.ended.unwrap_or(step.begun)),
            attributes: Vec::new(),
            events: Vec::new(),
            failed: false,
        }
    }

    fn attempt(&self, server: SpanId, number: usize, attempt: &Attempt) -> Span {
        let (method, _) = known_method(self.method);
        // `https://host:port 192.0.2.1`: the address only where a name stands for several.
        let (url, peer) = attempt.endpoint.split_once(' ').unwrap_or((&attempt.endpoint, ""));
        let authority = url.split_once("://").map_or(url, |(_, authority)| authority);
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        let status = attempt.status.map_or(0, |status| status.as_u16());
        let mut attributes: Attributes = Vec::with_capacity(8);
        let mut add = |name, value: Value| attributes.push((name, value));
        add("http.request.method", method.into());
        add("url.full", format!("{url}{}", text(&without_api_keys(&attempt.path))).into());
        add("server.address", host.trim_matches(['[', ']']).to_owned().into());
        if let Ok(port) = port.parse::<u16>() {
            add("server.port", u64::from(port).into());
        }
        if !peer.is_empty() {
            add("network.peer.address", peer.to_owned().into());
        }
        if status > 0 {
            add("http.response.status_code", u64::from(status).into());
        }
        if number > 0 {
            add("http.request.resend_count", (number as u64).into());
        }
        let failed = status >= 400 || !attempt.error.is_empty();
        if !attempt.error.is_empty() {
            add("error.type", attempt.error.into());
        } else if failed {
            add("error.type", status.to_string().into());
        }
        Span {
            id: attempt.span,
            parent: Some(server),
            remote_parent: false,
            name: Cow::Borrowed(span_method(method)),
            kind: SpanKind::Client,
            start: self.at(attempt.begun),
            end: self.at(attempt.ended),
            attributes,
            events: Vec::new(),
            failed,
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The caller's place in its trace. Two fields are none: readers could each believe
/// another one.
pub(crate) fn parent(head: &RequestHead) -> Option<Parent> {
    let mut given = head.fields.values(Known::Traceparent);
    match (given.next(), given.next()) {
        (Some(value), None) => Parent::parse(value),
        _ => None,
    }
}

/// `tracestate`, its fields joined (§3.3.1.1); one that is too long is none of it.
fn state(head: &RequestHead) -> Bytes {
    let mut values = head.fields.values(Known::Tracestate);
    let Some(first) = values.next() else { return Bytes::new() };
    let state = match values.next() {
        None => head.fields.buffer.slice_ref(first),
        Some(second) => {
            let mut joined = first.to_vec();
            for value in std::iter::once(second).chain(values) {
                joined.push(b',');
                joined.extend_from_slice(value);
            }
            Bytes::from(joined)
        }
    };
    if state.len() > STATE_BYTES_MAX { Bytes::new() } else { state }
}

/// The methods that the conventions know; others are `_OTHER`, with what was written.
fn known_method(method: &str) -> (&'static str, Option<String>) {
    const KNOWN: [&str; 10] =
        ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "CONNECT", "TRACE", "QUERY"];
    match KNOWN.iter().find(|known| **known == method) {
        Some(known) => (known, None),
        None => ("_OTHER", Some(method.to_owned()).filter(|method| !method.is_empty())),
    }
}

/// The method as it stands in a span's name.
fn span_method(method: &'static str) -> &'static str {
    if method == "_OTHER" { "HTTP" } else { method }
}
