//! The same guard for what is not HTTP: a stream of bytes, or just the addresses of a name.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{FetchError, FetchRules, Target, connect, is_below_localhost, is_public};
use crate::link::Link;

/// An open stream, with TLS or without.
#[derive(Debug)]
pub struct Stream(Link);

/// Opens a stream to a host. TLS offers `http/1.1` by ALPN, which servers of other
/// protocols do not look at.
///
/// # Errors
/// See [`FetchError`]; [`FetchRules::timeout`] bounds name, connection and handshake.
pub async fn open(host: &str, port: u16, tls: bool, rules: &FetchRules) -> Result<Stream, FetchError> {
    let host = host.to_ascii_lowercase();
    let target = Target { https: tls, host, port, path: String::new() };
    tokio::time::timeout(rules.timeout, connect(&target, rules)).await.map_or_else(
        |_| Err(FetchError::Timeout { url: target.authority(), seconds: rules.timeout.as_secs() }),
        |opened| opened.map(Stream),
    )
}

/// The addresses of a name that may be connected to.
///
/// # Errors
/// There are none, or none that is public where private ones are not allowed.
pub async fn resolve(host: &str, port: u16, rules: &FetchRules) -> Result<Vec<SocketAddr>, FetchError> {
    let failed = |source| FetchError::Connect { host: host.to_owned(), source };
    let found: Vec<SocketAddr> = if is_below_localhost(host) {
        vec![(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
    } else {
        tokio::net::lookup_host((host, port)).await.map_err(failed)?.collect()
    };
    let allowed: Vec<SocketAddr> =
        found.iter().filter(|a| rules.allow_private_addresses || is_public(a.ip())).copied().collect();
    match (allowed.is_empty(), found.first()) {
        (true, Some(refused)) => Err(FetchError::Private { host: host.to_owned(), address: refused.ip() }),
        (true, None) => Err(failed(io::Error::new(io::ErrorKind::NotFound, "no address"))),
        _ => Ok(allowed),
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, from)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}
