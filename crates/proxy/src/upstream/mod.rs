//! The services behind us: which endpoints they have, how healthy those are, and each
//! core's connections to them.
//!
//! [`Upstreams`] is part of the snapshot that all cores share; [`CoreUpstreams`] is
//! one core's view of it; [`Pools`] outlives snapshots, so that a reload keeps every
//! connection whose endpoint and TLS identity did not change.

mod balance;
mod board;
pub mod breaker;
pub mod budget;
mod connection;
mod connection1;
mod connection2;
pub mod connection_limiter;
pub mod dial;
mod fairness;
mod filtered;
mod health;
pub mod in_process;
mod peer;
mod pool;
pub mod probe;
mod settings;
mod tally;

use std::cell::Cell;
use std::fmt::Write as _;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use model::ClientNetwork;

pub use balance::Balance;
pub use breaker::{Breaker, BreakerRule, BreakerState};
pub use budget::{Budget, Retries};
pub use connection_limiter::{ConnectionLimiter, ConnectionLimits};
pub use health::{Eject, Health, Probed};
pub use in_process::{InProcessConnector, InProcessListener, in_process_pair};
pub use peer::UpstreamPeer;
pub use pool::Pools;
pub use probe::{Probe, ProbeKind, ProbeRule, Prober};
pub use settings::{
    DialCheck, EndpointSettings, ForwardSettings, Mirror, Protocol, ServiceSettings, Split, Timeouts,
    UpstreamError,
};

use crate::head::RequestHead;
use crate::held::HeldShare;
use crate::limits::Limits;
use crate::route::RouteId;
use crate::tls::ClientTls;
use crate::world::CoreContext;
use balance::{Candidate, FastRandom};
use breaker::Pass;
pub(crate) use connection::Connection;
pub use connection::UpstreamFault;
pub(crate) use fairness::{Holding, Network};
pub(crate) use pool::Pool;
use pool::PoolKey;
use tally::Counted;

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
    tls: Option<ClientTls>,
    balance: Balance,
    eject: Eject,
    breaker: Option<BreakerRule>,
    budget: Budget,
    probe: Option<ProbeRule>,
    connections_max: u32,
    connection_limits: ConnectionLimits,
    idle: Duration,
}

/// What is known of a service as a whole.
#[derive(Debug, Default)]
pub struct Guard {
    /// Its circuit breaker.
    pub breaker: Breaker,
    /// Its retries.
    pub retries: Retries,
    /// Copies of requests that it got.
    pub mirrors: Mirrors,
}

/// Counts copies of requests.
#[derive(Debug, Default)]
pub struct Mirrors {
    sent: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
}

impl Mirrors {
    /// Copies that were answered, that failed, and that were not made because too many
    /// were under way or the body was too large.
    pub fn totals(&self) -> [u64; 3] {
        [&self.sent, &self.failed, &self.skipped].map(|count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn ended(&self, good: bool) {
        if good { &self.sent } else { &self.failed }.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn skipped(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// `http://10.0.0.5:7001`, for the log.
    pub label: Arc<str>,
    /// Shared by all cores and kept over reloads.
    pub health: Arc<Health>,
    /// Its connections over all cores, likewise.
    pub limiter: Arc<ConnectionLimiter>,
    weight: u32,
    key: Arc<PoolKey>,
    tls: Option<ClientTls>,
    dial_check: Option<DialCheck>,
    in_process: Option<InProcessConnector>,
}

impl Upstreams {
    /// Builds the services of a snapshot. `routes` says for each route, by its number,
    /// how its requests go on; `None` for routes that we answer ourselves. Endpoints
    /// that were in `before` keep their health.
    ///
    /// # Errors
    /// A service with an https endpoint but without TLS settings, a route without its service.
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
            let splits = settings.splits.iter().map(|split| split.service);
            let mut named = [settings.service]
                .into_iter()
                .chain(splits)
                .chain(settings.mirror.map(|mirror| mirror.service));
            if let Some(service) = named.find(|service| *service >= services.len()) {
                return Err(UpstreamError::NoService { route, service, services: services.len() });
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
            let mut label = format!("{scheme}://{open}{}{close}:{}", endpoint.host, endpoint.port);
            if let Some(address) = endpoint.address {
                let _ = write!(label, " {address}");
            }
            if settings.in_process.is_some() {
                "in process".clone_into(&mut label);
            }
            let label = label.into();
            let key = Arc::new(PoolKey {
                service: Arc::clone(&name),
                endpoint: endpoint.clone(),
                protocol: settings.protocol,
                proxy_protocol: settings.proxy_protocol,
                tls: tls.as_ref().map(|tls| Arc::clone(&tls.fingerprint)),
            });
            let kept = before.and_then(|before| before.endpoints.iter().find(|endpoint| endpoint.key == key));
            let (health, limiter) =
                kept.map(|kept| (Arc::clone(&kept.health), Arc::clone(&kept.limiter))).unwrap_or_default();
            endpoints.push(Endpoint {
                label,
                health,
                limiter,
                weight: weight.max(1),
                key,
                tls,
                dial_check: settings.dial_check.clone(),
                in_process: settings.in_process.clone(),
            });
        }
        Ok(Self {
            guard: before.map(|before| Arc::clone(&before.guard)).unwrap_or_default(),
            name,
            endpoints,
            tls: settings.tls,
            balance: settings.balance,
            eject: settings.eject,
            breaker: settings.breaker,
            budget: settings.budget,
            probe: settings.probe,
            connections_max: settings.connections_per_core_max.max(1),
            connection_limits: settings.connection_limits,
            idle: settings.idle,
        })
    }

    /// The TLS that its endpoints are spoken to with, where any of them speaks it.
    pub fn tls(&self) -> Option<&ClientTls> {
        self.tls.as_ref()
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
    random: FastRandom,
    /// Copies of requests that are under way on this core.
    mirrors: Rc<Cell<u32>>,
}

impl CoreUpstreams {
    /// Takes the core's pools for these services, old ones where their key is the same.
    pub fn new(shared: &Arc<Upstreams>, context: &CoreContext) -> Self {
        let pool =
            |service: &Service, endpoint: &Endpoint| context.pools.get(service, endpoint, &shared.limits);
        let pools = shared
            .services
            .iter()
            .map(|service| service.endpoints.iter().map(|endpoint| pool(service, endpoint)).collect())
            .collect();
        let seed = context.index as u64 + 1;
        Self {
            shared: Arc::clone(shared),
            pools,
            context: context.clone(),
            random: FastRandom::new(seed),
            mirrors: Rc::default(),
        }
    }

    /// The services.
    pub fn shared(&self) -> &Arc<Upstreams> {
        &self.shared
    }

    pub(crate) fn context(&self) -> &CoreContext {
        &self.context
    }

    /// The share that the body of an exchange takes of what may be held.
    pub fn held_share(&self, network: Option<ClientNetwork>) -> HeldShare<'_> {
        self.context.held.share(self.limits(), network)
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    pub(crate) fn shared_limits(&self) -> Arc<Limits> {
        Arc::clone(&self.shared.limits)
    }

    pub(crate) fn mirrors(&self) -> &Rc<Cell<u32>> {
        &self.mirrors
    }

    /// True in so many of a hundred cases.
    pub(crate) fn draws(&self, percent: u32) -> bool {
        self.random.below(100) < percent as usize
    }

    /// The service that a request of a route goes to: the first whose fields it has,
    /// else one drawn by weight.
    pub(crate) fn service_for(&self, settings: &ForwardSettings, head: &RequestHead) -> usize {
        if settings.splits.is_empty() {
            return settings.service;
        }
        let has =
            |(name, value): &(Bytes, Bytes)| head.fields.kept_named(name).any(|found| found == &value[..]);
        let by_header =
            settings.splits.iter().find(|split| !split.headers.is_empty() && split.headers.iter().all(has));
        if let Some(split) = by_header {
            return split.service;
        }
        let by_weight = || settings.splits.iter().filter(|split| split.headers.is_empty());
        let total = by_weight().map(|split| split.weight as usize).sum();
        let mut left = if total == 0 { 0 } else { self.random.below(total) };
        let drawn = by_weight().find(|split| {
            let weight = split.weight as usize;
            let here = left < weight;
            left = left.saturating_sub(weight);
            here
        });
        drawn.map_or(settings.service, |split| split.service)
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
        let index = balance::choose(endpoints.len(), candidate, cost, &self.random)?;
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

    /// Whether it is neither ejected nor down for the probes.
    pub(crate) fn is_well(&self) -> bool {
        !self.endpoint.health.is_unwell(self.context.ticker.now_ms())
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
