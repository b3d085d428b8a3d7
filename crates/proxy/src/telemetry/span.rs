//! What a sampled request leaves: plain values, made by a core and read by the exporter.

use std::borrow::Cow;
use std::sync::Arc;

use model::Timestamp;

use crate::telemetry::context::{SpanId, TraceId};

/// The spans of one request, the server's first.
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    /// The trace that they belong to.
    pub id: TraceId,
    /// `tracestate` as it came; empty: none.
    pub state: Box<str>,
    /// `traceparent`'s flags.
    pub flags: u8,
    /// The spans.
    pub spans: Vec<Span>,
}

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// Its id.
    pub id: SpanId,
    /// Its parent's.
    pub parent: Option<SpanId>,
    /// Whether the parent is in another process.
    pub remote_parent: bool,
    /// Its name.
    pub name: Cow<'static, str>,
    /// What it stands for.
    pub kind: SpanKind,
    /// When it began.
    pub start: Timestamp,
    /// When it ended.
    pub end: Timestamp,
    /// What is known about it.
    pub attributes: Vec<(&'static str, Value)>,
    /// What happened within it.
    pub events: Vec<Event>,
    /// Whether it failed (semantic conventions for HTTP: 5xx on a server, 4xx and 5xx on
    /// a client).
    pub failed: bool,
}

/// What a span stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// A request that was answered.
    Server,
    /// A request that was made.
    Client,
    /// A step within.
    Internal,
}

/// Something that happened at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its name.
    pub name: &'static str,
    /// When.
    pub time: Timestamp,
    /// What is known about it.
    pub attributes: Vec<(&'static str, Value)>,
}

/// An attribute's value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// A text that somebody else has too.
    Shared(Arc<str>),
    /// A number.
    Number(i64),
    /// Several texts.
    List(Vec<String>),
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }
}

impl From<Arc<str>> for Value {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
