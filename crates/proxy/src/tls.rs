//! TLS on both sides: which certificate a client sees, whether it must show one, and
//! whom we trust upstream. rustls with aws-lc-rs, TLS 1.2 and 1.3, X25519MLKEM768
//! preferred.
//!
//! A session that asked for a client certificate may be resumed, and brings the client's
//! chain back without verifying it. So the chain is verified again, whole, after every
//! resumed handshake, and again for open connections when the listener's TLS changes.
//! Changed certificates, authorities or revocation lists make a new configuration with
//! a new ticket key, so that nothing issued before resumes after.
//!
//! INVARIANT: a [`ServerTls`] belongs to one listener. Listeners with different
//! client-certificate settings never share one: a session of one could be resumed on
//! the other (CVE-2025-23419 is this fault in a peer).

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use model::Switch;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{Acceptor, NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, HandshakeKind, RootCertStore, ServerConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{LazyConfigAcceptor, TlsAcceptor};
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::challenge::Challenges;
use crate::deadline::{Ticker, earlier};

mod by_name;
mod connect;
mod parts;

use by_name::ByName;
pub use by_name::NameEnd;
pub(crate) use connect::connect;
pub use parts::{check_authorities, check_revocations};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The PEM text holds no certificate or no key, or cannot be read.
    #[error("{what}: expected PEM with {expected}, found {found}")]
    Pem {
        /// Which file or setting.
        what: String,
        /// What should be in it.
        expected: &'static str,
        /// What was wrong.
        found: String,
    },
    /// A certificate cannot be parsed.
    #[error("certificate: {0}")]
    Certificate(String),
    /// Key and certificate do not fit, or an algorithm is not supported.
    #[error("TLS settings refused: {0}")]
    Settings(#[from] rustls::Error),
    /// The list of trusted certificates for clients cannot be used.
    #[error("client certificate authorities refused: {0}")]
    ClientAuthorities(String),
    /// A list of revoked client certificates cannot be used.
    #[error("certificate revocation list refused: {0}")]
    Revocations(String),
    /// A listener with TLS needs at least one certificate, unless its names are strict.
    #[error("a listener with TLS needs at least one certificate")]
    NoCertificate,
    /// The name that the upstream must prove is no DNS name or IP address.
    #[error("TLS server name {0:?} is neither a DNS name nor an IP address")]
    ServerName(String),
}

/// A certificate chain with its private key.
#[derive(PartialEq, Eq)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the key.
        f.debug_struct("Identity").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Clone for Identity {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key() }
    }
}

impl Identity {
    /// From PEM text. `what` names the source in errors.
    ///
    /// # Errors
    /// No certificate, no key, or text that is not PEM.
    pub fn from_pem(what: &str, chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| TlsError::Pem {
            what: what.to_owned(),
            expected: "a private key",
            found: error.to_string(),
        })?;
        Ok(Self { chain: certificates_from_pem(what, chain)?, key })
    }
}

/// Certificates from PEM text. `what` names the source in errors.
///
/// # Errors
/// No certificate, or text that is not PEM.
pub fn certificates_from_pem(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let refused =
        |found: String| TlsError::Pem { what: what.to_owned(), expected: "at least one certificate", found };
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let list = list.map_err(|error| refused(error.to_string()))?;
    if list.is_empty() {
        return Err(refused("none".to_owned()));
    }
    Ok(list)
}

/// Certificate revocation lists from PEM text. `what` names the source in errors.
///
/// # Errors
/// No list, or text that is not PEM.
pub fn revocations_from_pem(
    what: &str,
    pem: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let expected = "at least one certificate revocation list";
    let refused = |found: String| TlsError::Pem { what: what.to_owned(), expected, found };
    let list: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    let list = list.map_err(|error| refused(error.to_string()))?;
    if list.is_empty() {
        return Err(refused("none".to_owned()));
    }
    Ok(list)
}

/// Whether clients show a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClientCertificates {
    /// They are not asked.
    #[default]
    None,
    /// They may; one that they show must be from these authorities.
    Optional(Vec<CertificateDer<'static>>),
    /// They must.
    Required(Vec<CertificateDer<'static>>),
    /// They must, and this judges it.
    Verified(ClientVerifier),
}

/// Another way to verify clients than by one list of authorities: by their SPIFFE IDs.
#[derive(Clone)]
pub struct ClientVerifier {
    /// Judges chains.
    pub verifier: Arc<dyn ClientCertVerifier>,
    /// What makes two of these the same.
    pub mark: Arc<[u8]>,
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientVerifier").finish_non_exhaustive()
    }
}

impl PartialEq for ClientVerifier {
    fn eq(&self, other: &Self) -> bool {
        self.mark == other.mark
    }
}

impl Eq for ClientVerifier {}

/// Protocol version of a TLS connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// TLS 1.2
    #[default]
    Tls12,
    /// TLS 1.3
    Tls13,
}

impl TlsVersion {
    /// `"1.2"` or `"1.3"`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

/// What a listener offers by ALPN (RFC 7301).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerOffer {
    /// `http/1.1`
    #[default]
    Http1,
    /// `h2`, then `http/1.1`
    Http,
    /// Nothing: what clients offer is not looked at.
    Nothing,
}

/// What a listener's TLS is made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServerTlsSettings {
    /// The first is shown to clients whose name fits none.
    pub identities: Vec<Identity>,
    /// Whether clients whose name fits none, or that give none, are refused instead. Then
    /// there may be no identity at all.
    pub strict_names: bool,
    /// Whether clients show one.
    pub client: ClientCertificates,
    /// The oldest version that is accepted.
    pub version_min: TlsVersion,
    /// What is agreed on by ALPN.
    pub offers: ServerOffer,
    /// Certificate revocation lists (RFC 5280 §5) for client certificates, as they came, file by
    /// file. When there is any, a certificate counts only if a list of its issuer, not past its
    /// `nextUpdate`, does not name it; so for every authority of the chain.
    pub revocations: Vec<Vec<CertificateRevocationListDer<'static>>>,
}

/// A listener's TLS, ready for use. A changed file makes a new one; the listener
/// stays open and its next connection uses it.
#[derive(Clone, Debug)]
pub struct ServerTls {
    pub(crate) config: Arc<ServerConfig>,
    asks_clients: bool,
    /// Whether a handshake fails without a certificate.
    required: bool,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    settings: Arc<ServerTlsSettings>,
    ends: Arc<[NameEnd]>,
    challenges: Option<Arc<Challenges>>,
}

fn provider() -> Arc<CryptoProvider> {
    // With the feature `prefer-post-quantum`, X25519MLKEM768 comes first.
    Arc::new(aws_lc_rs::default_provider())
}

fn store(roots: &[CertificateDer<'static>]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone())?;
    }
    Ok(Arc::new(store))
}

impl ServerTls {
    /// The same as `before` when the settings are the same, so that its tickets stay good;
    /// else built anew, with tickets of its own.
    ///
    /// # Errors
    /// As [`ServerTls::build`].
    pub fn renew(settings: &ServerTlsSettings, before: Option<&Self>) -> Result<Self, TlsError> {
        match before.filter(|before| *before.settings == *settings) {
            Some(before) => Ok(before.clone()),
            None => Self::build(settings),
        }
    }

    /// Builds the configuration: keys are parsed and matched with their certificates.
    ///
    /// # Errors
    /// No certificate, a key that does not fit, authorities that cannot be used.
    pub fn build(settings: &ServerTlsSettings) -> Result<Self, TlsError> {
        let provider = provider();
        let (resolver, ends) = ByName::build(settings, &provider)?;
        let versions: &[&rustls::SupportedProtocolVersion] = match settings.version_min {
            TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
            TlsVersion::Tls13 => &[&rustls::version::TLS13],
        };
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(versions)?;
        let verifier = |roots: &[CertificateDer<'static>]| {
            let builder = WebPkiClientVerifier::builder_with_provider(store(roots)?, Arc::clone(&provider));
            let lists = settings.revocations.iter().flatten().cloned();
            // A list that is past its time says nothing about today.
            Ok::<_, TlsError>(builder.with_crls(lists).enforce_revocation_expiration())
        };
        let failed =
            |error: rustls::server::VerifierBuilderError| TlsError::ClientAuthorities(error.to_string());
        let nobody = ClientCertificates::None;
        let client = if Switch::ClientCertificate.is_off() { &nobody } else { &settings.client };
        let verifier = match client {
            ClientCertificates::None => None,
            ClientCertificates::Optional(roots) => {
                Some(verifier(roots)?.allow_unauthenticated().build().map_err(failed)?)
            }
            ClientCertificates::Required(roots) => Some(verifier(roots)?.build().map_err(failed)?),
            ClientCertificates::Verified(own) => Some(Arc::clone(&own.verifier)),
        };
        let builder = match &verifier {
            Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = match settings.offers {
            ServerOffer::Http => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
            ServerOffer::Http1 => vec![b"http/1.1".to_vec()],
            ServerOffer::Nothing => Vec::new(),
        };
        // Sessions live in tickets alone, under a key that only this configuration has.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.ticketer = aws_lc_rs::Ticketer::new()?;
        config.send_tls13_tickets = 1;
        Ok(Self {
            config: Arc::new(config),
            asks_clients: verifier.is_some(),
            required: matches!(client, ClientCertificates::Required(_) | ClientCertificates::Verified(_)),
            verifier,
            settings: Arc::new(settings.clone()),
            ends: ends.into(),
            challenges: None,
        })
    }

    /// What it is made from.
    pub fn settings(&self) -> &ServerTlsSettings {
        &self.settings
    }

    /// The same, and besides it the proofs of TLS-ALPN-01 that are offered there.
    #[must_use]
    pub fn with_challenges(self, challenges: &Arc<Challenges>) -> Self {
        Self { challenges: Some(Arc::clone(challenges)), ..self }
    }

    /// Shakes hands. Nothing comes of a connection that was opened for a proof: it is
    /// over when the proof was shown (RFC 8737 §3).
    pub(crate) async fn accept(&self, socket: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        let Some(challenges) = self.challenges.as_ref().filter(|challenges| challenges.expects_tls()) else {
            return TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).await.map(Some);
        };
        let start = LazyConfigAcceptor::new(Acceptor::default(), socket).await?;
        let Some(config) = challenges.tls_answer(&start.client_hello()) else {
            return start.into_stream(Arc::clone(&self.config)).await.map(Some);
        };
        start.into_stream(config).await?.shutdown().await?;
        Ok(None)
    }

    /// When the certificates end that are shown, by name.
    pub fn ends(&self) -> &[NameEnd] {
        &self.ends
    }

    /// Verifies a client's chain as a full handshake would: signatures, authorities,
    /// times and revocation lists.
    fn verify(&self, chain: &[CertificateDer<'static>]) -> Result<(), rustls::Error> {
        let Some(verifier) = &self.verifier else { return Ok(()) };
        let Some((leaf, rest)) = chain.split_first() else {
            return if self.required { Err(rustls::Error::NoCertificatesPresented) } else { Ok(()) };
        };
        let now = self.config.time_provider.current_time().ok_or(rustls::Error::FailedToGetCurrentTime)?;
        verifier.verify_client_cert(leaf, rest, now).map(|_| ())
    }

    /// The moment of the ticker from which on a certificate of this chain has ended; 0
    /// without a chain.
    fn chain_until(&self, chain: &[CertificateDer<'static>], ticker: &Ticker) -> Result<u64, rustls::Error> {
        let now = self.config.time_provider.current_time().ok_or(rustls::Error::FailedToGetCurrentTime)?;
        // A core that slept until this handshake has an old clock.
        ticker.read_now_ms();
        let mut until = 0;
        for certificate in chain {
            let refused = |_| rustls::Error::InvalidCertificate(rustls::CertificateError::BadEncoding);
            let (_, parsed) = X509Certificate::from_der(certificate).map_err(refused)?;
            let end = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
            // `notAfter` is the last good second (RFC 5280 §4.1.2.5).
            let left = (end + 1).saturating_sub(now.as_secs());
            until = earlier(until, ticker.moment(Duration::from_secs(left)));
        }
        Ok(until)
    }

    /// Whether clients are asked for a certificate.
    pub fn asks_clients(&self) -> bool {
        self.asks_clients
    }
}

/// What a finished handshake says about the client.
#[derive(Clone, Debug)]
pub struct TlsPeer {
    /// The version.
    pub version: TlsVersion,
    /// The name that the client asked for, lower case.
    pub server_name: Option<Box<str>>,
    /// The client's verified chain, leaf first; empty when it showed none.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whether this listener asks clients for certificates.
    pub asks_clients: bool,
    /// The TLS that last verified the chain.
    verified_by: RefCell<Arc<ServerConfig>>,
    /// When the chain ends, as a moment of the core's ticker; 0: there is none.
    until_ms: u64,
    fallen: Cell<bool>,
}

impl TlsPeer {
    /// What a handshake brought. The chain of a resumed session is verified here.
    pub(crate) fn of(
        connection: &rustls::ServerConnection,
        tls: &ServerTls,
        ticker: &Ticker,
    ) -> Result<Self, rustls::Error> {
        let version = match connection.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => TlsVersion::Tls13,
            _ => TlsVersion::Tls12,
        };
        let chain = connection.peer_certificates().map(<[_]>::to_vec).unwrap_or_default();
        if connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            tls.verify(&chain)?;
        }
        Ok(Self {
            version,
            server_name: connection.server_name().map(|name| name.to_ascii_lowercase().into()),
            until_ms: if chain.is_empty() { 0 } else { tls.chain_until(&chain, ticker)? },
            chain,
            asks_clients: tls.asks_clients,
            verified_by: RefCell::new(Arc::clone(&tls.config)),
            fallen: Cell::new(false),
        })
    }

    /// Whether the chain would still be accepted; see
    /// [`crate::ConnectionInfo::is_still_trusted`].
    pub(crate) fn is_still_trusted(&self, tls: Option<&ServerTls>, now_ms: u64) -> bool {
        if self.fallen.get() || (self.until_ms != 0 && self.until_ms <= now_ms) {
            return false;
        }
        let Some(tls) = tls.filter(|tls| !Arc::ptr_eq(&tls.config, &self.verified_by.borrow())) else {
            return true;
        };
        match tls.verify(&self.chain) {
            Ok(()) => *self.verified_by.borrow_mut() = Arc::clone(&tls.config),
            Err(_) => self.fallen.set(true),
        }
        !self.fallen.get()
    }

    /// Whether a request for `host` came over a connection that was opened for another
    /// name, on a listener where that matters: answer 421 (RFC 9110 §15.5.20). A client
    /// must not show its certificate to one name and then ask for another.
    pub fn is_misdirected(&self, host: &[u8]) -> bool {
        self.asks_clients && self.server_name.as_deref().is_some_and(|name| name.as_bytes() != host)
    }
}

/// Another way to verify a server than by its host name and a list of authorities: by its
/// SPIFFE ID. Sessions are not resumed then, so that every connection is judged by what is
/// trusted when it is opened.
#[derive(Clone)]
pub struct ServerVerifier {
    /// Judges chains.
    pub verifier: Arc<dyn ServerCertVerifier>,
    /// What makes two of these the same for a pool.
    pub mark: Arc<[u8]>,
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerVerifier").finish_non_exhaustive()
    }
}

/// Whom an upstream must prove to be, and how we prove ourselves.
#[derive(Clone, Debug, Default)]
pub struct ClientTlsSettings {
    /// Trusted authorities; the public ones (webpki-roots) when empty.
    pub roots: Vec<CertificateDer<'static>>,
    /// Our certificate.
    pub identity: Option<Identity>,
    /// The name that the upstream must prove; default: the host of its address.
    pub server_name: Option<String>,
    /// Verifies the upstream in the place of roots and name.
    pub verifier: Option<ServerVerifier>,
}

/// TLS to upstreams, ready for use.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// By ALPN: index 0 offers HTTP/1.1, index 1 HTTP/2, index 2 both, index 3 nothing.
    configs: [Arc<ClientConfig>; 4],
    pub(crate) server_name: Option<ServerName<'static>>,
    /// What verifies upstreams in the place of roots and name.
    pub(crate) verifier: Option<ServerVerifier>,
    /// What makes two of these the same for a pool: roots, our certificate and name.
    pub(crate) fingerprint: Arc<TlsFingerprint>,
    settings: Arc<ClientTlsSettings>,
}

/// Which protocols are offered to an upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offer {
    /// `http/1.1`
    Http1,
    /// `h2`
    Http2,
    /// `h2`, then `http/1.1`
    Both,
    /// Nothing.
    Nothing,
}

/// Everything that decides whether two TLS connections are interchangeable.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(crate) struct TlsFingerprint {
    roots: Vec<CertificateDer<'static>>,
    identity: Vec<CertificateDer<'static>>,
    server_name: Option<String>,
    verifier: Option<Arc<[u8]>>,
}

impl ClientTls {
    /// Builds the configuration.
    ///
    /// # Errors
    /// Roots or identity that cannot be used, or a server name that is none.
    pub fn build(settings: &ClientTlsSettings) -> Result<Self, TlsError> {
        let roots = if settings.roots.is_empty() {
            Arc::new(RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() })
        } else {
            store(&settings.roots)?
        };
        let config = |alpn: &[&[u8]]| -> Result<Arc<ClientConfig>, TlsError> {
            let builder =
                ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
            let builder = match &settings.verifier {
                Some(own) => builder.dangerous().with_custom_certificate_verifier(Arc::clone(&own.verifier)),
                None => builder.with_root_certificates(Arc::clone(&roots)),
            };
            let mut config = match &settings.identity {
                Some(identity) => {
                    builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?
                }
                None => builder.with_no_client_auth(),
            };
            config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
            if settings.verifier.is_some() {
                config.resumption = Resumption::disabled();
            }
            Ok(Arc::new(config))
        };
        let server_name = match &settings.server_name {
            Some(name) => {
                Some(ServerName::try_from(name.clone()).map_err(|_| TlsError::ServerName(name.clone()))?)
            }
            None => None,
        };
        let both = config(&[b"h2", b"http/1.1"])?;
        Ok(Self {
            configs: [config(&[b"http/1.1"])?, config(&[b"h2"])?, both, config(&[])?],
            server_name,
            verifier: settings.verifier.clone(),
            fingerprint: Arc::new(TlsFingerprint {
                roots: settings.roots.clone(),
                identity: settings.identity.as_ref().map(|i| i.chain.clone()).unwrap_or_default(),
                server_name: settings.server_name.clone(),
                verifier: settings.verifier.as_ref().map(|own| Arc::clone(&own.mark)),
            }),
            settings: Arc::new(settings.clone()),
        })
    }

    /// What it is made from.
    pub fn settings(&self) -> &ClientTlsSettings {
        &self.settings
    }

    /// The time by which certificates are judged.
    pub(crate) fn time(&self) -> Option<UnixTime> {
        let [first, ..] = &self.configs;
        first.time_provider.current_time()
    }

    pub(crate) fn config(&self, offer: Offer) -> Arc<ClientConfig> {
        let [http1, http2, both, nothing] = &self.configs;
        Arc::clone(match offer {
            Offer::Http1 => http1,
            Offer::Http2 => http2,
            Offer::Both => both,
            Offer::Nothing => nothing,
        })
    }
}
