//! Active health checks: one prober, on the control plane, asks each endpoint whether
//! it is well; the cores read the answer from the endpoint's [`Health`].
//!
//! A [`Probe`] is not a client's request and never takes its way: it is made from the
//! configuration alone, goes to the endpoint that it is about and nowhere else, follows
//! nothing, sends nothing of any client, and reads a bounded answer within a bounded
//! time.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, StatusCode, Version};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::balance::FastRandom;
use super::dial::{self, DialError};
use super::health::{Health, Probed};
use super::pool::PoolKey;
use super::{Protocol, Service, Upstreams};
use crate::http1::response::{Asked, Reader};
use crate::limits::Limits;
use crate::link::{Link, Wire};
use crate::tls::{ClientTls, Offer};

/// Probes under way at the same time, over all services.
const PROBES_AT_ONCE_MAX: usize = 128;
/// Most bytes of body that an answer to a gRPC probe may have.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeKind {
    /// `GET` of a path; a status in the range is good.
    Http {
        /// The path, with query.
        path: String,
        /// The `Host`; `None`: the endpoint's.
        host: Option<String>,
        /// Good statuses.
        statuses: RangeInclusive<u16>,
    },
    /// `grpc.health.v1.Health/Check` of a service (empty: the server as a whole);
    /// `SERVING` is good.
    Grpc {
        /// The name.
        service: String,
    },
    /// A connection, with its TLS handshake, is good.
    Tcp,
}

/// How an endpoint is probed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRule {
    /// What is asked.
    pub kind: ProbeKind,
    /// From the end of one probe to the next.
    pub interval: Duration,
    /// The interval is longer or shorter by up to so many percent, so that probes of
    /// many endpoints do not fall together.
    pub jitter_percent: u32,
    /// How long an answer may take, connection included.
    pub timeout: Duration,
    /// Good probes in a row that bring an endpoint back.
    pub up_after: u32,
    /// Bad probes in a row that take it out. The very first probe decides alone.
    pub down_after: u32,
}

/// Why a probe went badly.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFault {
    /// No connection.
    #[error("{0}")]
    Connect(DialError),
    /// The connection broke, or the answer is not HTTP.
    #[error("no answer: {0}")]
    Answer(String),
    /// A status out of the range.
    #[error("status {0}")]
    Status(StatusCode),
    /// The gRPC health service does not say `SERVING`.
    #[error("not serving: {0}")]
    NotServing(String),
    /// Its time was over.
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// One endpoint, as the prober sees it.
#[derive(Clone, Debug)]
pub struct Probe {
    label: Arc<str>,
    /// Its service and endpoint, and how it is spoken to.
    key: Arc<PoolKey>,
    tls: Option<ClientTls>,
    health: Arc<Health>,
    rule: Arc<ProbeRule>,
}

impl Service {
    /// The probes of its endpoints; none when it has no active health check.
    pub fn probes(&self) -> impl Iterator<Item = Probe> {
        let rule = self.probe.clone().map(Arc::new);
        self.endpoints.iter().filter_map(move |endpoint| {
            Some(Probe {
                label: Arc::clone(&endpoint.label),
                key: Arc::clone(&endpoint.key),
                tls: endpoint.tls.clone(),
                health: Arc::clone(&endpoint.health),
                rule: Arc::clone(rule.as_ref()?),
            })
        })
    }
}

/// Probes the endpoints of the snapshots, of one after the other.
#[derive(Debug)]
pub struct Prober {
    at_once: Arc<Semaphore>,
    /// By service.
    running: HashMap<Arc<str>, Vec<Running>>,
}

/// A probe that is made again and again, until this is dropped.
#[derive(Debug)]
struct Running {
    probe: Probe,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Default for Prober {
    fn default() -> Self {
        Self { at_once: Arc::new(Semaphore::new(PROBES_AT_ONCE_MAX)), running: HashMap::new() }
    }
}

impl Prober {
    /// Probes the endpoints of this snapshot from now on. Those that are probed alike already go on:
    /// however often snapshots follow each other, each probe comes to its end.
    ///
    /// Must be called on a runtime, which the probes run on.
    pub fn follow(&mut self, upstreams: &Upstreams) {
        let mut before = std::mem::take(&mut self.running);
        for service in upstreams.services() {
            if service.probe.is_none() {
                service.endpoints.iter().for_each(|endpoint| endpoint.health.probes_stopped());
            }
            let mut same_service = before.remove(&service.name).unwrap_or_default();
            let running = service.probes().map(|probe| {
                match same_service.iter().position(|running| running.probe.is_like(&probe)) {
                    Some(place) => same_service.swap_remove(place),
                    None => {
                        let task = tokio::spawn(probe.clone().keep(Arc::clone(&self.at_once)));
                        Running { probe, task }
                    }
                }
            });
            let running = running.collect();
            self.running.insert(Arc::clone(&service.name), running);
        }
    }
}

impl Probe {
    /// Whether both ask the same of the same endpoint in the same way.
    fn is_like(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.health, &other.health) && self.key == other.key && self.rule == other.rule
    }

    async fn keep(self, at_once: Arc<Semaphore>) {
        let random = FastRandom::new(RandomState::new().hash_one(&*self.label));
        let interval = self.rule.interval;
        // Not all at the same moment after a start, and not late either.
        tokio::time::sleep(spread(interval.min(Duration::from_secs(1)) / 10, 100, &random)).await;
        loop {
            {
                let Ok(_one) = at_once.acquire().await else { return };
                self.once().await;
            }
            tokio::time::sleep(spread(interval, self.rule.jitter_percent, &random)).await;
        }
    }

    /// Asks once and notes the answer.
    async fn once(&self) {
        let result = self.run().await;
        let changed = self.health.probe_ended(result.is_ok(), self.rule.up_after, self.rule.down_after);
        let (service, endpoint) = (&*self.key.service, &*self.label);
        match (changed, result) {
            (Some(Probed::Up), _) => tracing::info!(service, endpoint, "health check: up"),
            (Some(_), Err(fault)) => tracing::warn!(service, endpoint, %fault, "health check: down"),
            (None, Err(fault)) => tracing::debug!(service, endpoint, %fault, "health check failed"),
            _ => {}
        }
    }

    /// Asks once.
    ///
    /// # Errors
    /// The endpoint is not well, and why.
    pub async fn run(&self) -> Result<(), ProbeFault> {
        let asked = async {
            match &self.rule.kind {
                ProbeKind::Tcp => self.link(Offer::Both).await.map(|_| ()),
                ProbeKind::Grpc { service } => self.grpc(service).await,
                ProbeKind::Http { path, host, statuses } => {
                    let status = self.http(path, host.as_deref()).await?;
                    if statuses.contains(&status.as_u16()) { Ok(()) } else { Err(ProbeFault::Status(status)) }
                }
            }
        };
        let limit = self.rule.timeout;
        tokio::time::timeout(limit, asked).await.unwrap_or(Err(ProbeFault::Timeout(limit)))
    }

    async fn link(&self, offer: Offer) -> Result<Link, ProbeFault> {
        let endpoint = &self.key.endpoint;
        let (host, port) = (&endpoint.host, endpoint.port);
        let name = |source| ProbeFault::Connect(DialError::Name { host: host.clone(), source });
        let addresses: Vec<_> = match endpoint.address {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => tokio::net::lookup_host((host.as_str(), port)).await.map_err(name)?.collect(),
        };
        let failed = |error| ProbeFault::Connect(DialError::Connect(error));
        let mut socket = dial::connect(&addresses).await.map_err(failed)?;
        if self.key.proxy_protocol {
            dial::send_proxy_header(&mut socket, None).await.map_err(failed)?;
        }
        let Some(tls) = &self.tls else { return Ok(Link::Plain(socket)) };
        let name = match &tls.server_name {
            Some(name) => name.clone(),
            None => dial::server_name(host).map_err(ProbeFault::Connect)?,
        };
        let failed = |error| ProbeFault::Connect(DialError::Tls(error));
        Ok(Link::TlsClient(Box::new(
            crate::tls::connect(tls.config(offer), name, socket).await.map_err(failed)?,
        )))
    }

    fn authority(&self) -> String {
        let endpoint = &self.key.endpoint;
        format!("{}:{}", endpoint.written_host(), endpoint.port)
    }

    async fn http(&self, path: &str, host: Option<&str>) -> Result<StatusCode, ProbeFault> {
        let host = host.map_or_else(|| self.authority(), str::to_owned);
        if self.key.protocol == Protocol::Http2 {
            let request = self.request2(Method::GET, path, &host).map_err(answer)?;
            return Ok(self.ask2(request, None).await?.0);
        }
        let mut wire = Wire::new(self.link(Offer::Http1).await?);
        let request = format!(
            "GET {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: bastide-probe\r\naccept: */*\r\nconnection: close\r\n\r\n"
        );
        wire.output().extend_from_slice(request.as_bytes());
        std::future::poll_fn(|cx| wire.poll_flush(cx)).await.map_err(answer)?;
        let limits = Limits::default();
        let asked = Asked { method: &Method::GET, upgrade: None };
        let (mut reader, mut interim) = (Reader::new(), 0);
        loop {
            match reader.read(&mut wire.input, &limits, asked).map_err(answer)? {
                Some(found) if found.head.status.is_informational() => {
                    interim += 1;
                    if interim > limits.interim_responses_max {
                        return Err(answer("too many interim responses"));
                    }
                }
                Some(found) => return Ok(found.head.status),
                None => {
                    if std::future::poll_fn(|cx| wire.poll_fill(cx)).await.map_err(answer)? == 0 {
                        return Err(answer("the connection ended within the head"));
                    }
                }
            }
        }
    }

    fn request2(&self, method: Method, path: &str, host: &str) -> Result<Request<()>, http::Error> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let uri = http::Uri::builder().scheme(scheme).authority(host).path_and_query(path).build()?;
        let request = Request::builder().method(method).uri(uri).version(Version::HTTP_2);
        request.header("user-agent", "bastide-probe").body(())
    }

    /// Asks over HTTP/2: the status, and with a body of our own also the answer's body
    /// and trailers.
    async fn ask2(
        &self,
        request: Request<()>,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, BytesMut, HeaderMap), ProbeFault> {
        let link = self.link(Offer::Http2).await?;
        let (send, connection) = h2::client::handshake(link).await.map_err(answer)?;
        let exchange = async move {
            let mut send = send.ready().await?;
            let (response, mut stream) = send.send_request(request, body.is_none())?;
            let reads_body = body.is_some();
            if let Some(body) = body {
                stream.send_data(body, true)?;
            }
            let (head, mut answer) = response.await?.into_parts();
            let (mut bytes, mut trailers) = (BytesMut::new(), HeaderMap::new());
            if reads_body {
                while let Some(piece) = answer.data().await {
                    let piece = piece?;
                    answer.flow_control().release_capacity(piece.len())?;
                    bytes.extend_from_slice(&piece);
                    if bytes.len() > ANSWER_BYTES_MAX {
                        return Err(h2::Reason::ENHANCE_YOUR_CALM.into());
                    }
                }
                trailers = answer.trailers().await?.unwrap_or_else(|| head.headers.clone());
            }
            Ok::<_, h2::Error>((head.status, bytes, trailers))
        };
        // The answer may arrive in the moment in which the server closes.
        let (mut connection, mut exchange) = (std::pin::pin!(connection), std::pin::pin!(exchange));
        let mut over = false;
        std::future::poll_fn(|cx| {
            if !over {
                over = connection.as_mut().poll(cx).is_ready();
            }
            exchange.as_mut().poll(cx)
        })
        .await
        .map_err(answer)
    }

    async fn grpc(&self, service: &str) -> Result<(), ProbeFault> {
        let path = "/grpc.health.v1.Health/Check";
        let mut request = self.request2(Method::POST, path, &self.authority()).map_err(answer)?;
        let fields = request.headers_mut();
        fields.insert("content-type", http::HeaderValue::from_static("application/grpc"));
        fields.insert("te", http::HeaderValue::from_static("trailers"));
        let (status, body, trailers) = self.ask2(request, Some(health_request(service))).await?;
        if status != StatusCode::OK {
            return Err(ProbeFault::Status(status));
        }
        match trailers.get("grpc-status").map(http::HeaderValue::as_bytes) {
            Some(b"0") => {}
            Some(code) => {
                let code = String::from_utf8_lossy(code).into_owned();
                return Err(ProbeFault::NotServing(format!("grpc-status {code}")));
            }
            None => return Err(answer("no grpc-status")),
        }
        match health_response(&body) {
            Some(1) => Ok(()),
            Some(other) => Err(ProbeFault::NotServing(format!("status {other}"))),
            None => Err(answer("not a HealthCheckResponse")),
        }
    }
}

fn answer(error: impl ToString) -> ProbeFault {
    ProbeFault::Answer(error.to_string())
}

/// A duration that is longer or shorter by up to so many percent.
fn spread(around: Duration, percent: u32, random: &FastRandom) -> Duration {
    let width = around.saturating_mul(percent.min(100)) / 100;
    let range = usize::try_from(width.as_millis().saturating_mul(2)).unwrap_or(usize::MAX - 1);
    (around - width).saturating_add(Duration::from_millis(random.below(range + 1) as u64))
}

/// A gRPC message (a flag, a length, then protobuf) of `HealthCheckRequest`: field 1 is
/// the service.
fn health_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        message.push(0x0a);
        let mut length = service.len();
        while length >= 0x80 {
            message.push((length & 0x7f) as u8 | 0x80);
            length >>= 7;
        }
        message.push((length & 0x7f) as u8);
        message.extend_from_slice(service.as_bytes());
    }
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes());
    framed.extend_from_slice(&message);
    framed.into()
}

/// `status` of a framed `HealthCheckResponse`: field 1, a varint, 0 when it is absent.
/// Unknown fields are passed over, as protobuf says.
fn health_response(framed: &[u8]) -> Option<u64> {
    let (&[flag, a, b, c, d], mut rest) = framed.split_first_chunk::<5>()?;
    if flag != 0 || u32::from_be_bytes([a, b, c, d]) as usize != rest.len() {
        return None;
    }
    let mut status = 0;
    while !rest.is_empty() {
        let (tag, value);
        (tag, rest) = varint(rest)?;
        let skip = match tag & 7 {
            0 => {
                (value, rest) = varint(rest)?;
                if tag >> 3 == 1 {
                    status = value;
                }
                0
            }
            1 => 8,
            2 => {
                (value, rest) = varint(rest)?;
                usize::try_from(value).ok()?
            }
            5 => 4,
            _ => return None,
        };
        rest = rest.get(skip..)?;
    }
    Some(status)
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (place, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f).checked_shl(u32::try_from(place * 7).ok()?)?;
        if byte & 0x80 == 0 {
            return Some((value, bytes.get(place + 1..)?));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn health_messages_are_written_and_read_as_protobuf_says() {
        assert_eq!(&health_request("")[..], [0, 0, 0, 0, 0]);
        assert_eq!(&health_request("ab")[..], [0, 0, 0, 0, 4, 0x0a, 2, b'a', b'b']);
        let long = "x".repeat(300);
        assert_eq!(&health_request(&long)[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        let table: [(&[u8], Option<u64>); 9] = [
            (&[0, 0, 0, 0, 2, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 2, 8, 2], Some(2)),
            (&[0, 0, 0, 0, 0], Some(0)),
            // Unknown fields before it: a text, a fixed64, a fixed32.
            (&[0, 0, 0, 0, 6, 0x12, 2, 8, 9, 8, 1], Some(1)),
            (&[0, 0, 0, 0, 7, 0x15, 1, 1, 1, 1, 8, 1], Some(1)),
            (&[1, 0, 0, 0, 2, 8, 1], None),
            (&[0, 0, 0, 0, 3, 8, 1], None),
            (&[0, 0, 0, 0, 2, 8, 0x80], None),
            (&[0, 0, 0, 0, 2, 0x12, 9], None),
        ];
        for (bytes, status) in table {
            assert_eq!(health_response(bytes), status, "{bytes:?}");
        }
    }

    #[test]
    fn intervals_are_spread_within_their_percent() {
        let random = FastRandom::new(3);
        let around = Duration::from_millis(1000);
        let all: Vec<Duration> = (0..500).map(|_| spread(around, 10, &random)).collect();
        let (least, most) = (all.iter().min().unwrap(), all.iter().max().unwrap());
        assert!(*least >= Duration::from_millis(900) && *least < Duration::from_millis(920), "{least:?}");
        assert!(*most <= Duration::from_millis(1100) && *most > Duration::from_millis(1080), "{most:?}");
        assert_eq!(spread(around, 0, &random), around);
    }

    proptest! {
        #[test]
        fn fuzz_smoke_health_response_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = health_response(&bytes);
            let mut framed = vec![0];
            framed.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
            framed.extend_from_slice(&bytes);
            let _ = health_response(&framed);
        }
    }
}
