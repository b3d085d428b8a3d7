//! What services and their routes are configured with.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

#[cfg(doc)]
use super::Upstreams;
use super::balance::Balance;
use super::breaker::BreakerRule;
use super::budget::Budget;
use super::connection_limiter::ConnectionLimits;
use super::health::Eject;
use super::in_process::InProcessConnector;
use super::probe::ProbeRule;
use crate::forward::PathTemplate;
use crate::tls::ClientTls;

/// Says of each connection whether it may be opened, and then whether it may be used: of an address of this machine,
/// who listens there is not always whom is meant.
#[derive(Clone)]
pub struct DialCheck(Arc<Check>);

type Check = dyn Fn(SocketAddr, Option<SocketAddr>) -> Result<(), String> + Send + Sync;

impl DialCheck {
    /// Asks `check`, on the core's own thread: it waits for nothing. It is told the address, and our own end once there
    /// is a connection, of which nobody has been sent anything. Its error is why not, for the log.
    pub fn new(
        check: impl Fn(SocketAddr, Option<SocketAddr>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(check))
    }

    pub(crate) fn permits(&self, address: SocketAddr, own_end: Option<SocketAddr>) -> io::Result<()> {
        (self.0)(address, own_end).map_err(|why| io::Error::new(io::ErrorKind::PermissionDenied, why))
    }
}

impl fmt::Debug for DialCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DialCheck")
    }
}

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
    /// For everything, retries included; zero: no bound. Tunnels are outside of it.
    pub total: Duration,
    /// For a tunnel or an opaque connection as a whole; `None`: no bound.
    pub tunnel: Option<Duration>,
}

impl Default for Timeouts {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            connect: seconds(2),
            first_byte: seconds(30),
            idle: seconds(60),
            total: seconds(300),
            tunnel: None,
        }
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
    /// What the name was resolved to; `None`: it is resolved when a connection is opened.
    pub address: Option<IpAddr>,
}

impl EndpointSettings {
    /// The host as it stands in an authority: an IPv6 address in brackets (RFC 3986 §3.2.2).
    pub(crate) fn written_host(&self) -> String {
        if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() }
    }
}

/// A service as configured.
#[derive(Clone, Debug)]
pub struct ServiceSettings {
    /// Its name.
    pub name: String,
    /// Its endpoints; none: requests are answered with 503.
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
    pub connection_limits: ConnectionLimits,
    /// How long an HTTP/2 connection without streams is kept.
    pub idle: Duration,
    /// Whether connections begin with a PROXY protocol header of version 2. Then each
    /// carries the requests of one client's connection alone.
    pub proxy_protocol: bool,
    /// Says of each connection to an endpoint whether it may be opened and used; `None`: it may.
    pub dial_check: Option<DialCheck>,
    /// The way into a service that this process runs itself; every endpoint is reached
    /// through it, whatever its host says.
    pub in_process: Option<InProcessConnector>,
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
            connection_limits: ConnectionLimits::default(),
            idle: Timeouts::default().idle,
            proxy_protocol: false,
            dial_check: None,
            in_process: None,
        }
    }

    /// A service that this process runs itself, reached in process.
    pub fn in_process(name: &str, connector: InProcessConnector) -> Self {
        let host = format!("{name}.in-process");
        let endpoint = EndpointSettings { tls: false, host, port: 0, address: None };
        Self { in_process: Some(connector), protocol: Protocol::Http1, ..Self::new(name, vec![endpoint]) }
    }
}

/// How requests of one route go upstream.
#[derive(Clone, Debug)]
pub struct ForwardSettings {
    /// The service: its place in the list given to [`Upstreams::build`].
    pub service: usize,
    /// How requests are shared out among this and other services; empty: all go to
    /// `service`.
    pub splits: Vec<Split>,
    /// Who gets copies.
    pub mirror: Option<Mirror>,
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

/// One of the services that share the requests of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// The service.
    pub service: usize,
    /// Its share, compared with the other weights. 0: only by header.
    pub weight: u32,
    /// Requests that have all of these fields (lower-case name, value) go here, whatever
    /// the weights; none: by weight alone.
    pub headers: Vec<(Bytes, Bytes)>,
}

/// A service that gets copies of requests and whose answers are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The service.
    pub service: usize,
    /// Of how many of a hundred requests.
    pub percent: u32,
}

/// Why upstreams cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamError {
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
