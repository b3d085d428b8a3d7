//! The one guarded client that is no forwarded request: signing keys and discovery
//! documents ([`fetch()`]), the orders of certificates, telemetry and events ([`send()`],
//! [`open()`]). Whoever can make us fetch an address of their choice must not reach what
//! only we can reach (server-side request forgery), so every target is checked on the
//! address that is connected to, after its name was resolved, and again at every redirect.
//!
//! What it must never do: follow from https to http, send credentials to a place that it
//! was redirected to, connect to an address that was not checked, read more than its
//! limits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::uri::Scheme;
use http::{HeaderMap, Method, StatusCode, Uri};
use rustls::pki_types::ServerName;

use crate::exchange::{BodyError, Frame};
use crate::head::{Fields, ResponseHead};
use crate::http1::body::Decoder;
use crate::http1::response::{Asked, Reader};
use crate::limits::Limits;
use crate::link::{Link, Wire};
use crate::tls::{ClientTls, Offer};

mod stream;

pub use stream::{Stream, open, resolve};

/// What a fetch may do.
#[derive(Clone, Debug)]
pub struct FetchRules {
    /// Whether loopback, link-local, private and other special addresses may be
    /// connected to, and cleartext http may be used.
    pub allow_private_addresses: bool,
    /// Most bytes of body.
    pub body_bytes_max: u64,
    /// For everything, redirects included.
    pub timeout: Duration,
    /// Most redirects that are followed.
    pub redirects_max: u32,
    /// Whom we trust.
    pub tls: ClientTls,
}

impl FetchRules {
    /// 1 MiB, ten seconds, three redirects, public addresses and https only.
    pub fn new(tls: ClientTls) -> Self {
        Self {
            allow_private_addresses: false,
            body_bytes_max: 1024 * 1024,
            timeout: Duration::from_secs(10),
            redirects_max: 3,
            tls,
        }
    }
}

/// What was fetched: always with status 200.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// The body, whole and decoded from its transfer coding; at most `FetchRules::body_bytes_max`.
    pub body: Bytes,
    /// The value of `Cache-Control`, when there is one.
    pub cache_control: Option<String>,
}

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Not an address that can be fetched.
    #[error("{url}: expected an https address like https://id.example.org/keys, {found}")]
    Url {
        /// The address, as it was configured or as a redirect named it.
        url: String,
        /// What is wrong with it.
        found: &'static str,
    },
    /// It resolves only to addresses that must not be reached.
    #[error(
        "{host} is at {address}, which is not a public address; set allow_private_addresses there if that is intended"
    )]
    Private {
        /// The host of the address, of a redirect's too.
        host: String,
        /// Where it is.
        address: IpAddr,
    },
    /// No connection.
    #[error("cannot connect to {host}: {source}")]
    Connect {
        /// The host of the address, of a redirect's too.
        host: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server's answer breaks the rules or is incomplete.
    #[error("{host} answered something that is not HTTP as it should be: {found}")]
    Response {
        /// The host of the address, of a redirect's too.
        host: String,
        /// What was wrong.
        found: String,
    },
    /// The server's answer is no success.
    #[error("{host} answered with status {status}, expected 200")]
    Status {
        /// The host of the address, of a redirect's too.
        host: String,
        /// The status.
        status: StatusCode,
    },
    /// Larger than allowed.
    #[error("{host} sent more than {limit} bytes")]
    TooLarge {
        /// The host of the address, of a redirect's too.
        host: String,
        /// The most that the rules allow, bytes of the body.
        limit: u64,
    },
    /// Too many redirects.
    #[error("more than {limit} redirects")]
    Redirects {
        /// How many the rules allow.
        limit: u32,
    },
    /// Its time was over.
    #[error("{url} took longer than {seconds} seconds")]
    Timeout {
        /// The address that the fetch began with.
        url: String,
        /// The time that the rules allow for everything, redirects included.
        seconds: u64,
    },
}

/// Fetches a document with GET.
///
/// # Errors
/// See [`FetchError`]; nothing of an answer that breaks a rule is given out.
pub async fn fetch(url: &str, rules: &FetchRules) -> Result<Fetched, FetchError> {
    let all = async {
        let mut target = Target::parse(url, rules)?;
        for _ in 0..=rules.redirects_max {
            match once(&target, rules).await? {
                Answer::Document(fetched) => return Ok(fetched),
                Answer::Elsewhere(location) => target = target.follow(&location, rules)?,
            }
        }
        Err(FetchError::Redirects { limit: rules.redirects_max })
    };
    within(url, rules, all).await
}

/// A request that is more than a fetch.
#[derive(Clone, Debug)]
pub struct Outgoing<'r> {
    /// Its method.
    pub method: Method,
    /// The absolute address.
    pub url: &'r str,
    /// Its fields, except for `host`, `connection` and `content-length`.
    pub fields: &'r HeaderMap,
    /// Its body; empty: none, and no `content-length` is sent.
    pub body: &'r [u8],
}

/// What was answered, with whatever status.
#[derive(Debug)]
pub struct Reply {
    /// The status of the final response, whatever it is.
    pub status: StatusCode,
    /// All fields.
    pub fields: Fields,
    /// The whole body, without its transfer coding.
    pub body: Bytes,
}

/// Sends one request and gives the answer as it is. Redirects are answers too: nothing
/// is followed.
///
/// # Errors
/// See [`FetchError`]; nothing of an answer that breaks a rule is given out.
pub async fn send(request: &Outgoing<'_>, rules: &FetchRules) -> Result<Reply, FetchError> {
    let all = async {
        let target = Target::parse(request.url, rules)?;
        let mut text = format!("{} {} HTTP/1.1\r\n", request.method, target.path).into_bytes();
        for (name, value) in request.fields {
            text.extend_from_slice(name.as_str().as_bytes());
            text.extend_from_slice(b": ");
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b"\r\n");
        }
        if !request.body.is_empty() {
            text.extend_from_slice(format!("content-length: {}\r\n", request.body.len()).as_bytes());
        }
        let host = target.authority();
        text.extend_from_slice(format!("host: {host}\r\nconnection: close\r\n\r\n").as_bytes());
        text.extend_from_slice(request.body);
        let (mut wire, head) = ask(&target, &request.method, &text, rules).await?;
        let body = body_of(&mut wire, &head, &target, rules).await?;
        Ok(Reply { status: head.status, fields: head.fields, body })
    };
    within(request.url, rules, all).await
}

async fn within<T>(
    url: &str,
    rules: &FetchRules,
    all: impl Future<Output = Result<T, FetchError>>,
) -> Result<T, FetchError> {
    tokio::time::timeout(rules.timeout, all).await.unwrap_or_else(|_| {
        Err(FetchError::Timeout { url: url.to_owned(), seconds: rules.timeout.as_secs() })
    })
}

/// Where to fetch from.
#[derive(Debug, PartialEq)]
struct Target {
    https: bool,
    host: String,
    port: u16,
    path: String,
}

impl Target {
    fn parse(url: &str, rules: &FetchRules) -> Result<Self, FetchError> {
        let bad = |found| FetchError::Url { url: url.to_owned(), found };
        let uri: Uri = url.parse().map_err(|_| bad("found something that is no address"))?;
        let https = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP => false,
            _ => return Err(bad("found another scheme")),
        };
        if !https && !rules.allow_private_addresses {
            return Err(bad("found http, which anybody on the way can change"));
        }
        let authority = uri.authority().ok_or_else(|| bad("found no host"))?;
        if authority.as_str().contains('@') {
            return Err(bad("found user information in it"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
        if host.is_empty() {
            return Err(bad("found no host"));
        }
        let port = authority.port_u16().unwrap_or(if https { 443 } else { 80 });
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { https, host, port, path })
    }

    /// Where a redirect leads. The new target is checked like the first.
    fn follow(&self, location: &str, rules: &FetchRules) -> Result<Self, FetchError> {
        if location.starts_with('/') && !location.starts_with("//") {
            let path = location.split('#').next().unwrap_or_default().to_owned();
            if path.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
                return Err(FetchError::Url { url: location.to_owned(), found: "found a blank in it" });
            }
            return Ok(Self { https: self.https, host: self.host.clone(), port: self.port, path });
        }
        let next = Self::parse(location, rules)?;
        if self.https && !next.https {
            let found = "found a redirect from https to http";
            return Err(FetchError::Url { url: location.to_owned(), found });
        }
        Ok(next)
    }

    fn broke(&self, found: String) -> FetchError {
        FetchError::Response { host: self.host.clone(), found }
    }

    fn authority(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        match (self.https, self.port) {
            (true, 443) | (false, 80) => host,
            _ => format!("{host}:{}", self.port),
        }
    }
}

enum Answer {
    Document(Fetched),
    Elsewhere(String),
}

async fn once(target: &Target, rules: &FetchRules) -> Result<Answer, FetchError> {
    let request = format!(
        "GET {} HTTP/1.1\r\nhost: {}\r\naccept: application/json\r\nuser-agent: bastide\r\nconnection: close\r\n\r\n",
        target.path,
        target.authority()
    );
    let (mut wire, head) = ask(target, &Method::GET, request.as_bytes(), rules).await?;
    match head.status.as_u16() {
        200 => {}
        301 | 302 | 303 | 307 | 308 => {
            let location = head.fields.named(b"location").next().and_then(|value| str::from_utf8(value).ok());
            return location
                .map(|location| Answer::Elsewhere(location.to_owned()))
                .ok_or_else(|| target.broke("a redirect without a location".to_owned()));
        }
        _ => return Err(FetchError::Status { host: target.host.clone(), status: head.status }),
    }
    let body = body_of(&mut wire, &head, target, rules).await?;
    let cache_control =
        head.fields.named(b"cache-control").next().and_then(|value| str::from_utf8(value).ok());
    Ok(Answer::Document(Fetched { body, cache_control: cache_control.map(str::to_owned) }))
}

/// Connects, sends the text of a request and reads the head of the answer.
async fn ask(
    target: &Target,
    method: &Method,
    request: &[u8],
    rules: &FetchRules,
) -> Result<(Wire, ResponseHead), FetchError> {
    let mut wire = Wire::new(connect(target, rules).await?);
    wire.output().extend_from_slice(request);
    let lost = |source| FetchError::Connect { host: target.host.clone(), source };
    // A server may answer before it has read everything, and close: what it said counts.
    let sent = std::future::poll_fn(|cx| wire.poll_flush(cx)).await;
    match read_head(&mut wire, method).await {
        Ok(head) => Ok((wire, head)),
        Err(found) => Err(sent.err().map_or_else(|| target.broke(found), lost)),
    }
}

async fn body_of(
    wire: &mut Wire,
    head: &ResponseHead,
    target: &Target,
    rules: &FetchRules,
) -> Result<Bytes, FetchError> {
    read_body(wire, head, rules).await.map_err(|error| match error {
        BodyError::TooLarge { limit } => FetchError::TooLarge { host: target.host.clone(), limit },
        other => target.broke(other.to_string()),
    })
}

async fn connect(target: &Target, rules: &FetchRules) -> Result<Link, FetchError> {
    let failed = |source| FetchError::Connect { host: target.host.clone(), source };
    let allowed = resolve(&target.host, target.port, rules).await?;
    // Connects to the very addresses that were checked: a name that resolves to
    // something else a moment later gains nothing.
    let socket = crate::upstream::dial::connect(&allowed).await.map_err(failed)?;
    if !target.https {
        return Ok(Link::Plain(socket));
    }
    let name =
        ServerName::try_from(target.host.clone()).map_err(|error| failed(std::io::Error::other(error)))?;
    let shaken = crate::tls::connect(rules.tls.config(Offer::Http1), name, socket).await;
    Ok(Link::TlsClient(Box::new(shaken.map_err(failed)?)))
}

async fn fill(wire: &mut Wire) -> std::io::Result<usize> {
    std::future::poll_fn(|cx| wire.poll_fill(cx)).await
}

async fn read_head(wire: &mut Wire, method: &Method) -> Result<ResponseHead, String> {
    let limits = Limits::default();
    let asked = Asked { method, upgrade: None };
    let mut reader = Reader::new();
    let mut interim = 0;
    loop {
        match reader.read(&mut wire.input, &limits, asked).map_err(|refusal| refusal.to_string())? {
            Some(answer) if answer.head.status.is_informational() => {
                interim += 1;
                if interim > limits.interim_responses_max {
                    return Err("too many interim responses".to_owned());
                }
            }
            Some(answer) => return Ok(answer.head),
            None => {
                if fill(wire).await.map_err(|error| error.to_string())? == 0 {
                    return Err("the connection ended within the head".to_owned());
                }
            }
        }
    }
}

async fn read_body(wire: &mut Wire, head: &ResponseHead, rules: &FetchRules) -> Result<Bytes, BodyError> {
    let mut decoder = Decoder::new(head.framing, &Limits::default());
    decoder.set_limit(rules.body_bytes_max);
    let mut body = BytesMut::new();
    loop {
        match decoder.decode(&mut wire.input)? {
            Some(Frame::Data(data)) => body.extend_from_slice(&data),
            Some(Frame::End | Frame::Trailers(_)) => return Ok(body.freeze()),
            None => {
                if fill(wire).await? == 0 {
                    decoder.end_of_input()?;
                    return Ok(body.freeze());
                }
            }
        }
    }
}

/// The address that a URL's text itself names, `localhost` included, when it is not one of the public
/// internet: where no fetch gets to without [`FetchRules::allow_private_addresses`]. What a name leads
/// to is found out when it is fetched.
pub fn special_address(url: &str) -> Option<IpAddr> {
    let uri: Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
    let host = host.to_ascii_lowercase();
    let address = if host == "localhost" || is_below_localhost(&host) {
        IpAddr::V4(Ipv4Addr::LOCALHOST)
    } else {
        host.parse().ok()?
    };
    (!is_public(address)).then_some(address)
}

/// Whether a name leads to this host, whatever the system's resolver knows of it (RFC 6761 §6.3).
fn is_below_localhost(host: &str) -> bool {
    host.ends_with(".localhost")
}

/// Whether an address belongs to the public internet: not to this host, its networks,
/// documentation, multicast or anything reserved (RFC 6890). IPv4 inside IPv6 counts
/// as what it is.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => is_public_v6(v6),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !matches!(
        (a, b, c),
        (0 | 10 | 127 | 224..=255, _, _)
            | (100, 64..=127, _)
            | (169, 254, _)
            | (172, 16..=31, _)
            | (192, 0, 0 | 2)
            | (192, 88, 99)
            | (192, 168, _)
            | (198, 18 | 19, _)
            | (198, 51, 100)
            | (203, 0, 113)
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let [a, b, c, d, e, f, g, h] = address.segments();
    let embedded = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // IPv4-mapped, and translated by NAT64 (RFC 6052) or 6to4 (RFC 3056).
        (0, 0) if (c, d, e, f) == (0, 0, 0, 0xffff) => embedded(g, h),
        (0x64, 0xff9b) if (c, d, e, f) == (0, 0, 0, 0) => embedded(g, h),
        (0x2002, _) => embedded(b, c),
        // Teredo, ORCHID and the like; documentation.
        (0x2001, 0..=0x1ff | 0xdb8) => false,
        // Global unicast is all that is left of the address space (RFC 4291 §2.4).
        _ => (0x2000..=0x3fff).contains(&a) && (a, b & 0xf000) != (0x3fff, 0),
    }
}

#[cfg(test)]
mod tests;
