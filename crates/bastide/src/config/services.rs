//! `services:`: the upstreams.

use std::path::PathBuf;
use std::time::Duration;

use super::decoder::{Decoder, Table};
use super::node::{Name, Node, Value};
use super::schema::{Section, key};
use super::values::{self, Unfit};
use super::{CertificateFiles, Resilience, resilience};

/// One upstream service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name, unique.
    pub name: String,
    /// Its endpoints, all TLS or all cleartext; none only where the registry says where it is, or
    /// where this process runs it.
    pub endpoints: Vec<Endpoint>,
    /// Whether it is where its own instances register; then it is one of the mesh.
    pub registry: bool,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// How TLS endpoints prove themselves; used only for them.
    pub tls: UpstreamTls,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// How often an idempotent request whose body was not consumed is tried again.
    pub retries: u32,
    /// How it bears that its endpoints fail.
    pub resilience: Resilience,
    /// Open connections to each endpoint from each core.
    pub connections_per_core_max: u32,
    /// `aud` of the identity token that it gets. Default: its name.
    pub audience: String,
    /// Whether its connections begin with a PROXY protocol header of version 2.
    pub proxy_protocol: bool,
    /// Whether this process runs it itself.
    pub in_process: bool,
}

impl Service {
    /// With everything else as it is by default.
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            endpoints: Vec::new(),
            registry: false,
            protocol: Protocol::Http1,
            tls: UpstreamTls::default(),
            timeouts: TIMEOUTS_DEFAULT,
            retries: 1,
            resilience: Resilience::default(),
            connections_per_core_max: 256,
            audience: name.to_owned(),
            proxy_protocol: false,
            in_process: false,
        }
    }

    /// One of the mesh, at these hosts and ports; none: where it registers.
    pub(super) fn of_mesh(name: &str, places: Vec<(String, u16)>, id: model::SpiffeId) -> Self {
        let endpoint = |(host, port)| Endpoint { tls: true, srv: false, host, port, weight: 1 };
        Self {
            registry: places.is_empty(),
            endpoints: places.into_iter().map(endpoint).collect(),
            protocol: Protocol::Negotiated,
            tls: UpstreamTls { mesh: Some(id), ..UpstreamTls::default() },
            ..Self::new(name)
        }
    }

    /// One that this process runs itself.
    pub(super) fn in_process(name: &str) -> Self {
        Self { in_process: true, retries: 0, ..Self::new(name) }
    }
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether it speaks TLS (`https`).
    pub tls: bool,
    /// Whether the host is a name of SRV records, which say host and port.
    pub srv: bool,
    /// Host name or address, lower case, without brackets.
    pub host: String,
    /// Port; 0 where SRV records say it.
    pub port: u16,
    /// Its share of the requests.
    pub weight: u32,
}

impl Endpoint {
    fn is_at(&self, other: &Self) -> bool {
        (self.tls, self.srv, &self.host, self.port) == (other.tls, other.srv, &other.host, other.port)
    }
}

/// What is spoken with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1
    Http1,
    /// HTTP/2, with prior knowledge on cleartext.
    Http2,
    /// What the TLS endpoint picks of both (ALPN).
    Negotiated,
}

/// How a TLS service proves itself, and we to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpstreamTls {
    /// PEM file of the authorities that may have issued its certificate; `None`: the
    /// public web's.
    pub authorities: Option<PathBuf>,
    /// The name that its certificate must carry; `None`: the endpoint's host.
    pub server_name: Option<String>,
    /// What we show it.
    pub client: Option<CertificateFiles>,
    /// The workload that it has to be; then we show our own certificate of the mesh.
    pub mesh: Option<model::SpiffeId>,
}

/// How long an exchange with an upstream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection is established, TLS included.
    pub connect: Duration,
    /// From the request's end to the response head.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// For the whole exchange; zero: no bound but the client's (`request_ms_max`).
    pub total: Duration,
    /// For an upgraded or an opaque connection as a whole; zero: no bound.
    pub tunnel: Duration,
}

pub(super) const SERVICE: Section = Section {
    path: "services.NAME",
    about: "One upstream service.",
    short: "its endpoints as a list: `orders: [ http://10.0.0.5:7001 ]`",
    keys: &[
        key(
            "endpoints",
            "list of http:// or https:// URLs without path, or of maps",
            "",
            "Where it runs. Requests are spread over them. A name stands for all its addresses and is resolved again when its TTL expires; `srv+http://NAME` resolves SRV records.",
        ),
        key(
            "protocol",
            "http1 or http2",
            "http1; what the endpoint picks with TLS",
            "What is spoken with it. gRPC needs http2.",
        ),
        key(
            "tls",
            "map",
            "the public web's authorities",
            "How https endpoints are verified, and how Bastide authenticates to them.",
        ),
        key("timeouts", "map", "see there", "Timeouts."),
        resilience::RETRIES,
        resilience::BALANCE,
        resilience::HEALTH_KEY,
        resilience::EJECT_KEY,
        resilience::BREAKER_KEY,
        resilience::RETRY_BUDGET_KEY,
        resilience::CONNECTIONS_PER_CORE_MAX,
        resilience::CONNECTIONS_MAX,
        resilience::WAITING_MAX,
        key("audience", "text", "the service's name", "`aud` of the identity token that it gets."),
        key(
            "proxy_protocol",
            "true or false",
            "false",
            "Begins connections with a PROXY protocol header of version 2. Each then carries only the requests of one client connection.",
        ),
    ],
};

pub(super) const ENDPOINT: Section = Section {
    path: "services.NAME.endpoints[]",
    about: "One endpoint.",
    short: "its URL as a text: `http://10.0.0.5:7001`",
    keys: &[
        key("url", "http:// or https:// URL without path", "", "Where it is."),
        key(
            "weight",
            "1 to 1000",
            "1",
            "Its share of the requests, compared with the other endpoints' weights.",
        ),
    ],
};

pub(super) const TLS: Section = Section {
    path: "services.NAME.tls",
    about: "How a TLS service is verified, which it always is.",
    short: "",
    keys: &[
        key(
            "ca",
            "path",
            "the public web's authorities",
            "PEM file of the authorities that may have issued its certificate.",
        ),
        key("server_name", "host name", "the endpoint's host", "The name that its certificate must carry."),
        key("client", "map with cert and key", "none", "The certificate that Bastide presents."),
    ],
};

pub(super) const TIMEOUTS: Section = Section {
    path: "services.NAME.timeouts",
    about: "How long an exchange may take; also in a route, where each key overrides the service's.",
    short: "",
    keys: &[
        key("connect", "duration", "2s", "Until the connection is established, TLS included."),
        key("first_byte", "duration", "30s", "From the end of the request to the head of the response."),
        key("idle", "duration", "60s", "Between two pieces of a body."),
        key(
            "total",
            "duration; 0s: no bound",
            "300s",
            "For the whole exchange, which `limits.request_ms_max` bounds as well. Upgraded and opaque connections are bounded by `idle` and `tunnel` instead.",
        ),
        key("tunnel", "duration; 0s: no bound", "0s", "For an upgraded or an opaque connection as a whole."),
    ],
};

/// What counts when nothing is written.
pub(super) const TIMEOUTS_DEFAULT: Timeouts = Timeouts {
    connect: Duration::from_secs(2),
    first_byte: Duration::from_secs(30),
    idle: Duration::from_secs(60),
    total: Duration::from_secs(300),
    tunnel: Duration::ZERO,
};

fn endpoint(text: &str) -> Result<Endpoint, Unfit> {
    const EXPECTED: &str = "an endpoint such as http://10.0.0.5:7001 or https://pay.internal:8443";
    let unfit = |instead: Option<String>| Unfit { expected: EXPECTED, instead };
    let Some((scheme, rest)) = text.split_once("://") else {
        let digits = text.strip_prefix(':').unwrap_or(text);
        let meant = match digits.parse::<u16>() {
            Ok(port) => format!("http://127.0.0.1:{port}"),
            Err(_) => format!("http://{text}"),
        };
        return Err(unfit(Some(meant).filter(|text| endpoint(text).is_ok())));
    };
    let (tls, srv) = match scheme {
        "http" => (false, false),
        "https" => (true, false),
        "srv+http" => (false, true),
        "srv+https" => (true, true),
        _ => return Err(unfit(None)),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '@', '?', '#', '\\']) {
        let host = rest.rsplit('@').next().unwrap_or_default();
        let bare = host.split(['/', '@', '?', '#', '\\']).next().unwrap_or_default();
        let has_path =
            bare.len() < host.len() && host.get(bare.len()..).is_some_and(|rest| rest.starts_with('/'));
        let expected = match has_path && bare == rest.split('/').next().unwrap_or_default() {
            true => "an endpoint without path: a route puts one before its own with add_prefix",
            false => "an endpoint without user, path and query",
        };
        return Err(Unfit {
            expected,
            instead: Some(format!("{scheme}://{bare}")).filter(|text| endpoint(text).is_ok()),
        });
    }
    if srv {
        let named = rest.starts_with('_') && rest.contains("._tcp.");
        let expected = "a name of SRV records such as srv+http://_orders._tcp.example.org";
        let host = values::host(rest).ok().filter(|_| named).ok_or(Unfit { expected, instead: None })?;
        return Ok(Endpoint { tls, srv, host, port: 0, weight: 1 });
    }
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().ok().filter(|port| *port > 0).ok_or(unfit(None))?)
        }
        _ => (rest, if tls { 443 } else { 80 }),
    };
    let host = values::host(host).map_err(|_| unfit(None))?;
    Ok(Endpoint { tls, srv, host, port, weight: 1 })
}

impl Decoder<'_> {
    /// `services:`
    pub(super) fn services(&mut self, node: Option<&Node>) -> Vec<Service> {
        let Some(node) = node else { return Vec::new() };
        let mut services = Vec::new();
        for (name, node) in self.named(node, "a map of service names") {
            if let Err(unfit) = values::name(&name.text) {
                self.fault(name.at, format!("expected {}, found {:?}", unfit.expected, name.text));
            }
            services.push(self.service(name, node));
        }
        services
    }

    fn service(&mut self, name: &Name, node: &Node) -> Service {
        let mut service = Service::new(&name.text);
        let endpoints = match &node.value {
            Value::Map(_) => match self.table(node, &SERVICE) {
                Some(table) => {
                    self.service_settings(&table, &mut service);
                    self.required(&table, "endpoints")
                }
                None => None,
            },
            _ => Some(node),
        };
        let Some(endpoints) = endpoints else { return service };
        for item in endpoints.items() {
            let Some((endpoint, written)) = self.endpoint(item) else { continue };
            if service.endpoints.iter().any(|other| other.is_at(&endpoint)) {
                self.advise(
                    item.at,
                    format!("endpoint {} is there twice", written.shown()),
                    "give it a weight instead",
                );
            } else if service.endpoints.first().is_some_and(|first| first.tls != endpoint.tls) {
                self.fault(item.at, "the endpoints of a service are all http or all https");
            }
            service.endpoints.push(endpoint);
        }
        // Whoever answers for DNS could name any target; its certificate must not be
        // checked against that target's own name alone.
        if service.tls.server_name.is_none() && service.endpoints.iter().any(|e| e.srv && e.tls) {
            self.advise(
                endpoints.at,
                "a certificate of a srv+https endpoint cannot be checked against what DNS says",
                "set tls.server_name",
            );
        }
        if endpoints.items().is_empty() {
            self.fault(endpoints.at, format!("service {:?} has no endpoint", service.name));
        }
        self.service_protocol(node, &mut service);
        service
    }

    /// An endpoint, and the node of its URL.
    fn endpoint<'n>(&mut self, node: &'n Node) -> Option<(Endpoint, &'n Node)> {
        if !matches!(node.value, Value::Map(_)) {
            return Some((self.value(node, endpoint)?, node));
        }
        let table = self.table(node, &ENDPOINT)?;
        let url = self.required(&table, "url")?;
        let weight = table.get("weight").and_then(|node| self.number(node, 1, 1_000)).unwrap_or(1);
        Some((Endpoint { weight, ..self.value(url, endpoint)? }, url))
    }

    /// What follows from the endpoints' scheme.
    fn service_protocol(&mut self, node: &Node, service: &mut Service) {
        let tls = service.endpoints.first().is_some_and(|endpoint| endpoint.tls);
        let Value::Map(entries) = &node.value else {
            service.protocol = if tls { Protocol::Negotiated } else { Protocol::Http1 };
            return;
        };
        if tls && !entries.iter().any(|(name, _)| name.text == "protocol") {
            service.protocol = Protocol::Negotiated;
        }
        if let Some((name, _)) = entries.iter().find(|(name, _)| name.text == "tls")
            && !tls
            && !service.endpoints.is_empty()
        {
            self.advise(name.at, "tls is set, but the endpoints are http", "write https:// endpoints");
        }
    }

    fn service_settings(&mut self, table: &Table<'_>, service: &mut Service) {
        let protocols = [("http1", Protocol::Http1), ("http2", Protocol::Http2)];
        let protocol = table.get("protocol").and_then(|node| self.word(node, "protocol", &protocols));
        service.protocol = protocol.unwrap_or(service.protocol);
        if let Some(tls) = table.get("tls").and_then(|node| self.table(node, &TLS)) {
            service.tls.authorities = tls.get("ca").and_then(|node| self.authorities(node));
            service.tls.server_name = tls.get("server_name").and_then(|node| self.value(node, values::host));
            service.tls.client = tls.get("client").and_then(|node| self.certificate(node));
        }
        service.timeouts = self.timeouts(table.get("timeouts"), service.timeouts);
        self.bears(table, service);
        let header = table.get("proxy_protocol").and_then(|node| self.boolean(node));
        service.proxy_protocol = header.unwrap_or(false);
        let audience = table.get("audience").and_then(|node| self.value(node, values::name));
        service.audience = audience.unwrap_or_else(|| service.audience.clone());
    }

    /// How it bears that its endpoints fail or are busy: what services of the mesh have too.
    pub(super) fn bears(&mut self, table: &Table<'_>, service: &mut Service) {
        let retries = table.get("retries").and_then(|node| self.number(node, 0, 5));
        service.retries = retries.unwrap_or(service.retries);
        service.resilience = self.resilience(table);
        let connections = table.get("connections_per_core_max").and_then(|node| self.number(node, 1, 65_536));
        service.connections_per_core_max = connections.unwrap_or(service.connections_per_core_max);
    }

    /// `timeouts:` put over `base`.
    pub(super) fn timeouts(&mut self, node: Option<&Node>, base: Timeouts) -> Timeouts {
        let Some(table) = node.and_then(|node| self.table(node, &TIMEOUTS)) else { return base };
        let least = Duration::from_millis(1);
        let mut read = |key: &str, least: Duration, base: Duration| {
            table.get(key).and_then(|node| self.duration(node, least)).unwrap_or(base)
        };
        Timeouts {
            connect: read("connect", least, base.connect),
            first_byte: read("first_byte", least, base.first_byte),
            idle: read("idle", least, base.idle),
            total: read("total", Duration::ZERO, base.total),
            tunnel: read("tunnel", Duration::ZERO, base.tunnel),
        }
    }
}
