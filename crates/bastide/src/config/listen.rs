//! `listen:` and `admin:`: the sockets.

use std::net::SocketAddr;
use std::path::PathBuf;

use ipnet::IpNet;

/// One public listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Where it listens. Port 0: the system picks.
    pub address: SocketAddr,
    /// `None`: cleartext.
    pub tls: Option<ListenerTls>,
    /// Peers whose `Forwarded` and `X-Forwarded-*` are believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerTls {
    /// What the server proves.
    pub certificates: Certificates,
    /// Whether clients may or must prove something too.
    pub client: Option<ClientCertificates>,
    /// The oldest accepted version.
    pub version_min: TlsVersion,
}

/// Where a listener's certificates come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Certificates {
    /// From a certificate authority in the state folder, made on first use, for the
    /// hosts of the routes, `localhost` and the loopback addresses.
    Local,
    /// From files, never empty. Chosen by server name; the first is the default.
    Files(Vec<CertificateFiles>),
}

/// A certificate chain and its key.
#[derive(Clone, Debug, PartialEq)]
pub struct CertificateFiles {
    /// PEM chain, leaf first.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// Client certificates at a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientCertificates {
    /// Who may have issued them.
    pub authorities: ClientAuthorities,
    /// Whether the handshake fails without one.
    pub required: bool,
}

/// Whose client certificates are accepted.
#[derive(Clone, Debug, PartialEq)]
pub enum ClientAuthorities {
    /// Those of the authority in the state folder.
    Local,
    /// Those of the authorities in this PEM file.
    File(PathBuf),
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246
    Tls12,
    /// RFC 8446
    Tls13,
}

/// The admin listener.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// Where it listens: loopback, unless `danger_admin_not_loopback: true`.
    pub address: SocketAddr,
}
