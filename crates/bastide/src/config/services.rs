//! `services:`: the upstreams.

use std::path::PathBuf;
use std::time::Duration;

use super::CertificateFiles;

/// One upstream service.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    /// Its name, unique.
    pub name: String,
    /// Its endpoints, at least one, all TLS or all cleartext.
    pub endpoints: Vec<Endpoint>,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// How TLS endpoints prove themselves; used only for them.
    pub tls: UpstreamTls,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How often an idempotent request whose body was not consumed is tried again.
    pub retries: u32,
    /// When an endpoint is left out for a while; `None`: never.
    pub eject: Option<Ejection>,
    /// Open connections to each endpoint from each core.
    pub connections_per_core_max: u32,
    /// `aud` of the identity token that it gets. Default: its name.
    pub audience: String,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// Whether it speaks TLS (`https`).
    pub tls: bool,
    /// Host name or address, lower case, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
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
}

/// How long an exchange with an upstream may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Until the connection stands, TLS included.
    pub connect: Duration,
    /// From the request's end to the response head.
    pub first_byte: Duration,
    /// Between two pieces of a body.
    pub idle: Duration,
    /// For the whole exchange; zero: no bound (upgraded connections, event streams).
    pub total: Duration,
}

/// Passive ejection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failures in a row that eject an endpoint.
    pub failures: u32,
    /// For how long.
    pub duration: Duration,
}
