//! Upstream services.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway::snapshot::Snapshot;
use proxy::tls::{ClientTls, ClientTlsSettings};
use proxy::upstream::{
    Balance, BreakerRule, Budget, ConnectionLimits, DialCheck, Eject, EndpointSettings, ProbeKind, ProbeRule,
    Protocol, ServiceSettings, Timeouts,
};

use super::tls::{authorities, identity};
use super::{Parts, Reading};
use crate::config::{self, Service};
use crate::process::dns::{Names, Place};

/// No failures are enough.
const NEVER: Eject =
    Eject { failures: 0, duration: Duration::ZERO, success_percent_min: 0, requests_min: u32::MAX };

/// A service, with its certificates read.
pub(super) fn settings(
    service: &Service,
    parts: &Parts,
    reading: &Reading<'_>,
) -> anyhow::Result<ServiceSettings> {
    if service.in_process {
        let connector = match service.name.as_str() {
            config::BUNDLE_SERVICE => parts.mesh.connector(),
            config::ADMINISTRATION => &parts.administration,
            config::SESSION_SERVICE => parts.sessions.connector(),
            _ => parts.realms.connector(),
        };
        return Ok(ServiceSettings::in_process(&service.name, connector.clone()));
    }
    let names = &parts.names;
    let (mut endpoints, weights): (Vec<_>, Vec<_>) =
        service.endpoints.iter().flat_map(|endpoint| resolved(endpoint, names)).unzip();
    if let Some(id) = service.tls.mesh.as_ref().filter(|_| service.registry) {
        endpoints.extend(parts.mesh.endpoints(id).into_iter().map(registered));
    }
    let secure = service.registry || service.endpoints.iter().any(|endpoint| endpoint.tls);
    let bears = &service.resilience;
    Ok(ServiceSettings {
        weights,
        proxy_protocol: service.proxy_protocol,
        balance: match bears.balance {
            config::Balance::Ewma => Balance::Ewma,
            config::Balance::LeastRequests => Balance::LeastRequests,
            config::Balance::Random => Balance::Random,
        },
        protocol: match service.protocol {
            config::Protocol::Http1 => Protocol::Http1,
            config::Protocol::Http2 => Protocol::Http2,
            config::Protocol::Negotiated => Protocol::Auto,
        },
        tls: if secure {
            let before = reading.before().and_then(|before| kept(service, before));
            Some(reading.or_before(tls(service, parts, before, reading), |_| before.cloned())?)
        } else {
            None
        },
        eject: bears.eject.map_or(NEVER, |eject| Eject {
            failures: eject.failures,
            duration: eject.duration,
            success_percent_min: eject.success_percent_min,
            requests_min: eject.requests_min,
        }),
        breaker: bears.breaker.map(|breaker| BreakerRule {
            failures_percent: breaker.failures_percent,
            requests_min: breaker.requests_min,
            open: breaker.duration,
            trials: breaker.trials,
        }),
        budget: Budget {
            percent: bears.retry_budget.percent,
            per_second_min: bears.retry_budget.per_second_min,
        },
        probe: bears.health.as_ref().map(probe),
        connections_per_core_max: service.connections_per_core_max,
        connection_limits: ConnectionLimits {
            connections_max: bears.connections_max.unwrap_or(0),
            waiting_max: bears.waiting_max,
        },
        idle: service.timeouts.idle,
        dial_check: parts.program_port.as_ref().filter(|port| port.service == service.name).map(|port| {
            let port = Arc::clone(port);
            DialCheck::new(move |_, own_end| {
                own_end.map_or_else(|| port.check(), |own| port.check_taken(own))
            })
        }),
        ..ServiceSettings::new(&service.name, endpoints)
    })
}

/// An address of the registry: the certificate there says whether it is the service's.
fn registered(address: SocketAddr) -> EndpointSettings {
    EndpointSettings { tls: true, host: address.ip().to_string(), port: address.port(), address: None }
}

/// An endpoint with its weight: one for each address that its name stands for.
fn resolved(endpoint: &config::Endpoint, names: &Names) -> Vec<(EndpointSettings, u32)> {
    let at = EndpointSettings {
        tls: endpoint.tls,
        host: endpoint.host.clone(),
        port: endpoint.port,
        address: None,
    };
    let places = names.places(endpoint);
    if places.is_empty() {
        // An address, or a name that nobody knows yet: connecting says so.
        return vec![(at, endpoint.weight)];
    }
    let place = |place: Place| {
        let at = EndpointSettings {
            host: place.host,
            port: place.port.unwrap_or(at.port),
            address: Some(place.address),
            ..at.clone()
        };
        (at, place.weight.unwrap_or(1).saturating_mul(endpoint.weight))
    };
    places.into_iter().map(place).collect()
}

fn probe(check: &config::HealthCheck) -> ProbeRule {
    ProbeRule {
        kind: match &check.kind {
            config::HealthKind::Http { path, host, statuses: (first, last) } => {
                ProbeKind::Http { path: path.clone(), host: host.clone(), statuses: *first..=*last }
            }
            config::HealthKind::Grpc(service) => ProbeKind::Grpc { service: service.clone() },
            config::HealthKind::Tcp => ProbeKind::Tcp,
        },
        interval: check.interval,
        jitter_percent: check.jitter_percent,
        timeout: check.timeout,
        up_after: check.healthy,
        down_after: check.unhealthy,
    }
}

/// How its endpoints were spoken to before. Never by what the mesh has taken back since.
fn kept<'b>(service: &Service, before: &'b Snapshot) -> Option<&'b ClientTls> {
    let mut services = before.upstreams.services().iter().filter(|_| service.tls.mesh.is_none());
    services.find(|other| *other.name == *service.name)?.tls()
}

/// Each part by itself: of a file that cannot be used, what it held before stays.
fn tls(
    service: &Service,
    parts: &Parts,
    before: Option<&ClientTls>,
    reading: &Reading<'_>,
) -> anyhow::Result<ClientTls> {
    if let Some(id) = &service.tls.mesh {
        let member = parts.mesh.member()?;
        return Ok(ClientTls::build(&ClientTlsSettings {
            identity: Some(member.identity()),
            verifier: Some(member.server(id)?),
            ..ClientTlsSettings::default()
        })?);
    }
    let before = before.map(ClientTls::settings);
    let roots = match &service.tls.authorities {
        Some(path) => authorities(path, before.map(|before| &before.roots), reading)?,
        None => Vec::new(),
    };
    let identity = match &service.tls.client {
        Some(files) => Some(identity(files, before.and_then(|before| before.identity.as_ref()), reading)?),
        None => None,
    };
    Ok(ClientTls::build(&ClientTlsSettings {
        roots,
        identity,
        server_name: service.tls.server_name.clone(),
        verifier: None,
    })?)
}

/// How long to wait for an upstream.
pub(super) fn timeouts(timeouts: &config::Timeouts) -> Timeouts {
    Timeouts {
        connect: timeouts.connect,
        first_byte: timeouts.first_byte,
        idle: timeouts.idle,
        total: timeouts.total,
        tunnel: Some(timeouts.tunnel).filter(|longest| !longest.is_zero()),
    }
}
