use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use keys::{Algorithm, LocalSigner, Signer as _, SystemRandom, publish, sign_token};
use model::Clock as _;
use serde_json::json;
use store::{Expect, Store, Transaction, Value};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic_prost::ProstCodec;

use super::connection_limits::PER_NETWORK_MAX;
use super::messages::{AttestRequest, AttestResponse, IssueRequest, IssueResponse};
use super::*;
use crate::Declared;
use crate::digest::Digests;
use crate::directory::Directory as _;
use crate::error::Error;
use crate::grpc::Channel;
use crate::issuer::Issuer as _;
use crate::revocation::Target;
use crate::settings::{Lifetimes, Settings};
use crate::testing::{Hands, NOW, Notes, Real, declared, verifies, workload_key};
use crate::trust_domain::TrustDomain;
use crate::workload::{Conditions, Workload, Workloads};
use crate::workload_api::{Client, Code, Foreign, Refusals, Socket, SvidCache, World};

mod floods;

const PATIENCE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// The real clock, wrong by so many seconds, and moved on by hand besides: of the latter, all know.
#[derive(Clone, Default)]
struct Offset {
    wrong_by: i64,
    moved: Arc<AtomicU64>,
}

impl Offset {
    fn wrong_by(wrong_by: i64) -> Self {
        Self { wrong_by, ..Self::default() }
    }

    fn forward(&self, by: Duration) {
        self.moved.fetch_add(by.as_secs(), Ordering::SeqCst);
    }

    fn moved(&self) -> Duration {
        Duration::from_secs(self.moved.load(Ordering::SeqCst))
    }
}

impl model::Clock for Offset {
    fn now(&self) -> model::Timestamp {
        let by = SECOND * u32::try_from(self.wrong_by.unsigned_abs()).unwrap();
        let now = Real.now().plus(self.moved());
        if self.wrong_by < 0 { now.minus(by) } else { now.plus(by) }
    }

    fn monotonic(&self) -> Duration {
        // Of the machine: what is waited here is waited really.
        static BEGAN: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "agents are tested in seconds of the machine")]
        let passed = BEGAN.get_or_init(std::time::Instant::now).elapsed();
        passed + self.moved()
    }
}

/// A control plane.
struct Control {
    domain: Arc<TrustDomain>,
    store: Store,
    workloads: watch::Sender<Arc<Workloads>>,
    foreign: watch::Sender<Arc<Foreign>>,
    notes: Arc<Notes>,
    provers: watch::Sender<Arc<Provers>>,
    allowances: Allowances,
    clock: Offset,
    listener: Option<NodeListener>,
    address: SocketAddr,
    /// Has the port also while the listener is closed, so that nobody else is given it.
    _reserved: TcpSocket,
}

fn on(node: &str, name: &str) -> Workload {
    let uid = vec![rustix::process::geteuid().as_raw()];
    Workload {
        name: name.to_owned(),
        id: format!("spiffe://shop.example/{name}").parse().unwrap(),
        hint: name.to_owned(),
        conditions: Conditions { uid, ..Conditions::default() },
        nodes: if node.is_empty() { Vec::new() } else { vec![node.to_owned()] },
    }
}

impl Control {
    async fn new(lifetimes: Lifetimes, provers: Provers) -> Self {
        Self::allowing(Allowances::default(), lifetimes, provers).await
    }

    async fn allowing(allowances: Allowances, lifetimes: Lifetimes, provers: Provers) -> Self {
        let clock = Offset::default();
        let store = Store::in_memory(Arc::new(clock.clone())).unwrap();
        let settings = Settings { lifetimes, ..Settings::new("shop.example") };
        let random = Arc::new(SystemRandom::new());
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let domain = TrustDomain::open(settings, store.clone(), random).await.unwrap();
        domain.declare(declared(&["orders", "payments", "local"]));
        tokio::spawn(Arc::clone(&domain).run(Arc::<Notes>::default()));
        let list = vec![on("edge-1", "orders"), on("edge-2", "payments"), on("", "local")];
        let mut control = Self {
            domain,
            store,
            workloads: watch::Sender::new(Arc::new(Workloads { list })),
            foreign: watch::Sender::new(Arc::default()),
            notes: Arc::default(),
            provers: watch::Sender::new(Arc::new(provers)),
            allowances,
            clock,
            listener: None,
            address: reserved.local_addr().unwrap(),
            _reserved: reserved,
        };
        control.open().await;
        control
    }

    async fn usual() -> Self {
        Self::new(Lifetimes::default(), Provers::default()).await
    }

    /// Opens its listener where it was.
    async fn open(&mut self) {
        let world = NodeWorld {
            domain: Arc::clone(&self.domain),
            workloads: self.workloads.subscribe(),
            foreign: self.foreign.subscribe(),
            recorder: self.notes.clone(),
            provers: self.provers.subscribe(),
            allowances: self.allowances.clone(),
        };
        self.listener = Some(NodeListener::listen(self.address, world).await.unwrap());
    }

    /// Closes it, until the agent has seen that.
    async fn close(&mut self, agent: &Agent) {
        self.listener = None;
        until("its absence", async || {
            let asked = agent.remote.x509(&on("", "nobody").id, &workload_key()).await;
            matches!(asked, Err(Error::Unavailable(_))).then_some(())
        })
        .await;
    }

    fn pin(&self) -> Pin {
        self.listener.as_ref().unwrap().pin()
    }

    async fn token(&self, node: &str) -> JoinToken {
        make_token(&self.domain, node, Duration::from_secs(600)).await.unwrap()
    }

    async fn agent(&self, prover: Prover) -> Agent {
        Agent::start(self.address, self.pin(), prover, self.clock.clone()).await
    }

    fn refusals(&self) -> Vec<String> {
        let events = self.notes.events.lock().unwrap();
        events.iter().map(|event| event.refused.clone()).filter(|why| !why.is_empty()).collect()
    }
}

/// An agent with its socket.
struct Agent {
    remote: Arc<Remote>,
    task: tokio::task::JoinHandle<()>,
    socket: Socket,
    _folder: tempfile::TempDir,
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Agent {
    async fn start(server: SocketAddr, pin: Pin, prover: Prover, clock: Offset) -> Self {
        let random = Arc::new(SystemRandom::new());
        let key = NodeKey::generate(NOW, random.as_ref()).unwrap();
        let clock = Arc::new(clock);
        let remote = Remote::new(server.to_string(), pin, key, prover, clock, random).unwrap();
        let task = tokio::spawn(Arc::clone(&remote).run());
        let world = World {
            domain: remote.clone(),
            directory: remote.clone(),
            workloads: remote.workloads(),
            foreign: remote.foreign(),
            recorder: Arc::new(Notes::default()),
            svid_cache: SvidCache::default(),
            refusals: Refusals::default(),
            digests: Digests::default(),
            allowances: crate::workload_api::Allowances::default(),
        };
        let folder = tempfile::tempdir().unwrap();
        let socket = Socket::listen(&folder.path().join("api.sock"), world).unwrap();
        Self { remote, task, socket, _folder: folder }
    }

    async fn met(&self) -> bool {
        timeout(PATIENCE, self.remote.met()).await.is_ok()
    }

    async fn client(&self) -> Client {
        Client::connect(self.socket.path()).await.unwrap()
    }

    /// The serial-like mark of the first certificate that a new client gets.
    async fn first(&self) -> Result<Vec<u8>, tonic::Status> {
        let context = self.client().await.x509().await?.next().await?.unwrap();
        Ok(context.identities[0].chain[0].clone())
    }
}

async fn until<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let waited = timeout(PATIENCE, async {
        loop {
            if let Some(found) = found().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// How a token is refused that is not good.
const VOID: &str = "its join token is unknown, used or expired, or its node was evicted since";

#[tokio::test]
async fn a_node_joins_with_a_token_once_and_its_workloads_get_their_own_documents() {
    let control = Control::usual().await;
    let token = control.token("edge-1").await;
    let agent = control.agent(Prover::Token(token.clone())).await;
    assert!(agent.met().await);
    let client = agent.client().await;
    let context = client.x509().await.unwrap().next().await.unwrap().unwrap();
    let ids: Vec<&str> = context.identities.iter().map(|one| one.id.path()).collect();
    assert_eq!(ids, ["/orders"], "neither what runs on another node nor beside the control plane");
    let anchors = &context.anchors["shop.example"];
    verifies(&context.identities[0].chain, anchors, control.domain.now()).unwrap();
    let audience = vec!["payments".to_owned()];
    let jwt = client.jwt(audience, None).await.unwrap().remove(0).1;
    assert_eq!(client.validate_jwt("payments", &jwt).await.unwrap(), "spiffe://shop.example/orders");
    // What was given stands in the control plane's log, with the node.
    let given: Vec<(String, String)> = {
        let events = control.notes.events.lock().unwrap();
        events.iter().map(|event| (event.node.clone(), event.document.clone())).collect()
    };
    assert!(given.iter().all(|(node, _)| node == "edge-1"), "{given:?}");
    assert!(given[0].1 == "node edge-1 by token" && given[1].1.starts_with("x509 "), "{given:?}");

    // The token lets nobody else in.
    let second = control.agent(Prover::Token(token)).await;
    until("the refusal", async || {
        control
            .refusals()
            .iter()
            .any(|why| why.contains("unknown, used or expired, or its node was evicted since"))
            .then_some(())
    })
    .await;
    assert_eq!(second.first().await.unwrap_err().code(), Code::PermissionDenied);
    let unknown = JoinToken { secret: "guessed".to_owned(), pin: control.pin() };
    let third = control.agent(Prover::Token(unknown)).await;
    assert!(timeout(2 * SECOND, third.remote.met()).await.is_err());
    assert_eq!(nodes(&control.store).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_node_whose_coming_cannot_be_written_down_is_not_let_in_and_keeps_its_token() {
    let control = Control::usual().await;
    control.notes.full.store(true, Ordering::SeqCst);
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(timeout(2 * SECOND, agent.remote.met()).await.is_err());
    assert!(nodes(&control.store).await.unwrap().is_empty());
    control.notes.full.store(false, Ordering::SeqCst);
    assert!(agent.met().await);
    assert_eq!(control.notes.events.lock().unwrap()[0].document, "node edge-1 by token");
}

#[tokio::test]
async fn of_many_agents_with_one_token_at_once_one_is_let_in() {
    let control = Control::usual().await;
    let token = control.token("edge-1").await;
    let mut agents = Vec::new();
    for _ in 0..8 {
        agents.push(control.agent(Prover::Token(token.clone())).await);
    }
    until("all the others' refusals", async || (control.refusals().len() >= 7).then_some(())).await;
    assert_eq!(nodes(&control.store).await.unwrap().len(), 1);
    drop(agents);
}

#[tokio::test]
async fn a_token_is_for_a_while_and_a_name() {
    let control = Control::usual().await;
    for (node, life) in [("", 1), ("x509/edge-1", 1), ("a b", 1), ("edge-1", 0), ("edge-1", 8 * 86_400)] {
        let made = make_token(&control.domain, node, life * SECOND).await;
        assert!(matches!(made, Err(Error::Settings(_))), "{node} {life}");
    }
    let short = make_token(&control.domain, "edge-1", SECOND).await.unwrap();
    assert_eq!(short.to_string().parse::<JoinToken>().unwrap(), short);
    assert!("guessed".parse::<JoinToken>().is_err() && "a.b".parse::<JoinToken>().is_err());
    tokio::time::sleep(SECOND + SECOND / 10).await;
    let agent = control.agent(Prover::Token(short)).await;
    assert!(timeout(SECOND, agent.remote.met()).await.is_err());
}

#[tokio::test]
async fn a_node_gets_nothing_for_workloads_of_others_and_nothing_once_it_is_evicted() {
    let control = Control::usual().await;
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(agent.met().await);
    let id = |name: &str| format!("spiffe://shop.example/{name}").parse().unwrap();
    assert!(agent.remote.x509(&id("orders"), &workload_key()).await.is_ok());
    let audiences = ["payments".to_owned()];
    assert!(agent.remote.jwt(&id("orders"), &audiences).await.is_ok());
    for other in ["payments", "local", "nobody"] {
        assert!(matches!(agent.remote.x509(&id(other), &workload_key()).await, Err(Error::Revoked(_))));
        assert!(matches!(agent.remote.jwt(&id(other), &audiences).await, Err(Error::Revoked(_))));
    }
    assert!(control.refusals().iter().all(|why| why.contains("not registered for this node")));
    // Registered while it runs, withdrawn while it runs.
    control.workloads.send_replace(Arc::new(Workloads { list: vec![on("edge-1", "payments")] }));
    until("the registration", async || agent.remote.x509(&id("payments"), &workload_key()).await.ok()).await;
    assert!(agent.remote.x509(&id("orders"), &workload_key()).await.is_err());

    assert_eq!(evict(&control.domain, "edge-1").await.unwrap(), 1);
    assert_eq!(evict(&control.domain, "edge-1").await.unwrap(), 0);
    assert!(agent.remote.x509(&id("payments"), &workload_key()).await.is_err());
}

#[tokio::test]
async fn the_certificates_of_a_node_are_revoked_when_it_is_evicted_and_no_others() {
    let control = Control::usual().await;
    let id: model::SpiffeId = "spiffe://shop.example/orders".parse().unwrap();
    let on = async |node: &str| control.domain.issue_x509_on(node, &id, &workload_key()).await;
    let mut given = Vec::new();
    for node in ["edge-1", "edge-1", "edge-2"] {
        given.push(on(node).await.unwrap().serial);
    }
    given.push(control.domain.issue_x509(&id, &workload_key()).await.unwrap().serial);
    evict(&control.domain, "edge-1").await.unwrap();
    let revoked = control.domain.revoked();
    let is_revoked: Vec<bool> =
        given.iter().map(|serial| revoked.certificate(&id, serial).is_some()).collect();
    assert_eq!(is_revoked, [true, true, false, false]);
    // Whoever was known to be the node just before gets none either.
    assert!(matches!(on("edge-1").await, Err(Error::Revoked(_))));
    readmit(&control.domain, "edge-1").await.unwrap();
    let again = on("edge-1").await.unwrap().serial;
    assert!(control.domain.revoked().certificate(&id, &again).is_none());
}

#[tokio::test]
async fn a_token_that_was_made_before_an_eviction_lets_nobody_in_after_it() {
    let control = Control::usual().await;
    let leaked = control.token("edge-1").await;
    let other = control.token("edge-2").await;
    evict(&control.domain, "edge-1").await.unwrap();
    // Another token lets the name come again, and that alone.
    let fresh = control.token("edge-1").await;
    let thief = control.agent(Prover::Token(leaked)).await;
    until("the refusal", async || control.refusals().contains(&VOID.to_owned()).then_some(())).await;
    assert!(nodes(&control.store).await.unwrap().is_empty());
    drop(thief);
    for token in [fresh, other] {
        assert!(control.agent(Prover::Token(token)).await.met().await);
    }
}

#[tokio::test]
async fn who_is_evicted_stays_out_with_a_proof_that_does_not_end_until_he_is_readmitted() {
    let nodes_authority = authority();
    let provers = Provers { x509: vec![nodes_authority.der().to_vec()], ..Provers::default() };
    let control = Control::new(Lifetimes::default(), provers).await;
    let list = vec![on("x509/edge-1", "orders"), on("x509/edge-2", "payments")];
    control.domain.declare(Declared { workloads: Workloads { list }, ..Declared::default() });
    let folder = tempfile::tempdir().unwrap();
    let mut agents = Vec::new();
    for name in ["edge-1", "edge-2"] {
        let (certificate, key) = certified(&nodes_authority, name);
        let at = |ending: &str| folder.path().join(format!("{name}.{ending}"));
        std::fs::write(at("pem"), keys::encoding::encode_pem("CERTIFICATE", &certificate)).unwrap();
        std::fs::write(at("key"), key.serialize_pem()).unwrap();
        agents.push(control.agent(Prover::X509 { certificate: at("pem"), key: at("key") }).await);
        assert!(agents.last().unwrap().met().await);
    }
    let out = |node: &str| format!("{node} was evicted");
    assert_eq!(evict(&control.domain, "x509/edge-1").await.unwrap(), 1);
    let refused = async |node: &str| control.refusals().contains(&out(node)).then_some(());
    until("the refusal", async || refused("x509/edge-1").await).await;
    let left: Vec<String> =
        nodes(&control.store).await.unwrap().into_iter().map(|record| record.node).collect();
    assert_eq!(left, ["x509/edge-2"]);
    assert!(refused("x509/edge-2").await.is_none());
    assert_eq!(all_kept_out(&control.store).await.unwrap()[0].node, "x509/edge-1");
    // One that is not there now stays out as well.
    assert_eq!(evict(&control.domain, "x509/edge-3").await.unwrap(), 0);
    assert!(readmit(&control.domain, "x509/edge-3").await.unwrap());
    assert!(!readmit(&control.domain, "x509/edge-3").await.unwrap());
    assert!(readmit(&control.domain, "x509/edge-1").await.unwrap());
    until("its return", async || (nodes(&control.store).await.unwrap().len() == 2).then_some(())).await;
}

/// Keys of a node that are attested, so many.
async fn keys(control: &Control, node: &str, count: usize) -> Vec<Pin> {
    let pins: Vec<Pin> = (0..count).map(|number| format!("{number:064x}").parse().unwrap()).collect();
    for several in pins.chunks(200) {
        let mut transaction = Transaction::new();
        for pin in several {
            let record = NodeRecord::new(node.to_owned(), "x509", *pin, Real.now(), PATIENCE * 100);
            let (value, ends) = (Value::from_json(&record).unwrap(), Some(record.ends));
            transaction = transaction.put(register::place(*pin), value, ends, Expect::Absent).put(
                register::key_of(node, *pin),
                "",
                ends,
                Expect::Absent,
            );
        }
        control.store.commit(transaction).await.unwrap();
    }
    pins
}

#[tokio::test]
async fn who_is_evicted_is_out_at_once_with_more_keys_than_are_listed() {
    let control = Control::usual().await;
    let pins = keys(&control, "x509/edge-1", 10_001).await;
    let other = NodeKey::generate(NOW, &SystemRandom::new()).unwrap().pin().unwrap();
    let record = NodeRecord::new("x509/edge-2".to_owned(), "x509", other, Real.now(), PATIENCE);
    assert!(register::admit(&control.store, other, &record, None).await.unwrap());
    assert_eq!(nodes(&control.store).await.unwrap().len(), 10_002, "all are listed");
    assert_eq!(evict(&control.domain, "x509/edge-1").await.unwrap(), 10_001);
    let left: Vec<String> =
        nodes(&control.store).await.unwrap().into_iter().map(|record| record.node).collect();
    assert_eq!(left, ["x509/edge-2"]);
    assert!(register::find(&control.store, other).await.unwrap().is_some());

    // Whose name is kept out is not attested, also while its key stands there still.
    readmit(&control.domain, "x509/edge-1").await.unwrap();
    let record = NodeRecord::new("x509/edge-1".to_owned(), "x509", pins[0], Real.now(), PATIENCE);
    assert!(register::admit(&control.store, pins[0], &record, None).await.unwrap());
    assert!(register::prolong(&control.store, pins[0], PATIENCE).await.unwrap());
    let kept = control.store.get(&register::place(pins[0])).await.unwrap().unwrap();
    let counted = control.store.get(&register::key_of("x509/edge-1", pins[0])).await.unwrap().unwrap();
    let ends = kept.json::<NodeRecord>().unwrap().ends;
    assert_eq!(counted.expires, Some(ends), "it counts for as long as it is attested");
    evict(&control.domain, "x509/edge-1").await.unwrap();
    control.store.put(kept.key, kept.value, kept.expires, Expect::Absent).await.unwrap();
    assert_eq!(register::find(&control.store, pins[0]).await.unwrap(), None);
    assert!(!register::prolong(&control.store, pins[0], PATIENCE).await.unwrap());
    assert!(!register::admit(&control.store, pins[0], &record, None).await.unwrap());
}

#[tokio::test]
async fn a_name_has_so_many_keys_and_no_other_pays_for_them() {
    let control = Control::usual().await;
    let pins = keys(&control, "edge-1", register::KEYS_PER_NODE_MAX - 1).await;
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(agent.met().await);
    assert!(register::is_full(&control.store, "edge-1", "f".repeat(64).parse().unwrap()).await.unwrap());
    assert!(!register::is_full(&control.store, "edge-1", pins[7]).await.unwrap(), "it is there already");
    let late = control.agent(Prover::Token(control.token("edge-1").await)).await;
    until("the refusal", async || {
        control.refusals().contains(&"1000 keys of edge-1 are attested already".to_owned()).then_some(())
    })
    .await;
    drop(late);
    assert!(control.agent(Prover::Token(control.token("edge-2").await)).await.met().await);
    // Out and let in again, it begins anew.
    assert_eq!(evict(&control.domain, "edge-1").await.unwrap(), register::KEYS_PER_NODE_MAX);
    assert!(control.agent(Prover::Token(control.token("edge-1").await)).await.met().await);
}

#[tokio::test]
async fn a_new_token_readmits_whom_it_is_made_for_and_an_old_one_does_not() {
    let control = Control::usual().await;
    let old = control.token("edge-1").await;
    evict(&control.domain, "edge-1").await.unwrap();
    let agent = control.agent(Prover::Token(old)).await;
    until("the refusal", async || control.refusals().contains(&VOID.to_owned()).then_some(())).await;
    assert!(nodes(&control.store).await.unwrap().is_empty());
    drop(agent);
    assert!(control.agent(Prover::Token(control.token("edge-1").await)).await.met().await);
    assert!(matches!(evict(&control.domain, "a b").await, Err(Error::Settings(_))));
}

/// Connects with a key, and says nothing.
async fn connected(control: &Control, key: &NodeKey) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(control.address).await.unwrap();
    let config = Arc::new(key.client(control.pin()).unwrap());
    TlsConnector::from(config).connect("control-plane".try_into().unwrap(), stream).await.unwrap()
}

async fn is_closed(stream: &mut TlsStream<TcpStream>, most: Duration) -> bool {
    let mut bytes = [0; 1024];
    timeout(most, async { while stream.read(&mut bytes).await.unwrap_or(0) > 0 {} }).await.is_ok()
}

#[tokio::test]
async fn strangers_take_no_agents_place_and_have_to_go() {
    let control = Control::usual().await;
    let random = Arc::new(SystemRandom::new());
    let key = || NodeKey::generate(NOW, random.as_ref()).unwrap();
    let known = key();
    let pin = known.pin().unwrap();
    let record = NodeRecord::new("edge-1".to_owned(), "token", pin, Real.now(), 60 * SECOND);
    assert!(register::admit(&control.store, pin, &record, None).await.unwrap());
    let began = tokio::time::Instant::now();
    let mut strangers = Vec::new();
    for _ in 0..PER_NETWORK_MAX + 4 {
        strangers.push(connected(&control, &key()).await);
    }
    // Those for whom there is no place go at once, while the others still have their time.
    for late in strangers.split_off(PER_NETWORK_MAX) {
        assert!(is_closed(&mut { late }, PATIENCE).await);
    }
    let is_closed_early = is_closed(&mut strangers[0], SECOND / 20).await;
    assert!(!is_closed_early || began.elapsed() > 10 * SECOND);
    // From the same address as all of them.
    let prover = Prover::TokenFile("nowhere".into());
    let clock = Arc::new(Offset::default());
    let remote =
        Remote::new(control.address.to_string(), control.pin(), known, prover, clock, random.clone());
    let remote = remote.unwrap();
    let task = tokio::spawn(Arc::clone(&remote).run());
    assert!(timeout(PATIENCE, remote.met()).await.is_ok());
    for stranger in &mut strangers {
        assert!(is_closed(stranger, PATIENCE).await, "it stays without a proof");
    }
    // Whoever has one is let in again.
    assert!(control.agent(Prover::Token(control.token("edge-2").await)).await.met().await);
    assert!(remote.x509(&on("edge-1", "orders").id, &workload_key()).await.is_ok());
    task.abort();
}

#[tokio::test]
async fn one_connection_shows_one_proof_and_leaves_one_event() {
    let control = Control::usual().await;
    let key = NodeKey::generate(NOW, &SystemRandom::new()).unwrap();
    let channel = Channel::open(connected(&control, &key).await, 1024).await.unwrap();
    let attest = async || {
        let request = AttestRequest { token: "guessed".to_owned(), ..AttestRequest::default() };
        let codec = ProstCodec::<AttestRequest, AttestResponse>::default();
        let path = http::uri::PathAndQuery::from_static(listener::ATTEST);
        channel.grpc().unary(tonic::Request::new(request), path, codec).await.unwrap_err().code()
    };
    assert_eq!(attest().await, Code::PermissionDenied);
    for _ in 0..3 {
        assert_eq!(attest().await, tonic::Code::ResourceExhausted);
    }
    assert_eq!(control.refusals().len(), 1);
}

/// How a call ends that sends nothing after its head; `None`: it does not, for a while.
async fn begun(channel: &Channel) -> Option<Code> {
    let path = http::uri::PathAndQuery::from_static(documents::ISSUE);
    let requests = tonic::Request::new(tokio_stream::pending::<IssueRequest>());
    let mut grpc = channel.grpc();
    let answer = grpc.streaming(requests, path, ProstCodec::<IssueRequest, IssueResponse>::default());
    let ended = async {
        match answer.await {
            Ok(answer) => answer.into_inner().message().await.unwrap_err().code(),
            Err(status) => status.code(),
        }
    };
    timeout(5 * SECOND, ended).await.ok()
}

#[tokio::test]
async fn of_whoever_is_not_attested_one_small_message_is_read() {
    let control = Control::usual().await;
    let key = NodeKey::generate(NOW, &SystemRandom::new()).unwrap();
    let open = async || Channel::open(connected(&control, &key).await, 1 << 20).await.unwrap();
    let attest = async |channel: &Channel, token: String| {
        let request = AttestRequest { token, ..AttestRequest::default() };
        let codec = ProstCodec::<AttestRequest, AttestResponse>::default();
        let path = http::uri::PathAndQuery::from_static(listener::ATTEST);
        let answer = channel.grpc().unary(tonic::Request::new(request), path, codec).await;
        answer.map(|_| ()).map_err(|status| status.code())
    };
    let channel = open().await;
    for _ in 0..listener::STRANGER_CALLS_MAX {
        assert_eq!(begun(&channel).await, Some(Code::Unauthenticated));
    }
    assert_eq!(begun(&channel).await, Some(Code::ResourceExhausted));
    // Three bytes, a tag and a length, precede the text.
    let bytes = listener::PROOF_BYTES_MAX - 3;
    assert_eq!(attest(&channel, "x".repeat(bytes)).await, Err(Code::PermissionDenied));
    assert_eq!(attest(&open().await, "x".repeat(bytes + 1)).await, Err(Code::OutOfRange));

    // Whoever was refused before is let in with a proof, and then speaks at length, on so many calls.
    let channel = open().await;
    for _ in 0..=listener::STRANGER_CALLS_MAX {
        assert!(begun(&channel).await.is_some());
    }
    assert_eq!(attest(&channel, control.token("edge-1").await.secret).await, Ok(()));
    let channel = Arc::new(channel);
    let calls = (0..=listener::UNFINISHED_PER_KEY_MAX).map(|_| {
        let channel = Arc::clone(&channel);
        tokio::spawn(async move { begun(&channel).await })
    });
    let mut ended = Vec::new();
    for call in calls.collect::<Vec<_>>() {
        ended.push(call.await.unwrap());
    }
    assert_eq!(ended.iter().filter(|code| **code == Some(Code::ResourceExhausted)).count(), 1, "{ended:?}");
    assert_eq!(ended.iter().filter(|code| code.is_none()).count(), listener::UNFINISHED_PER_KEY_MAX);
}

#[tokio::test]
async fn another_server_than_the_pinned_one_is_told_nothing() {
    let (control, liar) = (Control::usual().await, Control::usual().await);
    let token = control.token("edge-1").await;
    let agent =
        Agent::start(liar.address, control.pin(), Prover::Token(token.clone()), Offset::default()).await;
    assert!(timeout(2 * SECOND, agent.remote.met()).await.is_err());
    assert!(liar.notes.events.lock().unwrap().is_empty(), "the token was shown to it");
    drop(agent);
    assert!(control.agent(Prover::Token(token)).await.met().await);
}

#[tokio::test]
async fn what_is_revoked_reaches_the_workloads_of_an_agent() {
    let control = Control::usual().await;
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(agent.met().await);
    let client = agent.client().await;
    let (mut updates, mut revoked) = (client.x509().await.unwrap(), client.revoked().await.unwrap());
    let before = updates.next().await.unwrap().unwrap();
    assert!(revoked.next().await.unwrap().unwrap().is_empty());
    let serial = control.domain.issued(10).await.unwrap()[0].serial.clone();
    control.domain.revoke(&Target::Serial(serial.clone())).await.unwrap();
    assert!(revoked.next().await.unwrap().unwrap().has_serial(&serial));
    let after = updates.next().await.unwrap().unwrap();
    assert_ne!(before.identities[0].chain, after.identities[0].chain);
    control.domain.revoke(&Target::Identity(after.identities[0].id.clone())).await.unwrap();
    assert_eq!(updates.next().await.unwrap_err().code(), Code::PermissionDenied);
    assert_eq!(agent.first().await.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_token_of_before_its_workload_was_revoked_stays_refused_at_an_agent_too() {
    let control = Control::usual().await;
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(agent.met().await);
    let client = agent.client().await;
    let audience = || vec!["payments".to_owned()];
    let old = client.jwt(audience(), None).await.unwrap().remove(0).1;
    assert!(client.validate_jwt("payments", &old).await.is_ok());
    let target = Target::Identity(on("", "orders").id);
    control.domain.revoke(&target).await.unwrap();
    until("the revocation", async || client.validate_jwt("payments", &old).await.err()).await;
    control.domain.lift(&target).await.unwrap();
    until("a token that is good again", async || {
        let new = client.jwt(audience(), None).await.ok()?.remove(0).1;
        client.validate_jwt("payments", &new).await.ok()
    })
    .await;
    let refused = client.validate_jwt("payments", &old).await.unwrap_err();
    assert!(refused.message().contains("revoked"), "{refused:?}");
}

/// Certificates of twenty seconds.
fn brief() -> Lifetimes {
    Lifetimes {
        authority: 120 * SECOND,
        x509_svid: 20 * SECOND,
        jwt_svid: 20 * SECOND,
        ..Lifetimes::default()
    }
}

#[tokio::test]
async fn without_its_control_plane_an_agent_serves_what_is_good_and_recovers_after_it_has_ended() {
    let lifetimes = Lifetimes {
        authority: 6_000 * SECOND,
        x509_svid: 600 * SECOND,
        jwt_svid: 600 * SECOND,
        ..Lifetimes::default()
    };
    let mut control = Control::new(lifetimes, Provers::default()).await;
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(agent.met().await);
    let client = agent.client().await;
    let mut updates = client.x509().await.unwrap();
    let first = updates.next().await.unwrap().unwrap().identities[0].chain[0].clone();
    let audience = vec!["payments".to_owned()];
    let token = client.jwt(audience.clone(), None).await.unwrap().remove(0).1;
    control.close(&agent).await;
    // Past the half of its life it cannot be renewed; whoever comes anew gets it all the same.
    control.clock.forward(400 * SECOND);
    assert_eq!(agent.first().await.unwrap(), first);
    assert_eq!(client.jwt(audience.clone(), None).await.unwrap().remove(0).1, token);
    // Ended, it is not given any more.
    control.clock.forward(201 * SECOND);
    assert_eq!(agent.first().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(client.jwt(audience.clone(), None).await.unwrap_err().code(), Code::Unavailable);
    control.open().await;
    let again = until("a new one", async || agent.first().await.ok()).await;
    assert_ne!(again, first);
    assert!(client.jwt(audience, None).await.is_ok());
}

/// Passes bytes on until it is cut: then nothing goes on, and nothing is said.
struct Relay {
    address: SocketAddr,
    passing: watch::Sender<bool>,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let passing = watch::Sender::new(true);
        let told = passing.clone();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect(server).await else { continue };
                let (near_in, near_out) = near.into_split();
                let (far_in, far_out) = far.into_split();
                for (from, to) in [(near_in, far_out), (far_in, near_out)] {
                    tokio::spawn(pass(from, to, told.subscribe()));
                }
            }
        });
        Self { address, passing }
    }
}

async fn pass(
    from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut passing: watch::Receiver<bool>,
) {
    let mut bytes = vec![0; 16 * 1024];
    loop {
        if passing.wait_for(|passing| *passing).await.is_err() || from.readable().await.is_err() {
            return;
        }
        // What came while it was cut goes on late, as it does where packets are sent again.
        if !*passing.borrow() {
            continue;
        }
        match from.try_read(&mut bytes) {
            Ok(0) => return,
            Ok(count) => {
                if to.write_all(&bytes[..count]).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}

#[tokio::test]
async fn a_cut_network_is_noticed_and_a_healed_one_is_used_again() {
    let control = Control::new(brief(), Provers::default()).await;
    let relay = Relay::to(control.address).await;
    let token = control.token("edge-1").await;
    let agent = Agent::start(relay.address, control.pin(), Prover::Token(token), Offset::default()).await;
    assert!(agent.met().await);
    let first = agent.first().await.unwrap();
    relay.passing.send_replace(false);
    tokio::time::sleep(2 * SECOND).await;
    assert_eq!(agent.first().await.unwrap(), first, "what is good is given without a word from there");
    tokio::time::sleep(12 * SECOND).await;
    relay.passing.send_replace(true);
    until("a new one", async || agent.first().await.ok().filter(|again| *again != first)).await;
}

fn certified(
    authority: &rcgen::CertifiedIssuer<'_, rcgen::KeyPair>,
    name: &str,
) -> (Vec<u8>, rcgen::KeyPair) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.not_after = rcgen::date_time_ymd(2030, 1, 1);
    (params.signed_by(&key, authority).unwrap().der().to_vec(), key)
}

fn authority() -> rcgen::CertifiedIssuer<'static, rcgen::KeyPair> {
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap()
}

#[tokio::test]
async fn a_node_whose_time_is_over_is_attested_again_by_itself_and_a_used_token_is_not_enough() {
    let nodes_authority = authority();
    let provers =
        Provers { x509: vec![nodes_authority.der().to_vec()], kubernetes: None, lifetime: 600 * SECOND };
    let mut control = Control::new(Lifetimes::default(), provers).await;
    control.workloads.send_replace(Arc::new(Workloads {
        list: vec![on("x509/edge-1", "orders"), on("edge-2", "payments")],
    }));
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = certified(&nodes_authority, "edge-1");
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("node.pem"), keys::encoding::encode_pem("CERTIFICATE", &certificate)).unwrap();
    std::fs::write(at("node.key"), key.serialize_pem()).unwrap();
    std::fs::write(at("token"), control.token("edge-2").await.to_string()).unwrap();
    let by_certificate =
        control.agent(Prover::X509 { certificate: at("node.pem"), key: at("node.key") }).await;
    let by_token = control.agent(Prover::TokenFile(at("token"))).await;
    assert!(by_certificate.met().await && by_token.met().await);
    // While they are there they stay attested.
    for _ in 0..2 {
        control.clock.forward(400 * SECOND);
        let ends = control.clock.now().plus(500 * SECOND);
        until("both to be prolonged", async || {
            let kept = nodes(&control.store).await.unwrap();
            assert_eq!(kept.len(), 2, "{:?}", control.refusals());
            kept.iter().all(|record| record.ends > ends).then_some(())
        })
        .await;
    }
    control.close(&by_certificate).await;
    control.clock.forward(601 * SECOND);
    assert!(nodes(&control.store).await.unwrap().is_empty());
    control.open().await;
    until("the node with a certificate", async || by_certificate.first().await.ok()).await;
    until("the refusal", async || {
        control
            .refusals()
            .iter()
            .any(|why| why.contains("unknown, used or expired, or its node was evicted since"))
            .then_some(())
    })
    .await;
    assert_eq!(nodes(&control.store).await.unwrap()[0].node, "x509/edge-1");
    // Another token in the file is all that it needs.
    std::fs::write(at("token"), control.token("edge-2").await.to_string()).unwrap();
    until("the node with a token", async || (nodes(&control.store).await.unwrap().len() == 2).then_some(()))
        .await;
    until("its documents", async || by_token.first().await.ok()).await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_for_a_while_turns_no_node_out() {
    let clock = Hands::new();
    let store = Store::in_memory(clock.clone()).unwrap();
    let pin = NodeKey::generate(NOW, &SystemRandom::new()).unwrap().pin().unwrap();
    let day = 24 * 3600 * SECOND;
    let record = register::NodeRecord::new("edge-1".to_owned(), "token", pin, NOW, day);
    assert!(register::admit(&store, pin, &record, None).await.unwrap());
    let is_known = async || {
        let found = register::find(&store, pin).await.unwrap().is_some();
        assert_eq!(nodes(&store).await.unwrap().len(), usize::from(found));
        found
    };
    assert!(is_known().await);
    clock.set_on(2 * day);
    assert!(!is_known().await && !register::prolong(&store, pin, day).await.unwrap());
    store.maintain().await.unwrap();
    clock.set_back(2 * day);
    assert!(is_known().await && register::prolong(&store, pin, day).await.unwrap());
}

#[tokio::test]
async fn clocks_that_are_wrong_by_hours_keep_no_agent_out_and_renewal_goes_on() {
    let control = Control::new(brief(), Provers::default()).await;
    let goes_on = async |hours: i64| {
        let token = control.token("edge-1").await;
        let clock = Offset::wrong_by(hours * 3600);
        let agent = Agent::start(control.address, control.pin(), Prover::Token(token), clock).await;
        assert!(agent.met().await, "{hours}");
        assert!(
            agent.remote.now().since(Real.now()) < SECOND * 60
                && Real.now().since(agent.remote.now()) < SECOND * 60
        );
        let mut updates = agent.client().await.x509().await.unwrap();
        let mut seen = BTreeSet::new();
        while seen.len() < 2 {
            let context = timeout(PATIENCE, updates.next()).await.unwrap().unwrap().unwrap();
            verifies(&context.identities[0].chain, &context.anchors["shop.example"], Real.now()).unwrap();
            seen.insert(context.identities[0].chain[0].clone());
        }
    };
    tokio::join!(goes_on(-30), goes_on(-3), goes_on(3), goes_on(30));
}

/// The listener stays as it is for ever: its key is what agents know.
#[tokio::test]
async fn neither_the_end_of_its_certificate_nor_that_of_every_authority_keeps_agents_out() {
    let mut control = Control::new(brief(), Provers::default()).await;
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.not_before = rcgen::date_time_ymd(2001, 1, 1);
    params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    let made = json!({ "certificate": certificate, "key": key.serialize_der() });
    let place = store::Key::new("mesh").name("server");
    control.listener = None;
    until("its place", async || std::net::TcpListener::bind(control.address).ok().map(drop)).await;
    control.store.put(place, Value::from_json(&made).unwrap(), None, Expect::Any).await.unwrap();
    control.open().await;
    assert_eq!(Some(control.pin()), Pin::of(&certificate));
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(agent.met().await);
    let first = agent.first().await.unwrap();

    let before = control.domain.authorities().bundle.x509.clone();
    control.clock.forward(121 * SECOND);
    let others = until("other authorities", async || {
        let now = control.domain.authorities().bundle.x509.clone();
        now.iter().all(|anchor| !before.contains(anchor)).then_some(now)
    })
    .await;
    let again = until("a new one", async || agent.first().await.ok().filter(|again| *again != first)).await;
    verifies(&[again], &others, control.clock.now()).unwrap();
    let late = control.agent(Prover::Token(control.token("edge-2").await)).await;
    assert!(late.met().await && late.first().await.is_ok());
}

#[test]
fn a_certificate_proves_its_node_and_nothing_beside_it_does() {
    let (ours, theirs) = (authority(), authority());
    let (certificate, key) = certified(&ours, "edge-1");
    let random = SystemRandom::new();
    let pins: Vec<Pin> = (0..3).map(|_| NodeKey::generate(NOW, &random).unwrap().pin().unwrap()).collect();
    let (agent, server, other) = (pins[0], pins[1], pins[2]);
    let signer = LocalSigner::from_pkcs8(&key.serialize_der()).unwrap();
    let stated = proof::statement(&signer, agent, server).unwrap();
    let provers = Provers { x509: vec![ours.der().to_vec()], ..Provers::default() };
    let now = Real.now();
    let judge = |chain: Vec<Vec<u8>>, statement: &str, agent, server| {
        provers.judge(&Proof::X509 { chain, statement: statement.to_owned() }, agent, server, now)
    };
    let own = || vec![certificate.clone()];
    assert_eq!(judge(own(), &stated, agent, server).unwrap(), "x509/edge-1");
    let (foreign, foreign_key) = certified(&theirs, "edge-1");
    let foreign_signer = LocalSigner::from_pkcs8(&foreign_key.serialize_der()).unwrap();
    let foreign_statement = proof::statement(&foreign_signer, agent, server).unwrap();
    let (spaced, spaced_key) = certified(&ours, "edge 1");
    let spaced_signer = LocalSigner::from_pkcs8(&spaced_key.serialize_der()).unwrap();
    let claims = json!({ "agent": agent.to_string(), "server": server.to_string() });
    let other_type = sign_token(&signer, "JWT", claims.as_object().unwrap()).unwrap();
    for (what, refused) in [
        ("nothing", judge(Vec::new(), &stated, agent, server)),
        ("another authority's", judge(vec![foreign.clone()], &foreign_statement, agent, server)),
        (
            "ours behind another's",
            judge(vec![foreign, certificate.clone()], &foreign_statement, agent, server),
        ),
        ("another's statement", judge(own(), &foreign_statement, agent, server)),
        ("a statement about another agent", judge(own(), &stated, other, server)),
        ("a statement for another control plane", judge(own(), &stated, agent, other)),
        ("no statement", judge(own(), "", agent, server)),
        ("something else that it signed", judge(own(), &other_type, agent, server)),
        ("a long chain", judge(vec![certificate.clone(); 9], &stated, agent, server)),
        (
            "a name that is none",
            judge(vec![spaced], &proof::statement(&spaced_signer, agent, server).unwrap(), agent, server),
        ),
    ] {
        assert!(refused.is_err(), "{what}: {refused:?}");
    }
    let late = model::Timestamp::from_unix_seconds(1_893_456_001);
    let proof = Proof::X509 { chain: own(), statement: stated.clone() };
    assert!(provers.judge(&proof, agent, server, late).is_err(), "it has ended");
    assert!(Provers::default().judge(&proof, agent, server, now).is_err(), "no authority is configured");
    assert!(provers.judge(&Proof::Token("x".to_owned()), agent, server, now).is_err());
}

#[test]
fn a_projected_token_proves_its_node_and_nothing_beside_it_does() {
    let random = SystemRandom::new();
    let signer = LocalSigner::generate(Algorithm::Es256, &random).unwrap().0;
    let cluster = Kubernetes {
        issuer: "https://kubernetes.default.svc".to_owned(),
        audience: "bastide".to_owned(),
        jwks: publish(&[&signer]).into_bytes(),
        service_accounts: BTreeSet::from(["bastide/agent".to_owned()]),
    };
    let pin = NodeKey::generate(NOW, &random).unwrap().pin().unwrap();
    let provers = Provers { kubernetes: Some(cluster), ..Provers::default() };
    let honest = || {
        json!({
            "iss": "https://kubernetes.default.svc", "aud": ["bastide"],
            "sub": "system:serviceaccount:bastide:agent",
            "iat": NOW.unix_seconds(), "nbf": NOW.unix_seconds(), "exp": NOW.unix_seconds() + 3607,
            "kubernetes.io": {
                "namespace": "bastide",
                "node": { "name": "worker-3", "uid": "8f" },
                "pod": { "name": "agent-x", "uid": "90" },
                "serviceaccount": { "name": "agent", "uid": "91" },
            },
        })
    };
    let judge = |claims: serde_json::Value, by: &LocalSigner, now| {
        let token = sign_token(by, "JWT", claims.as_object().unwrap()).unwrap();
        provers.judge(&Proof::Kubernetes(token), pin, pin, now)
    };
    assert_eq!(judge(honest(), &signer, NOW).unwrap(), "kubernetes/worker-3");
    let stranger = LocalSigner::generate(Algorithm::Es256, &random).unwrap().0;
    assert_ne!(stranger.key_id(), signer.key_id());
    assert!(judge(honest(), &stranger, NOW).is_err(), "another cluster's key");
    assert!(judge(honest(), &signer, NOW.plus(Duration::from_secs(3607))).is_err(), "it has ended");
    assert!(judge(honest(), &signer, NOW.minus(SECOND)).is_err(), "it has not begun");
    type Attack = (&'static str, fn(&mut serde_json::Value));
    let attacks: [Attack; 8] = [
        ("another issuer", |claims| claims["iss"] = json!("https://other")),
        ("another audience", |claims| claims["aud"] = json!(["https://kubernetes.default.svc"])),
        ("another namespace", |claims| claims["kubernetes.io"]["namespace"] = json!("default")),
        ("another account", |claims| claims["kubernetes.io"]["serviceaccount"]["name"] = json!("default")),
        ("no node", |claims| drop(claims["kubernetes.io"].as_object_mut().unwrap().remove("node"))),
        ("no cluster's", |claims| drop(claims.as_object_mut().unwrap().remove("kubernetes.io"))),
        ("no end", |claims| drop(claims.as_object_mut().unwrap().remove("exp"))),
        ("a name that is none", |claims| claims["kubernetes.io"]["node"]["name"] = json!("a b")),
    ];
    for (what, attack) in attacks {
        let mut claims = honest();
        attack(&mut claims);
        assert!(judge(claims, &signer, NOW).is_err(), "{what}");
    }
    assert!(Provers::default().judge(&Proof::Kubernetes(String::new()), pin, pin, NOW).is_err());
}

#[tokio::test]
async fn a_node_registers_its_own_workloads_and_keeps_what_it_was_told_while_nobody_tells() {
    let mut control = Control::usual().await;
    let agent = control.agent(Prover::Token(control.token("edge-1").await)).await;
    assert!(agent.met().await);
    let client = agent.client().await;
    let id = |name: &str| format!("spiffe://shop.example/{name}").parse().unwrap();
    let at = |text: &str| text.parse::<SocketAddr>().unwrap();
    // Whoever listens at every address is found at the one from which the control plane is reached.
    let found = client.register(&id("orders"), at("0.0.0.0:7001")).await.unwrap();
    assert_eq!(found, at("127.0.0.1:7001"));
    let kept = control.domain.endpoints().await.unwrap();
    assert_eq!((kept.len(), kept[0].node.as_str(), kept[0].address), (1, "edge-1", found));
    // The agent lies about who is at its socket: the control plane knows who can be there.
    for other in ["payments", "local", "nobody"] {
        let refused = agent.remote.register_endpoint(&id(other), found).await;
        assert!(matches!(refused, Err(Error::Revoked(_))), "{other}: {refused:?}");
        assert!(agent.remote.withdraw_endpoint(&id(other), found).await.is_err());
        assert_eq!(client.register(&id(other), found).await.unwrap_err().code(), Code::PermissionDenied);
    }
    assert!(agent.remote.register_endpoint(&id("orders"), at("0.0.0.0:7001")).await.is_err());
    assert!(control.refusals().iter().all(|why| why.contains("not registered for this node")));
    assert_eq!(control.domain.endpoints().await.unwrap().len(), 1);

    // What others register beside the control plane is told here.
    let local = id("local");
    let mut updates = client.endpoints(&[local.clone(), id("orders")]).await.unwrap();
    until("its own", async || {
        updates.next().await.unwrap().unwrap().contains_key(&id("orders")).then_some(())
    })
    .await;
    control.domain.register_endpoint(&local, at("127.0.0.1:7002")).await.unwrap();
    let mut tells = async |what: &str, expected: [bool; 2]| {
        until(what, async || {
            let known = updates.next().await.unwrap().unwrap();
            ([known.contains_key(&id("orders")), known.contains_key(&local)] == expected).then_some(())
        })
        .await;
    };
    tells("the other's", [true, true]).await;

    // The control plane goes, and everybody's lease is over when it is back.
    control.close(&agent).await;
    assert!(client.register(&id("orders"), found).await.is_err());
    control.domain.withdraw_endpoint(&local, at("127.0.0.1:7002")).await.unwrap();
    control.domain.withdraw_at("edge-1", &id("orders"), found).await.unwrap();
    assert_eq!(agent.remote.watch_endpoints().borrow().len(), 2);
    control.open().await;
    until("its return", async || client.register(&id("orders"), found).await.ok()).await;
    assert_eq!(agent.remote.watch_endpoints().borrow().len(), 2, "they have time to come back");
    assert!(client.withdraw(&id("orders"), found).await.is_ok());
    assert_eq!(control.domain.endpoints().await.unwrap(), []);
    let documents: Vec<(String, String)> = {
        let events = control.notes.events.lock().unwrap();
        events.iter().map(|event| (event.node.clone(), event.document.clone())).collect()
    };
    let registered = documents.iter().filter(|(_, document)| document == "endpoint 127.0.0.1:7001");
    assert_eq!(registered.filter(|(node, _)| node == "edge-1").count(), 3, "{documents:?}");

    // Evicted, it registers nothing.
    client.register(&id("orders"), found).await.unwrap();
    evict(&control.domain, "edge-1").await.unwrap();
    assert_eq!(control.domain.endpoints().await.unwrap(), []);
    assert!(client.register(&id("orders"), found).await.is_err());
}
