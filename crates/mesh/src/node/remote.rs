//! The control plane as an agent sees it: attested to it, following what it says, asking it to
//! sign; and what is known of it while it does not answer.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::uri::PathAndQuery;
use keys::svid::WorkloadKey;
use keys::{LocalSigner, SecureRandom};
use model::{Clock, SpiffeId, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use super::documents::{ISSUE, ISSUE_JWT};
use super::endpoints::{REGISTER, WITHDRAW};
use super::key::{NodeKey, Pin};
use super::listener::{ATTEST, UPDATE_BYTES_MAX, WATCH};
use super::messages::{
    AttestRequest, AttestResponse, EndpointRequest, EndpointResponse, IssueJwtRequest, IssueJwtResponse,
    IssueRequest, IssueResponse, Lifted, Registered, Update, WatchRequest,
};
use super::proof::statement;
use super::register::JoinToken;
use crate::authority_set::AuthoritySet;
use crate::backoff;
use crate::bundle::Bundle;
use crate::directory::{Directory, Endpoints, Held, ServiceAt};
use crate::error::Error;
use crate::grpc::Channel;
use crate::issuer::{Answer, Issuer};
use crate::renew::{renew, renew_by};
use crate::revocation::{Revoked, serial};
use crate::trust_domain::IssuedX509;
use crate::workload::{Conditions, Workload, Workloads};
use crate::workload_api::{Foreign, said};

/// How long a connection may take, and one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);
/// Tokens that are kept for when the control plane does not answer.
const TOKENS_MAX: usize = 1_024;

/// How an agent proves its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prover {
    /// By what stands in this file then: one use each.
    TokenFile(PathBuf),
    /// By this token, one time.
    Token(JoinToken),
    /// By a certificate and its key, PEM.
    X509 {
        /// With those above it.
        certificate: PathBuf,
        /// PKCS #8.
        key: PathBuf,
    },
    /// By the projected token in this file, which the cluster renews.
    Kubernetes(PathBuf),
}

fn read(path: &std::path::Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|source| Error::Socket { place: path.display().to_string(), source })
}

impl Prover {
    /// What is shown now.
    fn request(&self, agent: Pin, server_pin: Pin) -> Result<AttestRequest, Error> {
        let wrong = |path: &PathBuf, what: &str| Error::Settings(format!("{}: {what}", path.display()));
        let text = |path: &PathBuf| String::from_utf8(read(path)?).map_err(|_| wrong(path, "expected text"));
        match self {
            Self::Token(token) => {
                Ok(AttestRequest { token: token.secret.clone(), ..AttestRequest::default() })
            }
            Self::TokenFile(path) => {
                let token: JoinToken = text(path)?.parse()?;
                Ok(AttestRequest { token: token.secret, ..AttestRequest::default() })
            }
            Self::X509 { certificate, key } => {
                let pem = read(certificate)?;
                let chain = CertificateDer::pem_slice_iter(&pem).collect::<Result<Vec<_>, _>>();
                let chain = chain.map_err(|_| wrong(certificate, "expected certificates as PEM"))?;
                let Ok(PrivateKeyDer::Pkcs8(document)) = PrivateKeyDer::from_pem_slice(&read(key)?) else {
                    return Err(wrong(key, "expected a key as PKCS #8 in PEM"));
                };
                let signer = LocalSigner::from_pkcs8(document.secret_pkcs8_der())?;
                Ok(AttestRequest {
                    chain: chain.iter().map(|der| der.to_vec()).collect(),
                    statement: statement(&signer, agent, server_pin)?,
                    ..AttestRequest::default()
                })
            }
            Self::Kubernetes(path) => {
                let kubernetes = text(path)?.trim().to_owned();
                Ok(AttestRequest { kubernetes, ..AttestRequest::default() })
            }
        }
    }
}

/// A token that was given, for a workload and audiences.
type Tokens = HashMap<(SpiffeId, Vec<String>), (String, Timestamp)>;

/// The control plane.
pub struct Remote {
    server: String,
    server_pin: Pin,
    key: NodeKey,
    prover: Prover,
    clock: Arc<dyn Clock>,
    random: Arc<dyn SecureRandom + Send + Sync>,
    authorities: watch::Sender<Arc<AuthoritySet>>,
    revoked: watch::Sender<Arc<Revoked>>,
    workloads: watch::Sender<Arc<Workloads>>,
    foreign: watch::Sender<Arc<Foreign>>,
    channel: Mutex<Option<Arc<Channel>>>,
    /// The control plane's time, and our own at that moment.
    time: Mutex<Option<(Timestamp, Duration)>>,
    tokens: Mutex<Tokens>,
    /// When the newest certificate of each workload here ends.
    given: Mutex<HashMap<SpiffeId, Timestamp>>,
    held: Mutex<Held>,
    endpoints: watch::Sender<Arc<Endpoints>>,
    /// The address from which the control plane was reached last.
    here: Mutex<Option<IpAddr>>,
    met: watch::Sender<bool>,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("server", &self.server).finish_non_exhaustive()
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no going on with a connection.
enum Broken {
    /// The control plane does not know the node (any more).
    Unattested,
    /// Anything else.
    Fault(String),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::Unauthenticated => Self::Unattested,
            code => Self::Fault(format!("{code:?}: {}", status.message())),
        }
    }
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Fault(error.to_string())
    }
}

impl Remote {
    /// The control plane at `server` (`host:port`), which has the key `server_pin`. Nobody is asked
    /// yet: [`Self::run`] does that.
    pub fn new(
        server: String,
        server_pin: Pin,
        key: NodeKey,
        prover: Prover,
        clock: Arc<dyn Clock>,
        random: Arc<dyn SecureRandom + Send + Sync>,
    ) -> Result<Arc<Self>, Error> {
        let nothing = Bundle {
            trust_domain: String::new(),
            x509: Vec::new(),
            jwt: Vec::new(),
            sequence: 0,
            refresh: Duration::from_secs(1),
        };
        let authorities = AuthoritySet::elsewhere(nothing, BTreeSet::new())?;
        Ok(Arc::new(Self {
            server,
            server_pin,
            key,
            prover,
            clock,
            random,
            authorities: watch::Sender::new(Arc::new(authorities)),
            revoked: watch::Sender::new(Arc::default()),
            workloads: watch::Sender::new(Arc::default()),
            foreign: watch::Sender::new(Arc::default()),
            channel: Mutex::default(),
            time: Mutex::default(),
            tokens: Mutex::default(),
            given: Mutex::default(),
            held: Mutex::default(),
            endpoints: watch::Sender::new(Arc::default()),
            here: Mutex::default(),
            met: watch::Sender::new(false),
        }))
    }

    /// The workloads of this node.
    pub fn workloads(&self) -> watch::Receiver<Arc<Workloads>> {
        self.workloads.subscribe()
    }

    /// The bundles of other trust domains.
    pub fn foreign(&self) -> watch::Receiver<Arc<Foreign>> {
        self.foreign.subscribe()
    }

    /// Waits until the control plane has said what there is.
    pub async fn met(&self) {
        let _ = self.met.subscribe().wait_for(|met| *met).await;
    }

    /// Stays connected: attests the node where that is needed, follows what the control plane
    /// says, and tries again after a while, longer each time, when it does not. Never ends.
    pub async fn run(self: Arc<Self>) {
        let mut failures = 0_u32;
        loop {
            let broken = match self.follow(&mut failures).await {
                Ok(()) => Broken::Fault("the control plane has closed the connection".to_owned()),
                Err(broken) => broken,
            };
            *lock(&self.channel) = None;
            self.show_endpoints();
            let why = match broken {
                Broken::Unattested => "this node is not attested there".to_owned(),
                Broken::Fault(why) => why,
            };
            let wait = backoff::before_end(self.ends_in(), &mut failures, self.random.as_ref());
            tracing::warn!(
                server = self.server,
                why,
                again_in_ms = wait.as_millis(),
                "mesh: no connection to the control plane; documents that are still valid stay in use"
            );
            tokio::time::sleep(wait).await;
        }
    }

    /// How long what was given here is good still, the first of it.
    fn ends_in(&self) -> Duration {
        let now = self.now();
        let given = lock(&self.given);
        let ends = given.values().filter(|ends| now < **ends).min();
        ends.map_or(Duration::ZERO, |ends| ends.since(now))
    }

    async fn follow(&self, failures: &mut u32) -> Result<(), Broken> {
        let channel = Arc::new(self.connect().await?);
        let mut updates = match watch_all(&channel).await {
            Err(status) if status.code() == Code::Unauthenticated => {
                self.attest(&channel).await?;
                watch_all(&channel).await?
            }
            other => other?,
        };
        let mut first = true;
        while let Some(mut update) = updates.message().await? {
            *lock(&self.time) = Some((Timestamp::from_unix_nanos(update.now), self.clock.monotonic()));
            let services = std::mem::take(&mut update.services);
            if update.beat {
                self.take_endpoints(services, false)?;
                continue;
            }
            let node = update.node.clone();
            self.take(update)?;
            self.take_endpoints(services, first)?;
            *failures = 0;
            if first {
                tracing::info!(server = self.server, node, "mesh: connected to the control plane");
                *lock(&self.channel) = Some(Arc::clone(&channel));
                // Whoever waits to try again tries now.
                self.authorities.send_modify(|_| {});
                self.met.send_replace(true);
                first = false;
            }
        }
        Ok(())
    }

    async fn connect(&self) -> Result<Channel, Error> {
        let fault = |source| Error::Socket { place: self.server.clone(), source };
        let late = |_| fault(std::io::ErrorKind::TimedOut.into());
        let opened = async {
            let stream = TcpStream::connect(self.server.as_str()).await.map_err(fault)?;
            *lock(&self.here) = stream.local_addr().ok().map(|address| address.ip());
            let config = Arc::new(self.key.client(self.server_pin)?);
            // The key is what counts, not the name.
            let name = ServerName::try_from("control-plane")
                .map_err(|_| fault(std::io::ErrorKind::InvalidInput.into()))?;
            let stream = TlsConnector::from(config).connect(name, stream).await.map_err(fault)?;
            Channel::open(stream, UPDATE_BYTES_MAX).await.map_err(fault)
        };
        tokio::time::timeout(ANSWER_TIME_MAX, opened).await.map_err(late)?
    }

    async fn attest(&self, channel: &Channel) -> Result<(), Broken> {
        let own = self.key.pin().ok_or_else(|| Error::Record("the node's key has no pin".to_owned()))?;
        let request = self.prover.request(own, self.server_pin)?;
        let codec = ProstCodec::<AttestRequest, AttestResponse>::default();
        let path = PathAndQuery::from_static(ATTEST);
        let answer = channel.grpc().unary(Request::new(request), path, codec).await;
        let answer = answer.map_err(|status| Broken::Fault(format!("not attested: {}", status.message())))?;
        let AttestResponse { node, .. } = answer.into_inner();
        tracing::info!(node, server = self.server, "mesh: this node is attested");
        Ok(())
    }

    /// Takes what the control plane says, whole or not at all; of other trust domains, each by itself.
    fn take(&self, update: Update) -> Result<(), Error> {
        let own = Bundle::parse(&update.trust_domain, update.bundle.as_bytes())?;
        let authorities = AuthoritySet::elsewhere(own, update.good.into_iter().collect())?;
        let mut foreign: Foreign = BTreeMap::new();
        for other in update.foreign {
            // INVARIANT: a bundle of another trust domain keeps nothing else from counting, least of all what is
            // taken back. Who cannot be read is not trusted.
            match Bundle::parse(&other.trust_domain, other.bundle.as_bytes()) {
                Ok(bundle) => drop(foreign.insert(other.trust_domain, bundle)),
                Err(error) => {
                    tracing::error!(%error, "mesh: another trust domain is not trusted here");
                }
            }
        }
        let unreadable =
            |what: &str| Error::Record(format!("the control plane says {what:?}, which cannot be read"));
        let name = |text: &String| text.parse::<SpiffeId>().map_err(|_| unreadable(text));
        let identities = update.revoked_identities.iter().map(name).collect::<Result<Vec<_>, _>>()?;
        let since = |one: &Lifted| Ok::<_, Error>((name(&one.id)?, Timestamp::from_unix_nanos(one.since)));
        let lifted = update.lifted.iter().map(since).collect::<Result<Vec<_>, _>>()?;
        let number = |text: &String| serial(text).ok_or_else(|| unreadable(text));
        let serials = update.revoked_serials.iter().map(number).collect::<Result<Vec<_>, _>>()?;
        let workload = |one: Registered| -> Result<Workload, Error> {
            Ok(Workload {
                name: String::new(),
                id: name(&one.id)?,
                hint: one.hint,
                conditions: Conditions {
                    uid: one.uid,
                    gid: one.gid,
                    path: one.path,
                    sha256: one.sha256,
                    unit: one.unit,
                    container: one.container,
                },
                nodes: Vec::new(),
            })
        };
        let list = update.workloads.into_iter().map(workload).collect::<Result<Vec<_>, _>>()?;
        // First who is taken back, then who is trusted, then who is known.
        renew(&self.revoked, Revoked::of(serials, identities).with_lifted(lifted));
        renew_by(&self.authorities, authorities, AuthoritySet::differs);
        renew(&self.foreign, foreign);
        renew(&self.workloads, Workloads { list });
        Ok(())
    }

    /// Takes where services are; all of them, where whoever tells has just begun.
    fn take_endpoints(&self, services: Vec<ServiceAt>, all: bool) -> Result<(), Error> {
        let now = self.clock.monotonic();
        {
            let mut held = lock(&self.held);
            if all {
                held.begin(now);
            }
            held.take(services, now).map_err(Error::Record)?;
        }
        self.show_endpoints();
        Ok(())
    }

    /// What counts now of what was told.
    fn show_endpoints(&self) {
        renew(&self.endpoints, lock(&self.held).shown(self.clock.monotonic()));
    }

    /// Says something about an address of a workload.
    async fn say(&self, path: &'static str, id: &SpiffeId, address: SocketAddr) -> Result<bool, Error> {
        let channel = self.channel()?;
        let request = EndpointRequest { id: id.as_str().to_owned(), address: address.to_string() };
        let codec = ProstCodec::<EndpointRequest, EndpointResponse>::default();
        let mut grpc = channel.grpc();
        let asked = grpc.unary(Request::new(request), PathAndQuery::from_static(path), codec);
        Ok(in_time(asked).await?.into_inner().known)
    }

    fn channel(&self) -> Result<Arc<Channel>, Error> {
        let channel = lock(&self.channel).clone();
        channel.ok_or_else(|| Error::Unavailable("the control plane does not answer".to_owned()))
    }

    async fn ask_x509(&self, id: &SpiffeId, key: &WorkloadKey) -> Result<IssuedX509, Error> {
        let channel = self.channel()?;
        let request = Request::new(IssueRequest { id: id.as_str().to_owned(), key: key.to_spki() });
        let codec = ProstCodec::<IssueRequest, IssueResponse>::default();
        let mut grpc = channel.grpc();
        let asked = grpc.unary(request, PathAndQuery::from_static(ISSUE), codec);
        let answer = in_time(asked).await?.into_inner();
        let not_after = Timestamp::from_unix_nanos(answer.not_after);
        let now = self.now();
        let mut given = lock(&self.given);
        given.retain(|_, ends| now < *ends);
        given.insert(id.clone(), not_after);
        Ok(IssuedX509 {
            id: id.clone(),
            chain: answer.chain,
            serial: answer.serial,
            not_after,
            authority: answer.authority,
        })
    }

    /// A token; while the control plane does not answer, the last one for the same audiences
    /// that is still good.
    async fn ask_jwt(&self, id: &SpiffeId, audiences: &[String]) -> Result<(String, Timestamp), Error> {
        let place = (id.clone(), audiences.to_vec());
        let asked = async {
            let channel = self.channel()?;
            let request = IssueJwtRequest { id: id.as_str().to_owned(), audience: audiences.to_vec() };
            let codec = ProstCodec::<IssueJwtRequest, IssueJwtResponse>::default();
            let mut grpc = channel.grpc();
            let asked = grpc.unary(Request::new(request), PathAndQuery::from_static(ISSUE_JWT), codec);
            let answer = in_time(asked).await?.into_inner();
            Ok((answer.token, Timestamp::from_unix_nanos(answer.ends)))
        };
        let now = self.now();
        match asked.await {
            Ok((token, ends)) => {
                let mut tokens = lock(&self.tokens);
                tokens.retain(|_, (_, ends)| now < *ends);
                if tokens.len() < TOKENS_MAX {
                    tokens.insert(place, (token.clone(), ends));
                }
                Ok((token, ends))
            }
            // Nobody signs now, or no more for this node.
            Err(error @ (Error::Unavailable(_) | Error::Exhausted(_))) => {
                let kept = lock(&self.tokens).get(&place).cloned();
                kept.filter(|(_, ends)| now < *ends).ok_or(error)
            }
            Err(other) => Err(other),
        }
    }
}

async fn watch_all(channel: &Channel) -> Result<tonic::Streaming<Update>, Status> {
    let codec = ProstCodec::<WatchRequest, Update>::default();
    let path = PathAndQuery::from_static(WATCH);
    Ok(channel.grpc().server_streaming(Request::new(WatchRequest {}), path, codec).await?.into_inner())
}

/// What the control plane answers, within a time.
async fn in_time<T>(asked: impl Future<Output = Result<T, Status>>) -> Result<T, Error> {
    let answer = tokio::time::timeout(ANSWER_TIME_MAX, asked).await;
    let answer =
        answer.map_err(|_| Error::Unavailable("the control plane does not answer in time".to_owned()))?;
    answer.map_err(|status| match status.code() {
        Code::PermissionDenied => Error::Revoked(status.message().to_owned()),
        Code::InvalidArgument => Error::Token(status.message().to_owned()),
        Code::ResourceExhausted => Error::Exhausted(status.message().to_owned()),
        _ => Error::Unavailable(said(&status)),
    })
}

impl Directory for Remote {
    fn here(&self) -> Option<IpAddr> {
        *lock(&self.here)
    }

    fn watch_endpoints(&self) -> watch::Receiver<Arc<Endpoints>> {
        self.endpoints.subscribe()
    }

    fn register_endpoint<'a>(&'a self, id: &'a SpiffeId, address: SocketAddr) -> Answer<'a, ()> {
        Box::pin(async move { self.say(REGISTER, id, address).await.map(drop) })
    }

    fn withdraw_endpoint<'a>(&'a self, id: &'a SpiffeId, address: SocketAddr) -> Answer<'a, bool> {
        Box::pin(self.say(WITHDRAW, id, address))
    }
}

impl Issuer for Remote {
    /// The control plane's time, as long as it has said one: this machine's may be wrong.
    fn now(&self) -> Timestamp {
        match *lock(&self.time) {
            Some((said, at)) => said.plus(self.clock.monotonic().saturating_sub(at)),
            None => self.clock.now(),
        }
    }

    fn random(&self) -> &(dyn SecureRandom + Send + Sync) {
        self.random.as_ref()
    }

    fn watch(&self) -> watch::Receiver<Arc<AuthoritySet>> {
        self.authorities.subscribe()
    }

    fn watch_revoked(&self) -> watch::Receiver<Arc<Revoked>> {
        self.revoked.subscribe()
    }

    fn x509<'a>(&'a self, id: &'a SpiffeId, key: &'a WorkloadKey) -> Answer<'a, IssuedX509> {
        Box::pin(self.ask_x509(id, key))
    }

    fn jwt<'a>(&'a self, id: &'a SpiffeId, audiences: &'a [String]) -> Answer<'a, (String, Timestamp)> {
        Box::pin(self.ask_jwt(id, audiences))
    }
}
