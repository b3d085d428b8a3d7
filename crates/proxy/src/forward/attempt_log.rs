//! How each attempt of a traced request went, and what the upstream is told about the
//! trace: each attempt is a span of its own, and names itself as the parent.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use model::Clock;

use super::ForwardError;
use crate::head::Additions;
use crate::telemetry::{Parent, SpanId};

/// The field that carries it on.
const TRACEPARENT: &str = "traceparent";
/// Attempts that are kept; a request makes fewer.
const ATTEMPTS_MAX: usize = 64;

/// Takes down the attempts of one request. Only requests that are sampled have one.
pub struct AttemptLog<'a> {
    clock: &'a dyn Clock,
    /// What the first attempt tells the upstream.
    first: Parent,
    /// From which the ids of the others follow.
    seed: u64,
    attempts: RefCell<Vec<Attempt>>,
}

/// One attempt to reach an upstream.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Its span.
    pub span: SpanId,
    /// The endpoint.
    pub endpoint: Arc<str>,
    /// The path that it was asked for, without the query.
    pub path: Bytes,
    /// When it began, monotonic.
    pub begun: Duration,
    /// When it ended: its last byte, or its failure.
    pub ended: Duration,
    /// The upstream's status, when it gave one.
    pub status: Option<StatusCode>,
    /// A short stable name of why it failed; empty when it did not.
    pub error: &'static str,
}

impl<'a> AttemptLog<'a> {
    /// For the spans of one request: the n-th attempt is span `n + 1` of `seed`, the
    /// server's own being span 0.
    pub fn new(clock: &'a dyn Clock, first: Parent, seed: u64) -> Self {
        Self { clock, first, seed, attempts: RefCell::default() }
    }

    /// The id of the n-th attempt's span, from 0.
    pub const fn span(seed: u64, attempt: u32) -> SpanId {
        SpanId::nth(seed, attempt.saturating_add(1))
    }

    /// What was taken down.
    pub fn into_attempts(self) -> Vec<Attempt> {
        self.attempts.into_inner()
    }

    pub(super) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    /// The request's additions as a further attempt has them; `None` for the first,
    /// whose they are already.
    pub(super) fn further(&self, additions: &Additions, attempt: u32) -> Option<Additions> {
        if attempt == 0 {
            return None;
        }
        let parent = Parent { span_id: Self::span(self.seed, attempt), ..self.first };
        let mut further = additions.clone();
        // Hexadecimal digits and dashes are always fit.
        let _ = further.set(TRACEPARENT, &parent.to_field());
        Some(further)
    }

    pub(super) fn note(
        &self,
        endpoint: &Arc<str>,
        path: &Bytes,
        begun: Duration,
        status: Option<StatusCode>,
        error: Option<&ForwardError>,
    ) {
        let mut attempts = self.attempts.borrow_mut();
        if attempts.len() >= ATTEMPTS_MAX {
            return;
        }
        let number = u32::try_from(attempts.len()).unwrap_or(u32::MAX);
        attempts.push(Attempt {
            span: Self::span(self.seed, number),
            endpoint: Arc::clone(endpoint),
            path: path.clone(),
            begun,
            ended: self.now(),
            status,
            error: error.map_or("", ForwardError::class),
        });
    }
}
