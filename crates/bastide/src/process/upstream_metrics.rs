//! The families of the metrics that tell how the upstreams are, read at each scrape.

use gateway::metric::{Exposition, Metric};
use proxy::Upstreams;
use proxy::upstream::{BreakerState, Endpoint, Guard, Probed};

use super::metrics;

/// Endpoints that are shown; the others of a larger configuration are not.
const ENDPOINTS_MAX: usize = 10_000;

type OfEndpoint = (&'static Metric, fn(&Endpoint, u64) -> u64);

const ENDPOINT_FAMILIES: &[OfEndpoint] = &[
    (&metrics::ENDPOINT_UP, |endpoint, now| u64::from(!endpoint.health.is_unwell(now))),
    (&metrics::ENDPOINT_EJECTED, |endpoint, now| u64::from(endpoint.health.is_ejected(now))),
    (&metrics::ENDPOINT_HEALTHY, |endpoint, _| u64::from(endpoint.health.probed() != Probed::Down)),
    (&metrics::EJECTIONS, |endpoint, _| endpoint.health.ejections()),
    (&metrics::UPSTREAM_CONNECTIONS, |endpoint, _| endpoint.limiter.open().into()),
    (&metrics::WAITING, |endpoint, _| endpoint.limiter.waiting().into()),
    (&metrics::WAITING_REFUSED, |endpoint, _| endpoint.limiter.refused_total()),
];

type OfService = (&'static Metric, fn(&Guard) -> u64);

const SERVICE_FAMILIES: &[OfService] = &[
    (&metrics::RETRIES, |guard| guard.retries.spent_total()),
    (&metrics::RETRY_BUDGET, |guard| guard.retries.refused_total()),
    (&metrics::BREAKER_OPENED, |guard| guard.breaker.opened_total()),
    (&metrics::BREAKER_REFUSED, |guard| guard.breaker.refused_total()),
];

/// Writes them. `now_ms` is the cores' clock.
pub(super) fn write(upstreams: &Upstreams, now_ms: u64, out: &mut Exposition) {
    let endpoints = || {
        let each = upstreams.services().iter();
        each.flat_map(|s| s.endpoints.iter().map(|e| (&*s.name, e))).take(ENDPOINTS_MAX)
    };
    for (family, of) in ENDPOINT_FAMILIES {
        out.family(family);
        for (service, endpoint) in endpoints() {
            let labels = [("service", service), ("endpoint", &*endpoint.label)];
            out.sample(&labels, of(endpoint, now_ms));
        }
    }
    out.family(&metrics::PROBES);
    for (service, endpoint) in endpoints() {
        let (good, bad) = endpoint.health.probes();
        for (result, count) in [("good", good), ("bad", bad)] {
            let labels = [("service", service), ("endpoint", &*endpoint.label), ("result", result)];
            out.sample(&labels, count);
        }
    }
    for (family, of) in SERVICE_FAMILIES {
        out.family(family);
        for service in upstreams.services() {
            out.sample(&[("service", &*service.name)], of(&service.guard));
        }
    }
    out.family(&metrics::MIRRORED);
    for service in upstreams.services() {
        for (result, count) in ["answered", "failed", "skipped"].iter().zip(service.guard.mirrors.totals()) {
            out.sample(&[("service", &*service.name), ("result", result)], count);
        }
    }
    out.family(&metrics::BREAKER_STATE);
    for service in upstreams.services().iter().filter(|service| service.has_breaker()) {
        let state = match service.guard.breaker.state(now_ms) {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        out.sample(&[("service", &*service.name)], state);
    }
}
