//! The control plane's listener for agents: mutual TLS, then who they are.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin as Pinned;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use model::SpiffeId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::server::Grpc;
use tonic::transport::server::Connected;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::{Service, service_fn};

use super::allowances::Allowances;
use super::connection_limits::ConnectionLimits;
use super::documents;
use super::endpoints;
use super::key::Pin;
use super::messages::{
    AttestRequest, AttestResponse, ForeignBundle, Lifted, Registered, Update, WatchRequest,
};
use super::proof::{Proof, Provers};
use super::register::{self, NodeRecord};
use crate::allowance::Asked;
use crate::directory::{Directory as _, Endpoints};
use crate::error::Error;
use crate::grpc::{self, Leashed};
use crate::left_out::{LeftOut, with_others};
use crate::message::{Incoming, Sends, incoming};
use crate::quota::Quota;
use crate::trust_domain::TrustDomain;
use crate::workload::{Workload, Workloads};
use crate::workload_api::{AuditRecorder, Event, Foreign, MESSAGE_BYTES_MAX};

pub(super) const ATTEST: &str = "/bastide.mesh.v1.Nodes/Attest";
pub(super) const WATCH: &str = "/bastide.mesh.v1.Nodes/Watch";

/// How long a handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// How often a connected agent is looked after: is it attested still, and for how long.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Most calls of one agent at once.
const STREAMS_MAX: u32 = 256;
/// Most calls of one connection that are refused one by one because its node is not attested, before its proof and
/// after it.
pub(super) const STRANGER_CALLS_MAX: usize = 8;
/// Largest message of whoever is not attested, bytes: a proof.
pub(super) const PROOF_BYTES_MAX: usize = 16 * 1024;
/// Most messages of one key that have not come to their end at once.
pub(super) const UNFINISHED_PER_KEY_MAX: usize = 64;
/// Most of all.
const UNFINISHED_MAX: usize = 4_096;
/// Most calls of one key at once that follow what there is to know: each holds an update until that is read.
pub(super) const WATCHES_PER_KEY_MAX: usize = 8;
/// Most of all: every agent has one, and one more while it connects again.
const WATCHES_MAX: usize = 20_000;
/// Largest update, bytes.
pub(super) const UPDATE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// A connection on which nothing comes back to a ping for so long is closed.
const PING_EVERY: Duration = Duration::from_secs(20);
/// After the system gave no connection, such as for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What there is to call.
const METHODS: [&str; 6] =
    [ATTEST, WATCH, documents::ISSUE, documents::ISSUE_JWT, endpoints::REGISTER, endpoints::WITHDRAW];

/// What the listener is given of the world.
#[derive(Clone)]
pub struct NodeWorld {
    /// Who signs.
    pub domain: Arc<TrustDomain>,
    /// Who is known, on whichever node.
    pub workloads: watch::Receiver<Arc<Workloads>>,
    /// Whom we trust besides.
    pub foreign: watch::Receiver<Arc<Foreign>>,
    /// Who writes down what was given and refused.
    pub recorder: Arc<dyn AuditRecorder>,
    /// How nodes may be attested, and for how long.
    pub provers: watch::Receiver<Arc<Provers>>,
    /// How often each node may ask.
    pub allowances: Allowances,
}

impl NodeWorld {
    fn lifetime(&self) -> Duration {
        self.provers.borrow().lifetime
    }
}

/// The listener for agents. Dropped, it and every connection are gone.
#[derive(Debug)]
pub struct NodeListener {
    address: SocketAddr,
    socket: std::net::TcpListener,
    pin: Pin,
    tasks: [JoinHandle<()>; 2],
    _leash: Arc<watch::Sender<()>>,
}

impl NodeListener {
    /// Listens for agents.
    ///
    /// # Errors
    /// [`Error::Socket`]; the store or the cryptographic library fails.
    pub async fn listen(address: SocketAddr, world: NodeWorld) -> Result<Self, Error> {
        let fault = |source| Error::Socket { place: address.to_string(), source };
        Self::on(std::net::TcpListener::bind(address).map_err(fault)?, world).await
    }

    /// Serves agents at a socket that listens, which others may serve at the same time.
    ///
    /// # Errors
    /// As [`Self::listen`].
    pub async fn on(socket: std::net::TcpListener, world: NodeWorld) -> Result<Self, Error> {
        let key = register::server_signer(world.domain.store(), world.domain.random()).await?;
        let pin = key.pin().ok_or_else(|| Error::Record("the control plane's key has no pin".to_owned()))?;
        let fault = |source| Error::Socket { place: "the listener for agents".to_owned(), source };
        let address = socket.local_addr().map_err(fault)?;
        socket.set_nonblocking(true).map_err(fault)?;
        let listener = socket.try_clone().and_then(TcpListener::from_std).map_err(fault)?;
        let acceptor = TlsAcceptor::from(Arc::new(key.server()?));
        let (sender, receiver) = mpsc::channel(16);
        let leash = Arc::new(watch::Sender::new(()));
        let places = Arc::new(ConnectionLimits::new(world.domain.store().clone()));
        let accepting = tokio::spawn(accept(listener, acceptor, places, sender, Arc::downgrade(&leash)));
        let unfinished = Quota::new(UNFINISHED_PER_KEY_MAX, UNFINISHED_MAX);
        let watches = Quota::new(WATCHES_PER_KEY_MAX, WATCHES_MAX);
        let api = Api { world: Arc::new(world), server_pin: pin, unfinished, watches };
        let serving = tokio::spawn(async move {
            let server =
                grpc::server(STREAMS_MAX, PING_EVERY).serve_with_incoming(api, ReceiverStream::new(receiver));
            if let Err(error) = server.await {
                tracing::error!(%error, "mesh: the listener for agents ended");
            }
        });
        Ok(Self { address, socket, pin, tasks: [accepting, serving], _leash: leash })
    }

    /// Its socket, for whoever serves there next.
    ///
    /// # Errors
    /// What the system said.
    pub fn socket(&self) -> io::Result<std::net::TcpListener> {
        self.socket.try_clone()
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What agents know it by.
    pub fn pin(&self) -> Pin {
        self.pin
    }
}

impl Drop for NodeListener {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    places: Arc<ConnectionLimits>,
    sender: mpsc::Sender<io::Result<Connection>>,
    leash: Weak<watch::Sender<()>>,
) {
    let mut left_out = LeftOut::default();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Some(turn) = places.handshake(from) else {
            if let Some(more) = left_out.one(tokio::time::Instant::now()) {
                tracing::warn!(%from, more, "mesh: too many TLS handshakes of agents at once");
            }
            continue;
        };
        let (acceptor, sender, leash) = (acceptor.clone(), sender.clone(), Weak::clone(&leash));
        let places = Arc::clone(&places);
        tokio::spawn(async move {
            let _turn = turn;
            match tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
                    let Some(pin) = certificates.first().and_then(|leaf| Pin::of(leaf)) else { return };
                    let Some(leash) = leash.upgrade() else { return };
                    let end = Peer::new(Agent { pin, from });
                    let connection = Leashed::until(places.stay(pin, from), stream, &leash, end);
                    let _ = sender.send(Ok(connection)).await;
                }
                Ok(Err(error)) => {
                    tracing::debug!(%from, %error, "mesh: the TLS handshake with an agent failed")
                }
                Err(_) => tracing::debug!(%from, "mesh: the TLS handshake with an agent took too long"),
            }
        });
    }
}

/// Who is at the other end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Agent {
    pin: Pin,
    pub(super) from: SocketAddr,
}

/// Of a connection.
#[derive(Clone, Debug)]
struct Peer {
    agent: Agent,
    /// Whether it has shown a proof: each costs a handshake, and with it a stranger's place.
    has_shown: Arc<AtomicBool>,
    /// How many of its calls were refused because its node is not attested.
    refused: Arc<AtomicUsize>,
}

impl Peer {
    fn new(agent: Agent) -> Self {
        Self { agent, has_shown: Arc::default(), refused: Arc::default() }
    }
}

type Connection = Leashed<TlsStream<TcpStream>, Peer>;

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.kept.clone()
    }
}

/// The methods by path.
#[derive(Clone)]
pub(super) struct Api {
    pub(super) world: Arc<NodeWorld>,
    server_pin: Pin,
    /// Messages that have not come to their end.
    unfinished: Arc<Quota<Pin>>,
    /// Calls that follow what there is to know.
    watches: Arc<Quota<Pin>>,
}

impl Service<http::Request<Body>> for Api {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pinned<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let api = self.clone();
        Box::pin(async move { Ok(api.answer(request).await) })
    }
}

impl Api {
    async fn answer(self, request: http::Request<Body>) -> http::Response<Body> {
        let Some(method) = METHODS.into_iter().find(|method| *method == request.uri().path()) else {
            return Status::unimplemented("no such method").into_http();
        };
        let Some(peer) = request.extensions().get::<Peer>().cloned() else {
            return Status::internal("no agent").into_http();
        };
        match self.admit(method, &peer, request).await {
            Ok(request) => self.dispatch(method, peer.agent, request).await,
            Err(status) => status.into_http(),
        }
    }

    /// Lets in an attested node, and whoever shows the one proof of this connection, with what they go on to say.
    ///
    /// INVARIANT: of anybody else no message is read. Who it is is asked again when it has come.
    async fn admit(
        &self,
        method: &'static str,
        peer: &Peer,
        request: http::Request<Body>,
    ) -> Result<http::Request<Incoming<Body, Pin>>, Status> {
        if method == ATTEST {
            if peer.has_shown.swap(true, Ordering::Relaxed) {
                return Err(Status::resource_exhausted("a proof was shown on this connection already"));
            }
            peer.refused.store(0, Ordering::Relaxed);
        } else if peer.refused.load(Ordering::Relaxed) >= STRANGER_CALLS_MAX {
            return Err(Status::resource_exhausted("too many calls of a node that is not attested"));
        } else if let Err(status) = self.node(peer.agent).await {
            peer.refused.fetch_add(1, Ordering::Relaxed);
            return Err(status);
        }
        incoming(request, Sends::One, &self.unfinished, peer.agent.pin)
    }

    async fn dispatch(
        self,
        method: &'static str,
        agent: Agent,
        request: http::Request<Incoming<Body, Pin>>,
    ) -> http::Response<Body> {
        let message_bytes_max = if method == ATTEST { PROOF_BYTES_MAX } else { MESSAGE_BYTES_MAX };
        /// One arm per method.
        macro_rules! method {
            ($kind:ident, $call:path) => {{
                let api = self;
                let service =
                    service_fn(move |request: Request<_>| $call(api.clone(), agent, request.into_inner()));
                let codec = Grpc::new(ProstCodec::default());
                let mut codec = codec
                    .max_decoding_message_size(message_bytes_max)
                    .max_encoding_message_size(UPDATE_BYTES_MAX);
                codec.$kind(service, request).await
            }};
        }
        match method {
            ATTEST => method!(unary, attest),
            WATCH => method!(server_streaming, watch_all),
            documents::ISSUE => method!(unary, documents::issue),
            documents::ISSUE_JWT => method!(unary, documents::issue_jwt),
            endpoints::REGISTER => method!(unary, endpoints::register),
            endpoints::WITHDRAW => method!(unary, endpoints::withdraw),
            _ => Status::unimplemented("no such method").into_http(),
        }
    }

    /// The node of this agent's key.
    pub(super) async fn node(&self, agent: Agent) -> Result<NodeRecord, Status> {
        let found = register::find(self.world.domain.store(), agent.pin).await.map_err(failed)?;
        found.ok_or_else(|| Status::unauthenticated("this node is not attested"))
    }

    pub(super) fn event(&self, call: &'static str, node: &str) -> Event {
        Event {
            time: self.world.domain.now(),
            call,
            node: node.to_owned(),
            pid: 0,
            uid: 0,
            id: None,
            document: String::new(),
            expires: None,
            refused: String::new(),
        }
    }

    /// Writes down what is about to be given.
    pub(super) async fn give(&self, event: Event) -> Result<(), Status> {
        match self.world.recorder.record(event).await {
            true => Ok(()),
            false => Err(Status::unavailable("the audit log takes no event")),
        }
    }

    /// Writes down that a node got nothing, and says so in the log: of one node, or of one network where it is none,
    /// only so often, and then how many more there were.
    pub(super) async fn refuse(&self, call: &'static str, node: &str, from: SocketAddr, reason: String) {
        let Some(left_out) = self.world.allowances.refusal(node, from) else { return };
        let reason = with_others(reason, left_out, "from there");
        tracing::warn!(call, node, %from, reason, "mesh: a call of an agent is refused");
        let _ = self.world.recorder.record(Event { refused: reason, ..self.event(call, node) }).await;
    }

    /// Takes what is asked of what the node may have.
    pub(super) async fn allow(
        &self,
        call: &'static str,
        node: &str,
        from: SocketAddr,
        asked: Asked,
    ) -> Result<(), Status> {
        if self.world.allowances.take(node, asked) {
            return Ok(());
        }
        let why = format!("this node asks for too many {asked}");
        let told = Status::resource_exhausted(format!("{why}; try again later"));
        self.refuse(call, node, from, why).await;
        Err(told)
    }

    /// What is said when a workload was taken back of which this process was not told yet.
    pub(super) async fn taken_back(
        &self,
        call: &'static str,
        node: &str,
        from: SocketAddr,
        why: String,
    ) -> Status {
        self.refuse(call, node, from, why).await;
        Status::permission_denied("this workload is revoked")
    }

    /// The workload that is registered for a node under this name.
    pub(super) async fn registered(
        &self,
        call: &'static str,
        node: &str,
        from: SocketAddr,
        id: &str,
    ) -> Result<SpiffeId, Status> {
        let there = self.world.workloads.borrow().on(Some(node));
        let found = there.list.into_iter().find(|workload| workload.id.as_str() == id);
        let revoked = self.world.domain.revoked();
        match found.map(|workload| workload.id) {
            Some(id) if revoked.has_identity(&id) => {
                Err(self.taken_back(call, node, from, format!("{id} is revoked")).await)
            }
            Some(id) => Ok(id),
            None => {
                self.refuse(call, node, from, format!("{id:?} is not registered for this node")).await;
                Err(Status::permission_denied("no such workload is registered for this node"))
            }
        }
    }
}

/// What cannot be done now.
pub(super) fn failed(error: Error) -> Status {
    tracing::error!(%error, "mesh: a call of an agent failed");
    Status::unavailable("it cannot be done at the moment")
}

async fn attest(api: Api, agent: Agent, request: AttestRequest) -> Result<Response<AttestResponse>, Status> {
    let (world, store) = (&api.world, api.world.domain.store());
    let proof = match request {
        AttestRequest { token, .. } if !token.is_empty() => Proof::Token(token),
        AttestRequest { kubernetes, .. } if !kubernetes.is_empty() => Proof::Kubernetes(kubernetes),
        AttestRequest { chain, statement, .. } => Proof::X509 { chain, statement },
    };
    let provers = Arc::clone(&world.provers.borrow());
    let shown = match &proof {
        Proof::Token(secret) => {
            let token = register::look(store, secret).await.map_err(failed)?;
            let token = token.ok_or_else(|| {
                "its join token is unknown, used or expired, or its node was evicted since".to_owned()
            });
            token.map(|token| (token.node.clone(), "token", Some(token)))
        }
        other => {
            let by = if matches!(other, Proof::X509 { .. }) { "x509" } else { "kubernetes" };
            let judged = provers.judge(other, agent.pin, api.server_pin, world.domain.now());
            judged.map(|node| (node, by, None)).map_err(|why| why.to_string())
        }
    };
    // What is wrong with a chain or a statement is for whoever reads the log here.
    let may_be_told = shown.is_ok() || matches!(proof, Proof::Token(_));
    let why = match shown {
        Ok((node, ..)) if register::is_kept_out(store, &node).await.map_err(failed)? => {
            format!("{node} was evicted")
        }
        Ok((node, ..)) if register::is_full(store, &node, agent.pin).await.map_err(failed)? => {
            format!("{} keys of {node} are attested already", register::KEYS_PER_NODE_MAX)
        }
        Ok((node, by, token)) => {
            let record = NodeRecord::new(node, by, agent.pin, world.domain.now(), world.lifetime());
            let document = format!("node {} by {}", record.node, record.by);
            let event = Event { document, expires: Some(record.ends), ..api.event(ATTEST, &record.node) };
            // INVARIANT: nobody is let in before it is written down who.
            api.give(event).await?;
            if register::admit(store, agent.pin, &record, token).await.map_err(failed)? {
                tracing::info!(node = record.node, by = record.by, from = %agent.from, "mesh: a node is attested");
                return Ok(Response::new(AttestResponse {
                    node: record.node,
                    ends: record.ends.unix_seconds(),
                }));
            }
            "at the same moment its join token was used by another one, or it was evicted".to_owned()
        }
        Err(why) => why,
    };
    let told = if may_be_told { why.clone() } else { "the log of the control plane says why".to_owned() };
    api.refuse(ATTEST, "", agent.from, why).await;
    Err(Status::permission_denied(told))
}

async fn watch_all(
    api: Api,
    agent: Agent,
    _: WatchRequest,
) -> Result<Response<ReceiverStream<Result<Update, Status>>>, Status> {
    let node = api.node(agent).await?;
    let watch = api.watches.take(agent.pin);
    let watch =
        watch.ok_or_else(|| Status::resource_exhausted("too many calls of this node follow it already"))?;
    let world = Arc::clone(&api.world);
    let (mut authorities, mut revoked) = (world.domain.watch(), world.domain.watch_revoked());
    let (mut workloads, mut foreign) = (world.workloads.clone(), world.foreign.clone());
    let mut known = world.domain.watch_endpoints();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let (_watch, mut told) = (watch, Arc::<Endpoints>::default());
        loop {
            authorities.mark_unchanged();
            revoked.mark_unchanged();
            workloads.mark_unchanged();
            foreign.mark_unchanged();
            let services = endpoints::news(&mut known, &mut told);
            if sender.send(Ok(Update { services, ..update(&world, &node.node) })).await.is_err() {
                return;
            }
            let mut changed = false;
            while !changed {
                tokio::select! {
                    () = sender.closed() => return,
                    Ok(()) = authorities.changed() => changed = true,
                    Ok(()) = revoked.changed() => changed = true,
                    Ok(()) = workloads.changed() => changed = true,
                    Ok(()) = foreign.changed() => changed = true,
                    Ok(()) = known.changed() => {}
                    () = tokio::time::sleep(LOOK_EVERY.min(world.lifetime() / 4)) => {}
                }
                if let Err(status) = stays(&api, agent).await {
                    let _ = sender.send(Err(status)).await;
                    return;
                }
                if !changed {
                    let (now, services) =
                        (world.domain.now().unix_nanos(), endpoints::news(&mut known, &mut told));
                    let beat = Update { beat: true, now, services, ..Update::default() };
                    if sender.send(Ok(beat)).await.is_err() {
                        return;
                    }
                }
            }
        }
    });
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// Whether a node is attested still; while it is there it stays so.
async fn stays(api: &Api, agent: Agent) -> Result<(), Status> {
    let record = api.node(agent).await?;
    let world = &api.world;
    if record.ends.since(world.domain.now()) < world.lifetime() / 2 {
        let done = register::prolong(world.domain.store(), agent.pin, world.lifetime()).await;
        if !done.map_err(failed)? {
            return Err(Status::unauthenticated("this node is not attested any more"));
        }
    }
    Ok(())
}

/// Everything that a node needs to know.
fn update(world: &NodeWorld, node: &str) -> Update {
    let (authorities, revoked) = (world.domain.authorities(), world.domain.revoked());
    let known = Arc::clone(&world.foreign.borrow());
    let foreign = known
        .iter()
        .map(|(name, bundle)| ForeignBundle { trust_domain: name.clone(), bundle: bundle.to_document() });
    let foreign = foreign.collect();
    Update {
        now: world.domain.now().unix_nanos(),
        trust_domain: authorities.bundle.trust_domain.clone(),
        bundle: authorities.bundle.to_document(),
        good: authorities.good().map(str::to_owned).collect(),
        foreign,
        workloads: world.workloads.borrow().on(Some(node)).list.iter().map(registered).collect(),
        revoked_serials: revoked.serials().map(str::to_owned).collect(),
        revoked_identities: revoked.identities().map(|id| id.as_str().to_owned()).collect(),
        lifted: revoked
            .lifted()
            .map(|(id, since)| Lifted { id: id.as_str().to_owned(), since: since.unix_nanos() })
            .collect(),
        beat: false,
        node: node.to_owned(),
        services: Vec::new(),
    }
}

fn registered(workload: &Workload) -> Registered {
    let conditions = workload.conditions.clone();
    Registered {
        id: workload.id.as_str().to_owned(),
        hint: workload.hint.clone(),
        uid: conditions.uid,
        gid: conditions.gid,
        path: conditions.path,
        sha256: conditions.sha256,
        unit: conditions.unit,
        container: conditions.container,
    }
}
