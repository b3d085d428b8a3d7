//! The families of the metrics that tell how the upstreams are, read at each scrape.

use gateway::metric::{Exposition, Kind};
use proxy::Upstreams;
use proxy::upstream::{BreakerState, Endpoint, Guard, Probed};

/// Endpoints that are shown; the others of a larger configuration are not.
const ENDPOINTS_MAX: usize = 10_000;

type OfEndpoint = (&'static str, Kind, &'static str, fn(&Endpoint, u64) -> u64);

const ENDPOINT_FAMILIES: &[OfEndpoint] = &[
    (
        "bastide_upstream_endpoint_up",
        Kind::Gauge,
        "1 while an endpoint gets requests: neither ejected nor down for its health check.",
        |endpoint, now| u64::from(!endpoint.health.is_unwell(now)),
    ),
    (
        "bastide_upstream_endpoint_ejected",
        Kind::Gauge,
        "1 while an endpoint is left alone because it failed.",
        |endpoint, now| u64::from(endpoint.health.is_ejected(now)),
    ),
    (
        "bastide_upstream_endpoint_healthy",
        Kind::Gauge,
        "0 while an endpoint fails its health check; 1 also where it has none.",
        |endpoint, _| u64::from(endpoint.health.probed() != Probed::Down),
    ),
    (
        "bastide_upstream_ejections_total",
        Kind::Counter,
        "Times that an endpoint was left alone after failures.",
        |endpoint, _| endpoint.health.ejections(),
    ),
    (
        "bastide_upstream_connections_open",
        Kind::Gauge,
        "Open connections to an endpoint, over all cores.",
        |endpoint, _| endpoint.limiter.open().into(),
    ),
    (
        "bastide_upstream_waiting",
        Kind::Gauge,
        "Requests that wait for a connection to an endpoint.",
        |endpoint, _| endpoint.limiter.waiting().into(),
    ),
    (
        "bastide_upstream_waiting_refused_total",
        Kind::Counter,
        "Requests that did not get to an endpoint because too many waited.",
        |endpoint, _| endpoint.limiter.refused_total(),
    ),
];

type OfService = (&'static str, &'static str, fn(&Guard) -> u64);

const SERVICE_FAMILIES: &[OfService] = &[
    ("bastide_upstream_retries_total", "Attempts that were made again.", |guard| guard.retries.spent_total()),
    ("bastide_upstream_retry_budget_exhausted_total", "Retries that the budget forbade.", |guard| {
        guard.retries.refused_total()
    }),
    ("bastide_upstream_breaker_opened_total", "Times that the circuit breaker opened.", |guard| {
        guard.breaker.opened_total()
    }),
    ("bastide_upstream_breaker_refused_total", "Requests that the circuit breaker refused.", |guard| {
        guard.breaker.refused_total()
    }),
];

/// Writes them. `now_ms` is the cores' clock.
pub(super) fn write(upstreams: &Upstreams, now_ms: u64, out: &mut Exposition) {
    let endpoints = || {
        let each = upstreams.services().iter();
        each.flat_map(|s| s.endpoints.iter().map(|e| (&*s.name, e))).take(ENDPOINTS_MAX)
    };
    for (name, kind, help, of) in ENDPOINT_FAMILIES {
        out.family(name, *kind, help);
        for (service, endpoint) in endpoints() {
            let labels = [("service", service), ("endpoint", &*endpoint.label)];
            out.sample(name, &labels, of(endpoint, now_ms));
        }
    }
    let name = "bastide_upstream_probes_total";
    out.family(name, Kind::Counter, "Health checks that ended, by result.");
    for (service, endpoint) in endpoints() {
        let (good, bad) = endpoint.health.probes();
        for (result, count) in [("good", good), ("bad", bad)] {
            let labels = [("service", service), ("endpoint", &*endpoint.label), ("result", result)];
            out.sample(name, &labels, count);
        }
    }
    for (name, help, of) in SERVICE_FAMILIES {
        out.family(name, Kind::Counter, help);
        for service in upstreams.services() {
            out.sample(name, &[("service", &*service.name)], of(&service.guard));
        }
    }
    let name = "bastide_upstream_mirrored_total";
    out.family(name, Kind::Counter, "Copies of requests for a service that watches, by what became of them.");
    for service in upstreams.services() {
        for (result, count) in ["answered", "failed", "skipped"].iter().zip(service.guard.mirrors.totals()) {
            out.sample(name, &[("service", &*service.name), ("result", result)], count);
        }
    }
    let name = "bastide_upstream_breaker_state";
    out.family(name, Kind::Gauge, "The circuit breaker: 0 closed, 1 half-open, 2 open.");
    for service in upstreams.services().iter().filter(|service| service.has_breaker()) {
        let state = match service.guard.breaker.state(now_ms) {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        out.sample(name, &[("service", &*service.name)], state);
    }
}
