//! Client certificates that stop counting: by time, by a revocation list, by another
//! authority; on open connections and on resumed sessions. And exchanges that are cut.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::StatusCode;
use model::event::Step;
use proxy::tls::{ClientCertificates, Identity, ServerOffer, ServerTls, ServerTlsSettings};
use proxy::upstream::UpstreamPeer;
use proxy::{Cleared, Cut, Judge, Limits, ListenerSettings, Speaks, Standing};
use rcgen::{
    CertificateParams, CertificateRevocationListParams, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
};
use rustls::pki_types::{CertificateRevocationListDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned};

use crate::resilience::until;
use crate::support::{TestRoute, TestWorld, cleartext, service, settings};
use crate::testbed::{PATIENCE, Steady, TestBed, Upstream, anywhere, undisturbed};
use crate::tls::Authority;
use tokio::time::Instant;

#[expect(clippy::disallowed_methods, reason = "certificates are valid by the machine's clock")]
fn now() -> SystemTime {
    SystemTime::now()
}

const HOUR: Duration = Duration::from_secs(3600);
/// So long a certificate of three seconds is good at least: its end is a whole second.
const GOOD: Duration = Duration::from_secs(2);
/// So long a connection must be silent to be taken for one that goes on.
const SILENCE: Duration = Duration::from_millis(500);

fn issue(authority: &Authority, serial: u8, valid: Duration) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![format!("client-{serial}")]).unwrap();
    params.serial_number = Some(SerialNumber::from(vec![serial]));
    params.not_before = (now() - HOUR).into();
    params.not_after = (now() + valid).into();
    let certificate = params.signed_by(&key, &authority.0).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Identity { chain: vec![certificate.der().clone()], key }
}

fn list(authority: &Authority, serials: &[u8], valid: Duration) -> CertificateRevocationListDer<'static> {
    let revoked = serials.iter().map(|serial| RevokedCertParams {
        serial_number: SerialNumber::from(vec![*serial]),
        revocation_time: now().into(),
        reason_code: None,
        invalidity_date: None,
    });
    let params = CertificateRevocationListParams {
        this_update: (now() - 2 * HOUR).into(),
        next_update: (now() - HOUR + valid).into(),
        crl_number: SerialNumber::from(1_u64),
        issuing_distribution_point: None,
        revoked_certs: revoked.collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&authority.0).unwrap().der().clone()
}

/// A listener that wants certificates of `clients`.
struct Scene {
    server: Authority,
    clients: Authority,
    upstream: Upstream,
    identity: Identity,
    address: SocketAddr,
}

impl Scene {
    fn new() -> Self {
        let (server, clients) = (Authority::new(), Authority::new());
        let identity = server.issue(&["test"]);
        Self { server, clients, upstream: Upstream::honest("ok"), identity, address: anywhere() }
    }

    fn settings(&self, revocations: Vec<CertificateRevocationListDer<'static>>) -> ServerTlsSettings {
        ServerTlsSettings {
            identities: vec![self.identity.clone()],
            client: ClientCertificates::Required(vec![self.clients.der()]),
            revocations: vec![revocations],
            offers: ServerOffer::Http,
            ..ServerTlsSettings::default()
        }
    }

    fn world(&self, tls: ServerTls) -> TestWorld {
        let listener = ListenerSettings::new(self.address, Some(tls));
        let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
        let services = vec![service("test", &[self.upstream.address])];
        TestWorld::new(vec![listener], services, routes, Limits::default(), None)
    }

    /// A client with a memory for tickets.
    fn client(&self, identity: &Identity) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server.der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.unwrap().with_root_certificates(roots);
        Arc::new(builder.with_client_auth_cert(identity.chain.clone(), identity.key.clone_key()).unwrap())
    }
}

struct Tls(StreamOwned<ClientConnection, Steady>);

impl Tls {
    fn connect(config: &Arc<ClientConfig>, address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("test").unwrap();
        Self(StreamOwned::new(ClientConnection::new(Arc::clone(config), name).unwrap(), Steady(stream)))
    }

    /// Whether a request is answered with 200.
    fn asks(&mut self) -> bool {
        if self.0.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").is_err() {
            return false;
        }
        let mut seen = Vec::new();
        let mut chunk = [0; 4096];
        while !seen.ends_with(b"ok") {
            match self.0.read(&mut chunk) {
                Ok(count) if count > 0 => seen.extend_from_slice(&chunk[..count]),
                _ => return false,
            }
        }
        seen.starts_with(b"HTTP/1.1 200")
    }

    fn kind(&self) -> HandshakeKind {
        self.0.conn.handshake_kind().unwrap()
    }

    /// Sends bytes, and whether the server leaves the connection open for as long as it is listened to.
    fn goes_on_after(self, bytes: &[u8], longest: Duration) -> bool {
        let Self(mut client) = self;
        let _ = client.write_all(bytes).and_then(|()| client.flush());
        client.sock.0.set_read_timeout(Some(longest)).unwrap();
        client.read_to_end(&mut Vec::new()).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Waits for the server to end the connection.
    fn is_ended(&mut self) -> bool {
        match self.0.read(&mut [0; 64]) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
        }
    }
}

#[test]
fn on_a_core_that_slept_a_certificate_is_good_until_it_ends_all_the_same() {
    let scene = Scene::new();
    let testbed =
        TestBed::start(scene.world(ServerTls::build(&scene.settings(vec![])).unwrap()), Arc::default());
    undisturbed("two requests while a certificate is good", GOOD, || {
        // Longer than what is left of the certificate.
        std::thread::sleep(Duration::from_secs(4));
        let issued = Instant::now();
        let client = scene.client(&issue(&scene.clients, 1, Duration::from_secs(3)));
        let mut connection = Tls::connect(&client, testbed.address);
        let asked = [connection.asks(), connection.asks()];
        if asked != [true, true] && issued.elapsed() > GOOD {
            return None;
        }
        assert_eq!(asked, [true, true], "the second time on the same connection");
        Some(())
    });
}

#[test]
fn a_session_with_a_certificate_is_resumed_while_the_certificate_counts() {
    let scene = Scene::new();
    let testbed =
        TestBed::start(scene.world(ServerTls::build(&scene.settings(vec![])).unwrap()), Arc::default());
    let member = scene.client(&issue(&scene.clients, 1, HOUR));
    for kind in [HandshakeKind::Full, HandshakeKind::Resumed] {
        let mut client = Tls::connect(&member, testbed.address);
        assert!(client.asks());
        assert_eq!(client.kind(), kind);
    }
    let (brief, mut open) = undisturbed("two connections while a certificate is good", GOOD, || {
        let brief = scene.client(&issue(&scene.clients, 2, Duration::from_secs(3)));
        let mut first = Tls::connect(&brief, testbed.address);
        if !first.asks() {
            return None;
        }
        assert_eq!(first.kind(), HandshakeKind::Full);
        let mut open = Tls::connect(&brief, testbed.address);
        open.asks().then_some((brief, open))
    });
    std::thread::sleep(Duration::from_millis(4500));
    // rustls itself brings the chain back unverified.
    assert!(!Tls::connect(&brief, testbed.address).asks(), "a certificate that has ended is resumed");
    assert!(!open.asks(), "a certificate that has ended goes on being used");
    assert!(Tls::connect(&member, testbed.address).asks());
}

#[test]
fn a_revocation_list_ends_open_connections_and_tickets_of_those_it_names() {
    let scene = Scene::new();
    let [honest, stolen] = [1, 2].map(|serial| scene.client(&issue(&scene.clients, serial, HOUR)));
    let before = scene.settings(vec![list(&scene.clients, &[], 2 * HOUR)]);
    let first = ServerTls::build(&before).unwrap();
    let mut testbed = TestBed::start(scene.world(first.clone()), Arc::default());
    let mut open: Vec<Tls> = [&honest, &stolen].map(|config| Tls::connect(config, testbed.address)).into();
    assert!(open.iter_mut().all(Tls::asks));

    // The same settings again: tickets stay good.
    let same = ServerTls::renew(&before, Some(&first)).unwrap();
    let cores = testbed.cores.as_mut().unwrap();
    testbed.runtime.block_on(cores.publish(Arc::new(scene.world(same)))).unwrap();
    let mut resumed = Tls::connect(&honest, testbed.address);
    assert!(resumed.asks());
    assert_eq!(resumed.kind(), HandshakeKind::Resumed);

    let revoked = scene.settings(vec![list(&scene.clients, &[2], 2 * HOUR)]);
    let second = ServerTls::renew(&revoked, Some(&first)).unwrap();
    testbed.runtime.block_on(cores.publish(Arc::new(scene.world(second.clone())))).unwrap();
    assert!(open[1].is_ended());
    assert!(!Tls::connect(&stolen, testbed.address).asks());
    assert!(open[0].asks() && resumed.asks(), "an honest connection goes on");
    assert_eq!(testbed.cores.as_ref().unwrap().totals().connections_cut, 1);
    let mut anew = Tls::connect(&honest, testbed.address);
    assert!(anew.asks());
    assert_eq!(anew.kind(), HandshakeKind::Full, "a ticket from before the change is taken");
    let mut again = Tls::connect(&honest, testbed.address);
    assert!(again.asks());
    assert_eq!(again.kind(), HandshakeKind::Resumed);

    // Another authority: nobody of the old one stays.
    let others = Authority::new();
    let client = ClientCertificates::Required(vec![others.der()]);
    let third =
        ServerTls::renew(&ServerTlsSettings { client, ..scene.settings(vec![]) }, Some(&second)).unwrap();
    let cores = testbed.cores.as_mut().unwrap();
    testbed.runtime.block_on(cores.publish(Arc::new(scene.world(third)))).unwrap();
    assert!(open[0].is_ended() && anew.is_ended());
    assert!(!Tls::connect(&honest, testbed.address).asks());
    assert!(Tls::connect(&scene.client(&issue(&others, 1, HOUR)), testbed.address).asks());
}

/// What a connection was accepted by judges it, also while it takes no others.
#[test]
fn a_listener_that_closes_still_judges_its_connections() {
    let scene = Scene::new();
    let before = scene.settings(vec![list(&scene.clients, &[], 2 * HOUR)]);
    let first = ServerTls::build(&before).unwrap();
    let revoked = scene.settings(vec![list(&scene.clients, &[2], 2 * HOUR)]);
    let second = ServerTls::renew(&revoked, Some(&first)).unwrap();
    let world = |tls: Option<&ServerTls>, closing| {
        let mut world = scene.world(first.clone());
        world.limits = Arc::new(Limits { header_read_ms_max: HOUR, ..Limits::default() });
        world.listeners[0] =
            ListenerSettings { closing, ..ListenerSettings::new(scene.address, tls.cloned()) };
        world
    };
    // Who has begun to ask is waited for.
    let begin = |testbed: &TestBed, serial| {
        let mut open = Tls::connect(&scene.client(&issue(&scene.clients, serial, HOUR)), testbed.address);
        assert!(open.asks());
        open.0.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        open
    };
    let mut testbed = TestBed::start(world(Some(&first), false), Arc::default());
    let (mut honest, mut stolen) = (begin(&testbed, 1), begin(&testbed, 2));
    for tls in [&first, &second] {
        let next = Arc::new(world(Some(tls), true));
        testbed.runtime.block_on(testbed.cores.as_mut().unwrap().publish(next)).unwrap();
    }
    assert!(stolen.is_ended());
    assert_eq!(testbed.cores.as_ref().unwrap().totals().connections_cut, 1);
    honest.0.write_all(b"host: test\r\n\r\n").unwrap();
    let mut answer = String::new();
    honest.0.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    // One that speaks no TLS any more takes no certificate either.
    let mut testbed = TestBed::start(world(Some(&first), false), Arc::default());
    let mut open = begin(&testbed, 1);
    let next = Arc::new(world(None, false));
    testbed.runtime.block_on(testbed.cores.as_mut().unwrap().publish(next)).unwrap();
    assert!(open.is_ended());
    assert_eq!(testbed.cores.as_ref().unwrap().totals().connections_cut, 1);
}

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn speaking(mut config: Arc<ClientConfig>, protocol: Option<&str>) -> Arc<ClientConfig> {
    Arc::get_mut(&mut config).unwrap().alpn_protocols =
        protocol.iter().map(|name| name.as_bytes().to_vec()).collect();
    config
}

#[test]
fn http2_ends_with_the_certificate() {
    let scene = Scene::new();
    let testbed =
        TestBed::start(scene.world(ServerTls::build(&scene.settings(vec![])).unwrap()), Arc::default());
    let [long, brief] = [HOUR, Duration::from_secs(3)].map(|valid| {
        undisturbed("connection while its certificate is good", GOOD, || {
            let client = scene.client(&issue(&scene.clients, 1, valid));
            let mut open = Tls::connect(&speaking(client, Some("h2")), testbed.address);
            let _ = open.0.write_all(PREFACE);
            // Settings come.
            (open.0.read(&mut [0; 64]).unwrap_or(0) > 0).then_some(open)
        })
    });
    std::thread::sleep(Duration::from_millis(4500));
    let ping = b"\0\0\x08\x06\0\0\0\0\0 a ping.";
    assert!(!brief.goes_on_after(ping, PATIENCE));
    assert!(long.goes_on_after(ping, SILENCE));
}

/// The world may change while a client shakes hands: it is judged by the new one.
#[test]
fn a_certificate_revoked_during_the_handshake_opens_nothing() {
    let ways = [
        (Some("h2"), Speaks::Http, PREFACE),
        (None, Speaks::Http, b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"),
        (None, Speaks::Opaque(Bytes::from_static(b"test")), b""),
    ];
    for (protocol, speaks, first) in ways {
        let scene = Scene {
            upstream: Upstream::new(|_, peer| {
                peer.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello");
                while peer.client.exactly(1).is_some() {}
            }),
            ..Scene::new()
        };
        let world = |tls: &ServerTls| {
            let mut world = scene.world(tls.clone());
            world.listeners.iter_mut().for_each(|listener| listener.speaks = speaks.clone());
            world
        };
        let before = ServerTls::build(&scene.settings(vec![list(&scene.clients, &[], 2 * HOUR)])).unwrap();
        let mut testbed = TestBed::start(world(&before), Arc::default());
        let mut clients = [1, 2].map(|serial| {
            let client = scene.client(&issue(&scene.clients, serial, HOUR));
            Tls::connect(&speaking(client, protocol), testbed.address)
        });
        for Tls(client) in &mut clients {
            while client.conn.is_handshaking() {
                client.conn.write_tls(&mut client.sock).unwrap();
                client.conn.read_tls(&mut client.sock).unwrap();
                client.conn.process_new_packets().unwrap();
            }
            // Its certificate waits to be sent.
            assert!(client.conn.wants_write());
        }
        let revoked = scene.settings(vec![list(&scene.clients, &[2], 2 * HOUR)]);
        let after = ServerTls::renew(&revoked, Some(&before)).unwrap();
        testbed.runtime.block_on(testbed.cores.as_mut().unwrap().publish(Arc::new(world(&after)))).unwrap();
        let [honest, stolen] = clients;
        assert!(honest.goes_on_after(first, SILENCE), "{protocol:?} {speaks:?}");
        assert!(!stolen.goes_on_after(first, PATIENCE), "{protocol:?} {speaks:?}");
    }
}

#[test]
fn a_list_past_its_time_or_of_another_authority_lets_nobody_in() {
    let scene = Scene::new();
    let member = scene.client(&issue(&scene.clients, 1, HOUR));
    let table = [
        ("no list", vec![], true),
        ("a good list", vec![list(&scene.clients, &[2], 2 * HOUR)], true),
        ("a list past its time", vec![list(&scene.clients, &[2], Duration::ZERO)], false),
        ("a list of another", vec![list(&Authority::new(), &[2], 2 * HOUR)], false),
    ];
    for (name, lists, expected) in table {
        let testbed =
            TestBed::start(scene.world(ServerTls::build(&scene.settings(lists)).unwrap()), Arc::default());
        assert_eq!(Tls::connect(&member, testbed.address).asks(), expected, "{name}");
    }
}

#[test]
fn a_ticket_of_one_listener_is_none_at_another() {
    let scene = Scene::new();
    let member = issue(&scene.clients, 1, HOUR);
    let open = ServerTlsSettings { client: ClientCertificates::None, ..scene.settings(vec![]) };
    let [lax, strict] = [open, scene.settings(vec![])]
        .map(|settings| TestBed::start(scene.world(ServerTls::build(&settings).unwrap()), Arc::default()));
    let client = scene.client(&member);
    assert!(Tls::connect(&client, lax.address).asks());
    let mut resumed = Tls::connect(&client, lax.address);
    assert!(resumed.asks());
    assert_eq!(resumed.kind(), HandshakeKind::Resumed);
    // The client offers the ticket by name; the listener asks for the certificate.
    let mut at_strict = Tls::connect(&client, strict.address);
    assert!(at_strict.asks());
    assert_eq!(at_strict.kind(), HandshakeKind::Full);
}

/// Says what the test says.
pub struct Fickle {
    pub epoch: AtomicU64,
    pub holds_for: Option<Duration>,
    pub falls: bool,
}

impl Judge for Fickle {
    fn cleared_in(&self) -> u64 {
        0
    }

    fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    fn holds_for(&self, _: &Cleared) -> Option<Duration> {
        self.holds_for
    }

    fn judge_again(&self, _: &Cleared) -> Standing {
        let status = StatusCode::FORBIDDEN;
        let cut =
            Cut { step: Step::Authorize, class: "policy", status, reason: "no".into(), decision: vec![] };
        if self.falls { Standing::Falls(Box::new(cut)) } else { Standing::Stands }
    }

    fn trusts(&self, _: &UpstreamPeer) -> bool {
        true
    }
}

/// A hop whose exchanges `judge` watches, and what becomes of them.
fn watched(upstream: &Upstream, judge: &Arc<Fickle>) -> (TestBed, impl Fn() -> Arc<TestWorld> + use<>) {
    let outcomes: Arc<std::sync::Mutex<Vec<String>>> = Arc::default();
    let (address, judge, reported) = (upstream.address, Arc::clone(judge), Arc::clone(&outcomes));
    let build = move || {
        let routes = vec![TestRoute { path: "/**", settings: settings(0) }];
        let services = vec![service("test", &[address])];
        let mut world =
            TestWorld::new(vec![cleartext(anywhere())], services, routes, Limits::default(), None);
        world.judge = judge.clone();
        let reported = Arc::clone(&reported);
        world.report = Some(Arc::new(move |outcome| {
            let error = outcome.error.as_ref().map(ToString::to_string).unwrap_or_default();
            reported.lock().unwrap().push(error);
        }));
        world
    };
    let testbed = TestBed::start(build(), outcomes);
    (testbed, move || Arc::new(build()))
}

/// Whether the connection ends, whatever came before.
fn ended(client: &crate::testbed::Client) -> bool {
    match (&client.stream).read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Begins an answer, or a tunnel, that never ends.
fn endless() -> Upstream {
    Upstream::new(|_, peer| {
        let request = peer.request_head().unwrap();
        if request.field("upgrade").is_some() {
            peer.send(
                "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello",
            );
        } else {
            peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n");
        }
        while peer.client.exactly(1).is_some() {}
    })
}

const LONG: &str = "GET /long HTTP/1.1\r\nhost: test\r\n\r\n";
const TUNNEL: &str = "GET /ws HTTP/1.1\r\nhost: test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

#[test]
fn a_change_cuts_what_falls_and_leaves_what_stands() {
    for (falls, cut) in [(true, "cut: no"), (false, "")] {
        for request in [LONG, TUNNEL] {
            let upstream = endless();
            let judge = Arc::new(Fickle { epoch: AtomicU64::new(0), holds_for: None, falls });
            let (mut testbed, next) = watched(&upstream, &judge);
            let mut client = testbed.client();
            client.send(request);
            client.head().unwrap();
            judge.epoch.store(1, Ordering::SeqCst);
            let cores = testbed.cores.as_mut().unwrap();
            testbed.runtime.block_on(cores.publish(next())).unwrap();
            if falls {
                assert!(ended(&client), "{request}");
                until("the report", || !testbed.outcomes.lock().unwrap().is_empty());
                assert_eq!(*testbed.outcomes.lock().unwrap(), [cut], "{request}");
            } else {
                client.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                let mut rest = Vec::new();
                let ended = (&client.stream).read_to_end(&mut rest);
                assert!(ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{request}");
                assert!(testbed.outcomes.lock().unwrap().is_empty(), "{request}");
            }
        }
    }
}

#[test]
fn nothing_is_sent_under_a_permit_that_is_over() {
    for (holds_for, status, requests) in
        [(Some(Duration::ZERO), "401", 0), (Some(HOUR), "200", 1), (None, "200", 1)]
    {
        let upstream = Upstream::honest("here");
        let judge = Arc::new(Fickle { epoch: AtomicU64::new(0), holds_for, falls: true });
        let (testbed, _) = watched(&upstream, &judge);
        let mut client = testbed.client();
        client.send("POST /here HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\none");
        let head = client.head().unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{holds_for:?}: {head}");
        assert_eq!(upstream.requests(), requests, "{holds_for:?}");
    }
}

#[test]
fn an_exchange_ends_when_its_permit_does() {
    for request in [LONG, TUNNEL] {
        for (holds_for, ends) in [(Some(Duration::from_millis(300)), true), (Some(HOUR), false)] {
            let upstream = endless();
            let judge = Arc::new(Fickle { epoch: AtomicU64::new(0), holds_for, falls: true });
            let (testbed, _) = watched(&upstream, &judge);
            // One whose answer is held up for as long as the permit holds gets none.
            let client = undisturbed("answer that begins", Duration::from_millis(300), || {
                testbed.outcomes.lock().unwrap().clear();
                let mut client = testbed.client();
                client.send(request);
                let begun = ["HTTP/1.1 200 ", "HTTP/1.1 101 "];
                client.head().filter(|head| begun.iter().any(|line| head.starts_with(line))).map(|_| client)
            });
            if ends {
                assert!(ended(&client));
                until("the report", || !testbed.outcomes.lock().unwrap().is_empty());
                assert!(testbed.outcomes.lock().unwrap()[0].contains("the credential ended"));
            } else {
                client.stream.set_read_timeout(Some(Duration::from_millis(800))).unwrap();
                let ended = (&client.stream).read_to_end(&mut Vec::new());
                assert!(ended.is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "{request}");
            }
        }
    }
}

/// A short body is read to its end before anybody is asked, and its client may take its time.
#[test]
fn a_request_whose_short_body_is_awaited_is_cut_too() {
    let upstream = Upstream::honest("here");
    let judge = Arc::new(Fickle { epoch: AtomicU64::new(0), holds_for: None, falls: true });
    let (mut testbed, next) = watched(&upstream, &judge);
    let mut client = testbed.client();
    client.send("POST /here HTTP/1.1\r\nhost: test\r\ncontent-length: 3\r\n\r\non");
    std::thread::sleep(Duration::from_millis(300));
    judge.epoch.store(1, Ordering::SeqCst);
    let cores = testbed.cores.as_mut().unwrap();
    testbed.runtime.block_on(cores.publish(next())).unwrap();
    until("the report", || !testbed.outcomes.lock().unwrap().is_empty());
    assert_eq!(*testbed.outcomes.lock().unwrap(), ["cut: no"]);
    assert_eq!(upstream.requests(), 0);
}

/// A client that reads nothing must not hold up its own end.
#[test]
fn who_does_not_read_is_cut_too() {
    let upstream = Upstream::new(|_, peer| {
        peer.request_head().unwrap();
        peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
        for _ in 0..2000 {
            peer.send(&"x".repeat(16 * 1024));
        }
    });
    let judge = Arc::new(Fickle { epoch: AtomicU64::new(0), holds_for: None, falls: true });
    let (mut testbed, next) = watched(&upstream, &judge);
    let mut client = testbed.client();
    client.send(TUNNEL);
    // The answer is there, and nobody reads it; then everything on the way fills up.
    assert_eq!(client.stream.peek(&mut [0; 1]).unwrap(), 1);
    std::thread::sleep(Duration::from_millis(300));
    judge.epoch.store(1, Ordering::SeqCst);
    let cores = testbed.cores.as_mut().unwrap();
    testbed.runtime.block_on(cores.publish(next())).unwrap();
    let mut waited = Duration::ZERO;
    while testbed.cores.as_ref().unwrap().totals().connections_open > 0 {
        assert!(waited < PATIENCE, "the connection stays");
        std::thread::sleep(Duration::from_millis(50));
        waited += Duration::from_millis(50);
    }
    until("the report", || !testbed.outcomes.lock().unwrap().is_empty());
    assert_eq!(*testbed.outcomes.lock().unwrap(), ["cut: no"]);
}
