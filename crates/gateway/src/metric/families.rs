//! The families of metrics: name, kind, labels and meaning of each, in one table, from which the
//! page of the documentation is made too.

use super::Kind;

/// What all samples of one name have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// The name.
    pub name: &'static str,
    /// What it counts.
    pub kind: Kind,
    /// The labels that tell its samples apart, as they come.
    pub labels: &'static [&'static str],
    /// What it means, for whoever looks at it.
    pub help: &'static str,
}

impl Metric {
    /// A family that only grows.
    pub const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Counter, labels, help }
    }

    /// A family that goes up and down.
    pub const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Gauge, labels, help }
    }

    /// A family that counts in buckets.
    pub const fn histogram(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, kind: Kind::Histogram, labels, help }
    }
}

/// Names families, and makes the table of all that it names: `FAMILIES`.
#[doc(hidden)]
#[macro_export]
macro_rules! families {
    ($($name:ident = $family:expr;)*) => {
        $(pub(crate) const $name: $crate::metric::Metric = $family;)*
        /// Every family of these, in the order of the page.
        pub const FAMILIES: &[$crate::metric::Metric] = &[$($name),*];
    };
}

families! {
    REQUESTS = Metric::counter(
        "bastide_requests_total",
        &["route", "status", "step"],
        "Requests by route, class of status and the step that answered.",
    );
    DURATIONS = Metric::histogram(
        "bastide_request_duration_seconds",
        &[],
        "Time from the head of a request to the end of its answer.",
    );
    REFUSALS = Metric::counter(
        "bastide_refusals_total",
        &["step", "reason"],
        "Refused requests by step and reason.",
    );
    ADMISSIONS = Metric::counter(
        "bastide_admission_refusals_total",
        &["class"],
        "Heads refused before routing, by class of input.",
    );
    LIMIT_HITS = Metric::counter(
        "bastide_limit_hits_total",
        &["limit"],
        "Requests that a rate or concurrency limit refused, by limit.",
    );
    DRY_RUNS = Metric::counter(
        "bastide_authorization_dry_run_denials_total",
        &["route"],
        "Requests that policies would have denied, where they are only tried.",
    );
    ATTEMPTS = Metric::counter(
        "bastide_upstream_attempts_total",
        &["service"],
        "Attempts to reach an upstream, retries included, by service.",
    );
    FAILURES = Metric::counter(
        "bastide_upstream_failures_total",
        &["service"],
        "Attempts that brought no answer, by service.",
    );
    TOKEN_CACHE = Metric::counter(
        "bastide_token_cache_total",
        &["result"],
        "Tokens found verified in the cache (hit), and newly verified ones (miss).",
    );
    DECISION_CACHE = Metric::counter(
        "bastide_decision_cache_total",
        &["result"],
        "Decisions found in the cache (hit), newly made ones (miss), and such as are never cached (bypassed).",
    );
    CUT = Metric::counter(
        "bastide_exchanges_cut_total",
        &[],
        "Exchanges ended because they would not be let through any more.",
    );
    BODY_BYTES = Metric::counter(
        "bastide_body_bytes_total",
        &["direction"],
        "Bytes of bodies, from clients (in) and to them (out).",
    );
    MESH_REQUESTS = Metric::counter(
        "bastide_mesh_requests_total",
        &["callee", "caller", "reporter", "status"],
        "Calls between services by caller, callee, class of status and the end that counts.",
    );
    MESH_DURATIONS = Metric::histogram(
        "bastide_mesh_request_duration_seconds",
        &["callee", "caller", "reporter"],
        "Time from the head of a call to the end of its answer, by caller and callee.",
    );
    LIMIT_SHARED = Metric::counter(
        "bastide_limit_shared_total",
        &[],
        "Charges of subjects that had no cell of their own and shared their neighbours'.",
    );
    LIMIT_MEMORY = Metric::gauge(
        "bastide_limit_memory_bytes",
        &[],
        "Memory of the rate limiter; never grows.",
    );
    AUDIT_HEALTHY = Metric::gauge(
        "bastide_audit_healthy",
        &[],
        "1 while the audit log can be written.",
    );
    AUDIT_EVENTS = Metric::counter("bastide_audit_events_total", &[], "Events written to the audit log.");
    AUDIT_BYTES = Metric::counter("bastide_audit_bytes_total", &[], "Bytes written to the audit log.");
    AUDIT_PENDING = Metric::gauge("bastide_audit_pending_events", &[], "Events waiting to be written to the audit log.");
    AUDIT_PENDING_BYTES = Metric::gauge("bastide_audit_pending_bytes", &[], "Bytes waiting to be written to the audit log.");
    AUDIT_RESERVED = Metric::gauge(
        "bastide_audit_reserved",
        &[],
        "Places in the audit queues taken by requests in progress.",
    );
    AUDIT_REFUSED = Metric::counter(
        "bastide_audit_refused_total",
        &[],
        "Requests refused because an audit queue was full.",
    );
    AUDIT_DROPPED = Metric::counter(
        "bastide_audit_dropped_total",
        &[],
        "Events dropped because an audit queue was full, with `when_full: drop`.",
    );
    AUDIT_ABANDONED = Metric::counter(
        "bastide_audit_abandoned_total",
        &[],
        "Requests that never reported how they ended; their events say so.",
    );
    AUDIT_WRITE_ERRORS = Metric::counter(
        "bastide_audit_write_errors_total",
        &[],
        "Writes of the audit log that failed, and files not begun or removed.",
    );
    AUDIT_ROTATIONS = Metric::counter("bastide_audit_rotations_total", &[], "Files of the audit log begun.");
    AUDIT_TORN = Metric::counter(
        "bastide_audit_torn_lines_total",
        &[],
        "Lines of the audit log that a crash tore, closed at the next start.",
    );
}
