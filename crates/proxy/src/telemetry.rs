//! Traces and metrics on their way to an OpenTelemetry collector.
//!
//! The way through it: [`context`] reads the trace that a request belongs to (W3C Trace
//! Context) and writes it on; [`sampling`] decides which requests leave spans; a core
//! puts the [`span`]s of a finished request into its [`trace_queue`]; whoever exports drains
//! all queues and lets [`otlp`] turn spans, and the [`metric`] families of a scrape, into
//! the bytes of an OTLP request.
//!
//! What it must never do: wait, or cost a request that is not sampled more than one
//! comparison; hold more than a queue's bound; send anything itself.

pub mod context;
pub mod metric;
pub mod otlp;
pub mod sampling;
pub mod span;
pub mod trace_queue;

pub use context::{Parent, SpanId, TraceId};
pub use metric::{Family, Kind, Sample, Value as SampleValue};
pub use sampling::{ParentRule, Sampling};
pub use span::{Event, Span, SpanKind, Trace, Value};
pub use trace_queue::{Collected, TraceReceiver, TraceSender};
