//! The services behind us: which endpoints they have, how healthy those are, and each
//! core's connections to them.
//!
//! [`Upstreams`] is part of the snapshot that all cores share; [`CoreUpstreams`] is
//! one core's view of it; [`Pools`] outlives snapshots, so that a reload keeps every
//! connection whose endpoint and TLS identity did not change.

mod balance;
mod connection;
mod connection1;
mod connection2;
pub mod dial;
pub mod health;
mod pool;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

pub use health::{Eject, Health};
pub use pool::Pools;

use crate::limits::Limits;
use crate::route::RouteId;
use crate::tls::ClientTls;
use crate::world::CoreContext;
use balance::{Candidate, Dice};
pub(crate) use connection::Connection;
pub use connection::UpstreamFault;
use pool::{Pool, PoolKey};

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
    /// What it speaks.
    pub protocol: Protocol,
    /// How its TLS is verified. Needed when an endpoint has TLS.
    pub tls: Option<ClientTls>,
    /// When an endpoint is left alone.
    pub eject: Eject,
    /// Open connections to one endpoint, per core; whoever comes later waits.
    pub connections_per_core_max: u32,
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
    eject: Eject,
    connections_max: u32,
}

/// One endpoint.
#[derive(Debug)]
pub struct Endpoint {
    /// `http://10.0.0.5:7001`, for the log.
    pub label: Arc<str>,
    /// Shared by all cores and kept over reloads.
    pub health: Arc<Health>,
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

    fn health_of(&self, key: &PoolKey) -> Option<Arc<Health>> {
        let mut endpoints = self.services.iter().flat_map(|service| &service.endpoints);
        endpoints.find(|endpoint| *endpoint.key == *key).map(|endpoint| Arc::clone(&endpoint.health))
    }
}

impl Service {
    fn build(settings: ServiceSettings, before: Option<&Upstreams>) -> Result<Self, UpstreamError> {
        let service = || settings.name.clone();
        if settings.endpoints.is_empty() {
            return Err(UpstreamError::NoEndpoint { service: service() });
        }
        let mut endpoints = Vec::with_capacity(settings.endpoints.len());
        for endpoint in &settings.endpoints {
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
                endpoint: endpoint.clone(),
                protocol: settings.protocol,
                tls: tls.as_ref().map(|tls| Arc::clone(&tls.fingerprint)),
            });
            let health = before.and_then(|before| before.health_of(&key)).unwrap_or_default();
            endpoints.push(Endpoint { label, health, key, tls });
        }
        Ok(Self {
            name: settings.name.as_str().into(),
            endpoints,
            eject: settings.eject,
            connections_max: settings.connections_per_core_max.max(1),
        })
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
        let pool = |service: &Service, endpoint: &Endpoint| {
            context.pools.get(&endpoint.key, endpoint.tls.as_ref(), service.connections_max)
        };
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

    /// Chooses an endpoint of a service; bit n of `tried` says that the n-th was.
    pub(crate) fn choose(&self, service: usize, tried: u64) -> Option<Chosen<'_>> {
        let (endpoints, pools) = (&self.shared.services.get(service)?.endpoints, self.pools.get(service)?);
        let now = self.context.ticker.now_ms();
        let candidate = |index: usize| Candidate {
            in_flight: pools.get(index).map_or(0, |pool| pool.in_flight.get()),
            ejected: endpoints.get(index).is_some_and(|endpoint| endpoint.health.is_ejected(now)),
            tried: tried & bit(index) != 0,
        };
        let index = balance::choose(endpoints.len(), candidate, &self.dice)?;
        let (service, endpoint) = (self.shared.services.get(service)?, endpoints.get(index)?);
        Some(Chosen { index, service, endpoint, pool: pools.get(index)?, ticker_now: now })
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
    ticker_now: u64,
}

impl Chosen<'_> {
    pub(crate) fn failed(&self) {
        if self.endpoint.health.failed(self.ticker_now, &self.service.eject) {
            tracing::warn!(
                service = &*self.service.name,
                endpoint = &*self.endpoint.label,
                seconds = self.service.eject.duration.as_secs(),
                "endpoint ejected"
            );
        }
    }

    pub(crate) fn succeeded(&self) {
        self.endpoint.health.succeeded();
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
