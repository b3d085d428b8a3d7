//! The services behind us: which endpoints they have, how healthy those are, and each
//! core's connections to them.
//!
//! [`Upstreams`] is part of the snapshot that all cores share; [`CoreUpstreams`] is
//! one core's view of it; [`Pools`] outlives snapshots, so that a reload keeps every
//! connection whose endpoint and TLS identity did not change.

mod balance;
pub mod breaker;
pub mod budget;
mod connection;
mod connection1;
mod connection2;
pub mod dial;
pub mod gate;
pub mod health;
mod pool;
pub mod probe;
mod tally;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use balance::Balance;
pub use breaker::{Breaker, BreakerRule, BreakerState};
pub use budget::{Budget, Retries};
pub use gate::{Gate, GateRule};
pub use health::{Eject, Health, Probed};
pub use pool::Pools;
pub use probe::{Probe, ProbeKind, ProbeRule};

use crate::forward::PathTemplate;
use crate::limits::Limits;
use crate::route::RouteId;
use crate::tls::ClientTls;
use crate::world::CoreContext;
use balance::{Candidate, Dice};
use breaker::Pass;
pub(crate) use connection::Connection;
pub use connection::UpstreamFault;
use pool::{Pool, PoolKey};
use tally::Counted;

/// Which protocol an upstream speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1 on cleartext; on TLS what ALPN says, HTTP/2 preferred.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: by prior knowledge on cleartext (RFC 9113 §3.3), by ALPN on TLS.
    Http2,
}

/// How long to wait for an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, TLS handshake included.
    pub connect: Duration,
    /// From the sent request to the response's head.
    pub first_byte: Duration,
    /// Silence in the middle of a body or of a tunnel; also how long an unused
    /// connection is kept.
    pub idle: Duration,
    /// For everything, retries included. Tunnels are outside of it.
    pub total: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { connect: seconds(2), first_byte: seconds(30), idle: seconds(60), total: seconds(300) }
    }
}

/// Where one instance of a service is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EndpointSettings {
    /// Whether it speaks TLS (`https`).
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

/// A service as configured.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// Its name.
    pub name: String,
    /// Its endpoints.
    pub endpoints: Vec<EndpointSettings>,
    /// The weight of each endpoint, by its place; 1 where none is given. An endpoint
    /// of weight 3 gets three times the requests of one of weight 1.
    pub weights: Vec<u32>,
    /// How an endpoint is chosen.
    pub balance: Balance,
    /// What it speaks.
    pub protocol: Protocol,
    /// How its TLS is verified. Needed when an endpoint has TLS.
    pub tls: Option<ClientTls>,
    /// When an endpoint is left alone.
    pub eject: Eject,
    /// When all requests are refused for a while; `None`: never.
    pub breaker: Option<BreakerRule>,
    /// How many retries it may cost.
    pub budget: Budget,
    /// How its endpoints are probed; `None`: not at all.
    pub probe: Option<ProbeRule>,
    /// Open connections to one endpoint, per core; whoever comes later waits.
    pub connections_per_core_max: u32,
    /// The same over all cores, and how many may wait.
    pub gate: GateRule,
    /// How long an HTTP/2 connection without streams is kept.
    pub idle: Duration,
}

impl ServiceSettings {
    /// A service with everything else as it is by default.
    pub fn new(name: &str, endpoints: Vec<EndpointSettings>) -> Self {
        Self {
            name: name.to_owned(),
            endpoints,
            weights: Vec::new(),
            balance: Balance::default(),
            protocol: Protocol::Auto,
            tls: None,
            eject: Eject::default(),
            breaker: None,
            budget: Budget::default(),
            probe: None,
            connections_per_core_max: 256,
            gate: GateRule::default(),
            idle: Timeouts::default().idle,
        }
    }
}

/// How requests of one route go upstream.
#[derive(Clone, Debug)]
pub struct ForwardSettings {
    /// The service: its place in the list given to [`Upstreams::build`].
    pub service: usize,
    /// How long to wait.
    pub timeouts: Timeouts,
    /// How many more endpoints are tried when one fails and nothing can have happened
    /// twice.
    pub retries: u32,
    /// Protocols that a client may switch to (`websocket`), lower case.
    pub upgrades: Vec<Bytes>,
    /// What is taken from the front of the path.
    pub strip_prefix: Option<Bytes>,
    /// What is put before the path after that; no slash at its end.
    pub add_prefix: Option<Bytes>,
    /// The path as a whole, in the place of both.
    pub template: Option<PathTemplate>,
    /// The digest of the contract that a request must have been held against; 0: none.
    pub contract: u64,
    /// Most bytes of request body.
    pub body_bytes_max: u64,
    /// Whether the upstream sees the host that the client asked for; otherwise its own.
    pub keep_host: bool,
}

/// Why upstreams cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
    /// No endpoint.
    #[error("service {service:?} has no endpoint; give it at least one address")]
    NoEndpoint {
        /// The service.
        service: String,
    },
    /// An https endpoint without TLS settings.
    #[error("service {service:?} has an https endpoint but no TLS settings")]
    NoTls {
        /// The service.
        service: String,
    },
    /// A route names a service that is not in the list.
    #[error("route {route} goes to service number {service}, but there are only {services}")]
    NoService {
        /// The route's number.
        route: usize,
        /// What it names.
        service: usize,
        /// How many there are.
        services: usize,
    },
}

/// All services of a snapshot, shared by the cores.
#[derive(Debug)]
pub struct Upstreams {
    services: Vec<Service>,
    routes: Vec<Option<ForwardSettings>>,
    limits: Arc<Limits>,
}

/// One service.
#[derive(Debug)]
pub struct Service {
    /// Its name.
    pub name: Arc<str>,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Shared by all cores and kept over reloads.
    pub guard: Arc<Guard>,
    balance: Balance,
    eject: Eject,
    breaker: Option<BreakerRule>,
    budget: Budget,
    probe: Option<ProbeRule>,
    connections_max: u32,
    gate: GateRule,
    idle: Duration,
}

/// What is known of a service as a whole.
#[derive(Debug, Default)]
pub struct Guard {
    /// Its circuit breaker.
    pub breaker: Breaker,
    /// Its retries.
    pub retries: Retries,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// `http://10.0.0.5:7001`, for the log.
    pub label: Arc<str>,
    /// Shared by all cores and kept over reloads.
    pub health: Arc<Health>,
    /// Its connections over all cores, likewise.
    pub gate: Arc<Gate>,
    weight: u32,
    key: Arc<PoolKey>,
    tls: Option<ClientTls>,
}

impl Upstreams {
    /// Builds the services of a snapshot. `routes` says for each route, by its number,
    /// how its requests go on; `None` for routes that we answer ourselves. Endpoints
    /// that were in `before` keep their health.
    ///
    /// # Errors
    /// A service without endpoints or TLS settings, a route without its service.
    pub fn build(
        services: Vec<ServiceSettings>,
        routes: Vec<Option<ForwardSettings>>,
        limits: Arc<Limits>,
        before: Option<&Self>,
    ) -> Result<Self, UpstreamError> {
        let services: Vec<Service> =
            services.into_iter().map(|s| Service::build(s, before)).collect::<Result<_, _>>()?;
        for (route, settings) in routes.iter().enumerate() {
            let Some(settings) = settings else { continue };
            if settings.service >= services.len() {
                let (service, services) = (settings.service, services.len());
                return Err(UpstreamError::NoService { route, service, services });
            }
        }
        Ok(Self { services, routes, limits })
    }

    /// The services.
    pub fn services(&self) -> &[Service] {
        &self.services
    }
}

impl Service {
    fn build(settings: ServiceSettings, before: Option<&Upstreams>) -> Result<Self, UpstreamError> {
        let service = || settings.name.clone();
        if settings.endpoints.is_empty() {
            return Err(UpstreamError::NoEndpoint { service: service() });
        }
        let name: Arc<str> = settings.name.as_str().into();
        let before = before.and_then(|before| before.services.iter().find(|other| other.name == name));
        let mut endpoints = Vec::with_capacity(settings.endpoints.len());
        let weights = settings.weights.iter().copied().chain(std::iter::repeat(1));
        for (endpoint, weight) in settings.endpoints.iter().zip(weights) {
            let tls = match (endpoint.tls, &settings.tls) {
                (true, None) => return Err(UpstreamError::NoTls { service: service() }),
                (true, Some(tls)) => Some(tls.clone()),
                (false, _) => None,
            };
            let scheme = if endpoint.tls { "https" } else { "http" };
            let bracket = endpoint.host.contains(':');
            let (open, close) = if bracket { ("[", "]") } else { ("", "") };
            let label = format!("{scheme}://{open}{}{close}:{}", endpoint.host, endpoint.port).into();
            let key = Arc::new(PoolKey {
                service: Arc::clone(&name),
                endpoint: endpoint.clone(),
                protocol: settings.protocol,
                tls: tls.as_ref().map(|tls| Arc::clone(&tls.fingerprint)),
            });
            let kept = before.and_then(|before| before.endpoints.iter().find(|endpoint| endpoint.key == key));
            let (health, gate) =
                kept.map(|kept| (Arc::clone(&kept.health), Arc::clone(&kept.gate))).unwrap_or_default();
            endpoints.push(Endpoint { label, health, gate, weight: weight.max(1), key, tls });
        }
        Ok(Self {
            guard: before.map(|before| Arc::clone(&before.guard)).unwrap_or_default(),
            name,
            endpoints,
            balance: settings.balance,
            eject: settings.eject,
            breaker: settings.breaker,
            budget: settings.budget,
            probe: settings.probe,
            connections_max: settings.connections_per_core_max.max(1),
            gate: settings.gate,
            idle: settings.idle,
        })
    }

    /// Whether it has a breaker.
    pub fn has_breaker(&self) -> bool {
        self.breaker.is_some()
    }

    /// How the attempts of all its endpoints ended since a moment, at most ten seconds
    /// back.
    fn counted(&self, now_ms: u64, since_ms: u64) -> Counted {
        let each = self.endpoints.iter().map(|endpoint| endpoint.health.counted(now_ms, since_ms));
        each.fold(Counted::default(), Counted::plus)
    }
}

impl Endpoint {
    /// Where it is.
    pub fn settings(&self) -> &EndpointSettings {
        &self.key.endpoint
    }
}

/// One core's view of the services of one snapshot.
#[derive(Debug)]
pub struct CoreUpstreams {
    shared: Arc<Upstreams>,
    /// By service, then by endpoint.
    pools: Vec<Vec<Rc<Pool>>>,
    context: CoreContext,
    dice: Dice,
}

impl CoreUpstreams {
    /// Takes the core's pools for these services, old ones where their key is the same.
    pub fn new(shared: &Arc<Upstreams>, context: &CoreContext) -> Self {
        let pool = |service: &Service, endpoint: &Endpoint| context.pools.get(service, endpoint);
        let pools = shared
            .services
            .iter()
            .map(|service| service.endpoints.iter().map(|endpoint| pool(service, endpoint)).collect())
            .collect();
        let seed = context.index as u64 + 1;
        Self { shared: Arc::clone(shared), pools, context: context.clone(), dice: Dice::new(seed) }
    }

    /// The services.
    pub fn shared(&self) -> &Arc<Upstreams> {
        &self.shared
    }

    pub(crate) fn context(&self) -> &CoreContext {
        &self.context
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    pub(crate) fn settings(&self, route: RouteId) -> Option<&ForwardSettings> {
        self.shared.routes.get(route.0 as usize)?.as_ref()
    }

    fn service(&self, number: usize) -> Option<&Service> {
        self.shared.services.get(number)
    }

    /// Asks the breaker of a service whether a request may go there now.
    ///
    /// # Errors
    /// It may not, and when to ask again.
    pub(crate) fn admit(&self, service: usize) -> Result<Admission<'_>, Duration> {
        let Some(service) = self.service(service) else { return Ok(Admission(None)) };
        let Some(rule) = &service.breaker else { return Ok(Admission(None)) };
        let now = self.context.ticker.now_ms();
        Ok(Admission(Some((service.guard.breaker.admit(now, rule)?, rule))))
    }

    /// Takes one retry out of the budget of a service.
    pub(crate) fn may_retry(&self, service: usize) -> bool {
        let Some(service) = self.service(service) else { return false };
        let now = self.context.ticker.now_ms();
        service.guard.retries.take(now, service.budget, service.counted(now, 0).total())
    }

    /// Chooses an endpoint of a service; bit n of `tried` says that the n-th was.
    pub(crate) fn choose(&self, service: usize, tried: u64) -> Option<Chosen<'_>> {
        let (endpoints, pools) = (&self.shared.services.get(service)?.endpoints, self.pools.get(service)?);
        let service = self.service(service)?;
        let now = self.context.ticker.now_ms();
        let candidate = |index: usize| Candidate {
            weight: endpoints.get(index).map_or(1, |endpoint| endpoint.weight),
            unwell: endpoints.get(index).is_some_and(|endpoint| endpoint.health.is_unwell(now)),
            tried: tried & bit(index) != 0,
        };
        let cost = |index: usize| {
            let (Some(pool), Some(endpoint)) = (pools.get(index), endpoints.get(index)) else { return 0.0 };
            match service.balance {
                Balance::Ewma => pool.latency.cost(pool.in_flight.get(), endpoint.weight, now),
                Balance::LeastRequests => f64::from(pool.in_flight.get()) / f64::from(endpoint.weight),
                Balance::Random => 0.0,
            }
        };
        let index = balance::choose(endpoints.len(), candidate, cost, &self.dice)?;
        let (endpoint, pool) = (endpoints.get(index)?, pools.get(index)?);
        // Where there is nothing to choose, nothing is measured.
        let measures = service.balance == Balance::Ewma && endpoints.len() > 1;
        let started_us = measures.then(|| self.context.ticker.read_now_us());
        Some(Chosen { index, service, endpoint, pool, context: &self.context, started_us })
    }
}

/// A request that its service's breaker let through.
#[derive(Debug)]
pub(crate) struct Admission<'u>(Option<(Pass<'u>, &'u BreakerRule)>);

impl Admission<'_> {
    /// Whether the breaker watches how this very request ends.
    pub(crate) fn is_trial(&self) -> bool {
        self.0.as_ref().is_some_and(|(pass, _)| pass.is_trial())
    }
}

/// The bit that stands for an endpoint in the set of those that were tried. Services
/// with more than 64 endpoints share bits: fewer retries, never one too many.
pub(crate) fn bit(index: usize) -> u64 {
    1 << (index % 64)
}

/// An endpoint that was chosen for one attempt.
#[derive(Debug)]
pub(crate) struct Chosen<'u> {
    pub(crate) index: usize,
    pub(crate) service: &'u Service,
    pub(crate) endpoint: &'u Endpoint,
    pub(crate) pool: &'u Rc<Pool>,
    context: &'u CoreContext,
    /// Microseconds of the core's clock.
    started_us: Option<f64>,
}

impl Chosen<'_> {
    fn took_us(&self) -> Option<f64> {
        self.started_us.map(|started| (self.context.ticker.read_now_us() - started).max(1.0))
    }

    /// The attempt failed.
    pub(crate) fn failed(&self, admission: &mut Admission<'_>) {
        let now = self.context.ticker.now_ms();
        if let Some(took) = self.took_us() {
            self.pool.latency.failed(took, now);
        }
        if self.endpoint.health.failed(self.context.index, now, &self.service.eject) {
            tracing::warn!(
                service = &*self.service.name,
                endpoint = &*self.endpoint.label,
                seconds = self.service.eject.duration.as_secs(),
                "endpoint ejected"
            );
        }
        let Some((pass, rule)) = &mut admission.0 else { return };
        let breaker = &self.service.guard.breaker;
        let opened = if pass.is_trial() {
            pass.failed(now, rule)
        } else {
            breaker.failed(now, rule, |since| self.service.counted(now, since))
        };
        if opened {
            let seconds = rule.open.as_secs();
            tracing::warn!(service = &*self.service.name, seconds, "circuit breaker opened");
        }
    }

    /// The attempt brought an answer.
    pub(crate) fn succeeded(&self, admission: &mut Admission<'_>) {
        let now = self.context.ticker.now_ms();
        if let Some(took) = self.took_us() {
            self.pool.latency.measured(took, now);
        }
        self.endpoint.health.succeeded(self.context.index, now);
        if let Some((pass, rule)) = &mut admission.0 {
            pass.succeeded(now, rule);
        }
    }
}

/// Counts a request to an endpoint while it is open.
pub(crate) struct InFlight<'p>(&'p Cell<u32>);

impl<'p> InFlight<'p> {
    pub(crate) fn enter(count: &'p Cell<u32>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
