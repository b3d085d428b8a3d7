//! A client that says exactly what it is told to say: HTTP/1.1 as raw bytes, so that
//! it can lie about framing, and HTTP/2 by `h2`. It trusts one certificate authority,
//! the demo's own.

pub mod http1;
pub mod http2;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ::mesh::verify::Verifier;
use anyhow::Context;
use keys::CertificateRules;
use model::{Clock as _, RequestId, SpiffeId};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::process::clock::SystemClock;

/// How long one answer, connection or handshake may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes both ways, encrypted or not.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Where a client connects to, and as whom.
#[derive(Clone)]
pub struct Endpoint {
    /// The socket to connect to.
    pub address: SocketAddr,
    /// TLS, with the name to ask for; `None` is cleartext.
    pub tls: Option<Trust>,
    /// The local address to come from.
    pub from: Option<IpAddr>,
}

/// Whom a client trusts and what it shows.
#[derive(Clone)]
pub struct Trust {
    name: ServerName<'static>,
    http1: Arc<ClientConfig>,
    http2: Arc<ClientConfig>,
}

/// A certificate chain with its key, as PEM.
pub struct ClientCertificate {
    /// The chain, leaf first.
    pub chain: String,
    /// The leaf's key.
    pub key: String,
}

impl ClientCertificate {
    fn chain(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        Ok(CertificateDer::pem_slice_iter(self.chain.as_bytes()).collect::<Result<_, _>>()?)
    }

    fn key(&self) -> anyhow::Result<PrivateKeyDer<'static>> {
        Ok(PrivateKeyDer::from_pem_slice(self.key.as_bytes())?)
    }

    /// The serial number of a workload of this trust domain, hexadecimal, as events name it.
    ///
    /// # Errors
    /// It is no certificate of one that is good now.
    pub fn serial(&self, trust_domain: &str) -> anyhow::Result<String> {
        let chain = self.chain()?;
        let leaf = chain.first().context("there is no certificate")?;
        let rules = CertificateRules::of_trust_domain(trust_domain);
        let identity = keys::identify(leaf, &rules, SystemClock::start().now());
        Ok(identity.map_err(|refusal| anyhow::anyhow!("{refusal}"))?.serial)
    }
}

impl Trust {
    /// Trusts the authority in `ca_pem` to vouch for `name`, and shows `certificate`
    /// when the server asks for one.
    ///
    /// # Errors
    /// Something is not PEM, or the key does not belong to the certificate.
    pub fn new(name: &str, ca_pem: &[u8], certificate: Option<&ClientCertificate>) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(authority.context("the town's authority is not PEM")?)?;
        }
        Self::of(name, || {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let builder = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots.clone());
            Ok(match certificate {
                None => builder.with_no_client_auth(),
                Some(own) => builder.with_client_auth_cert(own.chain()?, own.key()?)?,
            })
        })
    }

    /// Trusts a service of the mesh, vouched for by the authorities of its trust domain in
    /// `anchors_pem`, and shows a certificate of the mesh.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub fn in_mesh(
        service: &SpiffeId,
        anchors_pem: &[u8],
        certificate: &ClientCertificate,
    ) -> anyhow::Result<Self> {
        let anchors = CertificateDer::pem_slice_iter(anchors_pem)
            .map(|anchor| Ok(anchor.context("the anchors are not PEM")?.to_vec()))
            .collect::<anyhow::Result<_>>()?;
        let anchors = BTreeMap::from([(service.trust_domain().to_owned(), anchors)]);
        Self::of(service.path().trim_start_matches('/'), || {
            let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
            let verifier = Verifier::new(&anchors, Some(vec![service.clone()]), &provider)?;
            let builder = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier));
            Ok(builder.with_client_auth_cert(certificate.chain()?, certificate.key()?)?)
        })
    }

    fn of(name: &str, configure: impl Fn() -> anyhow::Result<ClientConfig>) -> anyhow::Result<Self> {
        let speaking = |protocol: &[u8]| -> anyhow::Result<Arc<ClientConfig>> {
            let mut config = configure()?;
            config.alpn_protocols = vec![protocol.to_vec()];
            Ok(Arc::new(config))
        };
        let name = ServerName::try_from(name.to_owned())?;
        Ok(Self { name, http1: speaking(b"http/1.1")?, http2: speaking(b"h2")? })
    }
}

impl Endpoint {
    /// A cleartext endpoint.
    pub const fn clear(address: SocketAddr) -> Self {
        Self { address, tls: None, from: None }
    }

    async fn connect(&self, http2: bool) -> io::Result<Box<dyn Wire>> {
        let stream = within(self.connect_tcp()).await?;
        stream.set_nodelay(true)?;
        let Some(trust) = &self.tls else { return Ok(Box::new(stream)) };
        let config = if http2 { &trust.http2 } else { &trust.http1 };
        let connector = TlsConnector::from(Arc::clone(config));
        Ok(Box::new(within(connector.connect(trust.name.clone(), stream)).await?))
    }

    async fn connect_tcp(&self) -> io::Result<TcpStream> {
        let socket = if self.address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(from) = self.from {
            socket.bind(SocketAddr::new(from, 0))?;
        }
        socket.connect(self.address).await
    }
}

/// Waits for `work`, but not longer than [`PATIENCE`].
pub(super) async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, work).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", PATIENCE.as_secs())))
    })
}

/// A request before it is bytes.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method.
    pub method: &'static str,
    /// The target in origin form, sent as it stands.
    pub target: String,
    /// The authority.
    pub host: String,
    /// Further fields, in order.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A request without body.
    pub fn new(method: &'static str, host: &str, target: &str) -> Self {
        Self {
            method,
            target: target.to_owned(),
            host: host.to_owned(),
            fields: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Adds a field.
    #[must_use]
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Adds a bearer token (RFC 6750 §2.1).
    #[must_use]
    pub fn bearer(self, token: &str) -> Self {
        let value = format!("Bearer {token}");
        self.field("authorization", &value)
    }

    /// Gives it a JSON body.
    #[must_use]
    pub fn json(mut self, body: &Value) -> Self {
        self.body = body.to_string().into_bytes();
        self.field("content-type", "application/json")
    }
}

/// An answer, whatever protocol it came by.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The fields, names in lower case.
    pub fields: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first value of this field (lower case).
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON; `Null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// The request's id: from its header, or from a problem document's `id`.
    pub fn request_id(&self) -> Option<RequestId> {
        let body = self.json();
        let text = self.field("x-request-id").or_else(|| body.get("id").and_then(Value::as_str))?;
        text.parse().ok()
    }
}
