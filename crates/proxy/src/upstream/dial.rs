//! Opening a connection to an endpoint: name, socket, TLS, protocol.

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::connection1::Connection1;
use super::connection2::Session2;
use super::in_process::CallConnection;
use super::peer::UpstreamPeer;
use super::pool::{Pool, Slot};
use super::{EndpointSettings, Protocol};
use crate::deadline::Ticker;
use crate::limits::Limits;
use crate::link::{Link, Wire};
use crate::proxy_protocol::{self, Origin};
use crate::tls::Offer;

/// How long a resolved name is used.
const NAME_KEPT: Duration = Duration::from_secs(5);

/// Why no connection could be opened.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The name could not be resolved.
    #[error("cannot resolve {host:?}: {source}")]
    Name {
        /// The name.
        host: String,
        /// Why.
        source: io::Error,
    },
    /// No address of it accepted a connection.
    #[error("cannot connect: {0}")]
    Connect(io::Error),
    /// The TLS handshake failed, its certificate check included.
    #[error("TLS handshake failed: {0}")]
    Tls(io::Error),
    /// It does not speak HTTP/2 although it should.
    #[error("the upstream does not speak HTTP/2: {0}")]
    Http2(String),
    /// Its time was over, or all connections stayed busy.
    #[error("no connection within the time limit")]
    Timeout,
    /// Too many wait for a connection already.
    #[error("all connections are busy and too many requests wait for one")]
    Full,
}

/// What a connection is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// HTTP.
    Requests,
    /// A request that asks for an upgrade, which only HTTP/1.1 has (RFC 9113 §8.6).
    Upgrade,
    /// The bytes of one opaque connection.
    Bytes,
}

pub(crate) enum Dialed {
    One(Box<Connection1>),
    Two(Session2),
    Call(Box<CallConnection>),
}

/// Opens one connection.
pub(crate) async fn dial(
    pool: &Pool,
    slot: Slot,
    limits: &Limits,
    origin: Option<Origin>,
    load: Load,
) -> Result<Dialed, DialError> {
    if let Some(line) = &pool.line {
        let refused = |why| Err(DialError::Connect(io::Error::new(io::ErrorKind::ConnectionRefused, why)));
        return match load {
            Load::Bytes => refused("an in-process service takes requests alone"),
            _ if !line.is_open() => refused("the in-process service has ended"),
            Load::Requests | Load::Upgrade => Ok(Dialed::Call(Box::new(CallConnection::new(line, slot)))),
        };
    }
    let Opened { link, http2, peer } = open(pool, origin, load).await?;
    if http2 && load != Load::Bytes {
        return Ok(Dialed::Two(Session2::start(link, slot, limits, pool, origin, peer).await?));
    }
    let mut connection = match load {
        Load::Bytes => Connection1::tunnel(Wire::new(link), slot, limits),
        Load::Requests | Load::Upgrade => Connection1::new(Wire::new(link), slot, origin),
    };
    connection.peer = peer;
    Ok(Dialed::One(Box::new(connection)))
}

/// The stream beneath a connection.
struct Opened {
    link: Link,
    /// Whether HTTP/2 was agreed on.
    http2: bool,
    peer: Option<UpstreamPeer>,
}

async fn open(pool: &Pool, origin: Option<Origin>, load: Load) -> Result<Opened, DialError> {
    let endpoint = &pool.key.endpoint;
    let addresses = pool.names.resolve(endpoint, &pool.ticker).await?;
    let mut socket = connect_checked(pool, &addresses).await.map_err(DialError::Connect)?;
    if pool.key.proxy_protocol {
        send_proxy_header(&mut socket, origin).await.map_err(DialError::Connect)?;
    }
    Ok(match &pool.tls {
        None => {
            let http2 = pool.key.protocol == Protocol::Http2;
            Opened { link: Link::Plain(socket), http2, peer: None }
        }
        Some(tls) => {
            let offer = match (load, pool.key.protocol) {
                (Load::Bytes, _) => Offer::Nothing,
                (Load::Requests, Protocol::Auto) => Offer::Both,
                (_, Protocol::Http1) | (Load::Upgrade, Protocol::Auto) => Offer::Http1,
                (_, Protocol::Http2) => Offer::Http2,
            };
            let name = match &tls.server_name {
                Some(name) => name.clone(),
                None => server_name(&endpoint.host)?,
            };
            let shaken = crate::tls::connect(tls.config(offer), name.clone(), socket).await;
            let stream = shaken.map_err(DialError::Tls)?;
            let connection = stream.get_ref().1;
            let http2 = connection.alpn_protocol() == Some(b"h2");
            if offer == Offer::Http2 && !http2 {
                return Err(DialError::Http2("it did not choose h2 by ALPN".to_owned()));
            }
            let peer = UpstreamPeer::of(&pool.key.service, tls, connection, name);
            Opened { link: Link::TlsClient(Box::new(stream)), http2, peer }
        }
    })
}

/// Connects as far as the service's check permits it.
async fn connect_checked(pool: &Pool, addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    if let Some(check) = &pool.dial_check {
        // Whoever takes the connection may leave the port to whom is meant before it is asked about again.
        addresses.iter().try_for_each(|address| check.permits(*address, None))?;
    }
    let socket = connect(addresses).await.inspect_err(|_| pool.names.forget())?;
    if let Some(check) = &pool.dial_check {
        // Whoever listens may have come since.
        check.permits(socket.peer_addr()?, Some(socket.local_addr()?))?;
    }
    Ok(socket)
}

/// Says whose connection this is, before anything else is sent.
pub(crate) async fn send_proxy_header(socket: &mut TcpStream, origin: Option<Origin>) -> io::Result<()> {
    let mut header = Vec::with_capacity(64);
    proxy_protocol::write(origin, &mut header);
    socket.write_all(&header).await
}

pub(crate) fn server_name(host: &str) -> Result<ServerName<'static>, DialError> {
    ServerName::try_from(host.to_owned()).map_err(|error| DialError::Tls(io::Error::other(error)))
}

/// Connects to the first address that accepts.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => {
                socket.set_nodelay(true)?;
                return Ok(socket);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The addresses of one name, kept for a few seconds.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: RefCell<Option<(u64, Vec<SocketAddr>)>>,
}

impl Names {
    async fn resolve(
        &self,
        endpoint: &EndpointSettings,
        ticker: &Ticker,
    ) -> Result<Vec<SocketAddr>, DialError> {
        let (host, port) = (endpoint.host.as_str(), endpoint.port);
        if let Some(address) = endpoint.address.or_else(|| host.parse::<IpAddr>().ok()) {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        let now = ticker.now_ms();
        if let Some((until, list)) = &*self.known.borrow()
            && now < *until
        {
            return Ok(list.clone());
        }
        let list: Vec<SocketAddr> = tokio::net::lookup_host((host, port))
            .await
            .map_err(|source| DialError::Name { host: host.to_owned(), source })?
            .collect();
        *self.known.borrow_mut() = Some((ticker.moment(NAME_KEPT), list.clone()));
        Ok(list)
    }

    /// None of them worked: asks again next time.
    fn forget(&self) {
        self.known.borrow_mut().take();
    }
}
