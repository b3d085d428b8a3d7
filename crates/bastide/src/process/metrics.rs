//! The families of metrics that the process adds to the gateway's, and the page of the
//! documentation that lists all of them.

use std::fmt::Write as _;

use gateway::families;
use gateway::metric::families::FAMILIES as OF_THE_GATEWAY;
use gateway::metric::{Kind, Metric};
use model::event::Step;

const INTRODUCTION: &str = include_str!("metrics.md");

families! {
    BUILD_INFO = Metric::gauge("bastide_build_info", &["version"], "1; the version of this program is its label.");
    PROCESS_CPU = Metric::counter(
        "process_cpu_seconds_total",
        &[],
        "Processor time of this process, user and system, in seconds.",
    );
    PROCESS_RESIDENT = Metric::gauge(
        "process_resident_memory_bytes",
        &[],
        "Memory of this process that is resident.",
    );
    PROCESS_VIRTUAL = Metric::gauge(
        "process_virtual_memory_bytes",
        &[],
        "Address space of this process.",
    );
    PROCESS_FILES = Metric::gauge("process_open_fds", &[], "Open file descriptors, connections among them.");
    PROCESS_FILES_MAX = Metric::gauge("process_max_fds", &[], "Most file descriptors that may be open.");
    PROCESS_START = Metric::gauge(
        "process_start_time_seconds",
        &[],
        "When this process began to serve, in seconds since 1970.",
    );
    CONNECTIONS_OPEN = Metric::gauge("bastide_client_connections_open", &[], "Open client connections.");
    CONNECTIONS = Metric::counter(
        "bastide_client_connections_total",
        &["result"],
        "Client connections, by what became of them: accepted, refused, cut, handshake_failed.",
    );
    HANDSHAKES_REFUSED = Metric::counter(
        "bastide_handshakes_refused_total",
        &["event"],
        "TLS handshakes that were refused where clients are asked for a certificate: written to the audit log, or left_out: too many came at once, or the log had no place.",
    );
    CONNECTIONS_PLAIN_TEXT = Metric::counter(
        "bastide_plain_text_connections_total",
        &[],
        "Connections without TLS to listeners of the mesh that accept them for a migration.",
    );
    LIMIT_REFUSED = Metric::counter(
        "bastide_limit_refused_total",
        &["limit"],
        "Times that a connection or protocol limit was met (the keys of `limits`).",
    );
    RELOADS = Metric::counter(
        "bastide_reloads_total",
        &["result"],
        "Reloads of the configuration: good, or refused.",
    );
    RELOAD_REFUSED = Metric::gauge(
        "bastide_reload_refused",
        &[],
        "1 while the configuration on disk is not the one in force.",
    );
    REVOCATIONS_REFUSED = Metric::gauge(
        "bastide_revocations_refused",
        &[],
        "1 while the revocation list on disk is not the one in force.",
    );
    FILES_REFUSED = Metric::gauge(
        "bastide_files_refused",
        &[],
        "Certificates, keys and lists beside the configuration that cannot be used: what they held before stays.",
    );
    ISSUER_KEYS = Metric::gauge(
        "bastide_issuer_keys_usable",
        &["issuer"],
        "1 while an issuer's keys can verify tokens.",
    );
    LOG_DROPPED = Metric::counter(
        "bastide_log_dropped_total",
        &[],
        "Entries of the process' log that found no room: nobody reads standard error.",
    );
    DNS_FAILURES = Metric::counter(
        "bastide_dns_failures_total",
        &[],
        "DNS queries for names of endpoints that brought no answer.",
    );
    BUNDLES_OUTDATED = Metric::counter(
        "bastide_mesh_outdated_bundles_total",
        &[],
        "Bundles of other trust domains that were refused because a newer one was known.",
    );
    CERTIFICATE_EXPIRY = Metric::gauge(
        "bastide_certificate_expiry_seconds",
        &["name"],
        "When the certificate for a name expires, in seconds since 1970.",
    );
    ACME_ORDERS = Metric::counter(
        "bastide_acme_orders_total",
        &["result"],
        "Orders of certificates that ended: issued, or failed.",
    );
    ACME_FAILING = Metric::gauge(
        "bastide_acme_order_failing",
        &["name"],
        "1 while the last order of a certificate failed, by name.",
    );
    CONTRACT_REPORTS = Metric::counter(
        "bastide_contract_reports_total",
        &[],
        "Messages that violated an API document and went on, because its route only reports.",
    );
    UNDOCUMENTED = Metric::gauge(
        "bastide_undocumented_endpoints",
        &[],
        "Endpoints that were requested and that no document describes.",
    );
    ENDPOINT_UP = Metric::gauge(
        "bastide_upstream_endpoint_up",
        &["service", "endpoint"],
        "1 while an endpoint gets requests: neither ejected nor down for its health check.",
    );
    ENDPOINT_EJECTED = Metric::gauge(
        "bastide_upstream_endpoint_ejected",
        &["service", "endpoint"],
        "1 while an endpoint is ejected because it failed.",
    );
    ENDPOINT_HEALTHY = Metric::gauge(
        "bastide_upstream_endpoint_healthy",
        &["service", "endpoint"],
        "0 while an endpoint fails its health check; 1 also where it has none.",
    );
    EJECTIONS = Metric::counter(
        "bastide_upstream_ejections_total",
        &["service", "endpoint"],
        "Times that an endpoint was ejected after failures.",
    );
    UPSTREAM_CONNECTIONS = Metric::gauge(
        "bastide_upstream_connections_open",
        &["service", "endpoint"],
        "Open connections to an endpoint, over all cores.",
    );
    WAITING = Metric::gauge(
        "bastide_upstream_waiting",
        &["service", "endpoint"],
        "Requests that wait for a connection to an endpoint.",
    );
    WAITING_REFUSED = Metric::counter(
        "bastide_upstream_waiting_refused_total",
        &["service", "endpoint"],
        "Requests that did not get to an endpoint because too many waited.",
    );
    PROBES = Metric::counter(
        "bastide_upstream_probes_total",
        &["service", "endpoint", "result"],
        "Health checks that ended: good, or bad.",
    );
    RETRIES = Metric::counter(
        "bastide_upstream_retries_total",
        &["service"],
        "Attempts that were made again.",
    );
    RETRY_BUDGET = Metric::counter(
        "bastide_upstream_retry_budget_exhausted_total",
        &["service"],
        "Retries that the budget forbade.",
    );
    BREAKER_OPENED = Metric::counter(
        "bastide_upstream_breaker_opened_total",
        &["service"],
        "Times that the circuit breaker opened.",
    );
    BREAKER_REFUSED = Metric::counter(
        "bastide_upstream_breaker_refused_total",
        &["service"],
        "Requests that the circuit breaker refused.",
    );
    BREAKER_STATE = Metric::gauge(
        "bastide_upstream_breaker_state",
        &["service"],
        "The circuit breaker: 0 closed, 1 half-open, 2 open.",
    );
    MIRRORED = Metric::counter(
        "bastide_upstream_mirrored_total",
        &["service", "result"],
        "Copies of requests for a mirror: answered, failed, skipped.",
    );
    SINK_EVENTS = Metric::counter(
        "bastide_audit_sink_events_total",
        &["sink", "result"],
        "Events by sink and what became of them: sent; retried: sent once more; dropped: its buffer was full; failed: refused for good.",
    );
    SINK_FAULTS = Metric::counter(
        "bastide_audit_sink_faults_total",
        &["sink"],
        "Attempts to deliver to a sink that failed.",
    );
    SINK_PENDING_EVENTS = Metric::gauge(
        "bastide_audit_sink_pending_events",
        &["sink"],
        "Events that wait for a sink.",
    );
    SINK_PENDING_BYTES = Metric::gauge(
        "bastide_audit_sink_pending_bytes",
        &["sink"],
        "Bytes of events that wait for a sink.",
    );
    SINK_HEALTHY = Metric::gauge(
        "bastide_audit_sink_healthy",
        &["sink"],
        "1 while the last attempt to deliver to a sink succeeded.",
    );
    SPANS = Metric::counter(
        "bastide_telemetry_spans_total",
        &["result"],
        "Spans by what became of them: sent; rejected by the collector; failed: not taken in time; dropped: a core's ring was full.",
    );
    TELEMETRY_REQUESTS = Metric::counter(
        "bastide_telemetry_requests_total",
        &["signal", "result"],
        "Requests to the collector, by signal (traces, metrics) and result (good, failed).",
    );
}

/// `docs/metrics.md`.
pub fn reference() -> String {
    let mut page = INTRODUCTION.trim_end().to_owned();
    let steps: Vec<String> = Step::ALL.iter().map(|step| format!("`{}`", step.name())).collect();
    page = page.replace("STEPS", &steps.join(", "));
    page.push_str("\n\n## All metrics\n| name | kind | labels | meaning |\n|---|---|---|---|\n");
    let mut all: Vec<&Metric> = OF_THE_GATEWAY.iter().chain(FAMILIES).collect();
    all.sort_by_key(|metric| metric.name);
    for metric in all {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let _ = writeln!(page, "| `{}` | {kind} | {} | {} |", metric.name, labels.join(", "), metric.help);
    }
    page
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_page_of_the_metrics_is_what_the_tables_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
        let page = std::fs::read_to_string(path).unwrap_or_default();
        assert!(page == reference(), "docs/metrics.md is not what the tables say: run `cargo xtask docs`");
        for step in Step::ALL {
            assert!(page.contains(&format!("`{}`", step.name())), "{step:?}");
        }
    }

    /// As Prometheus wants them, each of them once.
    #[test]
    fn names_say_what_they_count() {
        let mut names = BTreeSet::new();
        for metric in OF_THE_GATEWAY.iter().chain(FAMILIES) {
            let name = metric.name;
            assert!(names.insert(name), "{name} twice");
            // What every process has goes by the names that Prometheus' libraries give it.
            assert!(name.starts_with("bastide_") || name.starts_with("process_"), "{name}");
            assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['|', '\n']), "{name}");
        }
    }
}
