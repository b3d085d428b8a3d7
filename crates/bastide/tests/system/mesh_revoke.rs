//! Certificates and workloads of the mesh that are revoked while they are in use: at a gateway
//! that is a member, and at a service of `bastide run`. Says how long it takes, from before the call
//! to the end of the last connection as its client sees it.

use std::io::PipeWriter;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bastide::admin::client::{AdminClient, socket};
use keys::CertificateRules;
use mesh::verify::Verifier;
use mesh::workload_api::{Client, X509Context, X509Identity};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::endless::endless;
use crate::mesh_calls::token;
use crate::peers::free_port;
use crate::support::{BASTIDE, PATIENCE, Process, TestBed, read, until};

struct Scene {
    testbed: TestBed,
    payments: Process,
    /// The gateway's listener of the mesh, and the service's.
    endpoints: [SocketAddr; 2],
}

async fn scene() -> Scene {
    scene_at(|port| format!("127.0.0.1:{port}")).await
}

/// The same, and `at` says where payments are.
async fn scene_at(at: impl Fn(u16) -> String) -> Scene {
    scene_of(at, &["sleep", "1000"], None).await
}

/// The same, and payments run beside this program, with a log that is read, or not, elsewhere.
async fn scene_of(at: impl Fn(u16) -> String, program: &[&str], log: Option<PipeWriter>) -> Scene {
    let upstream = endless().await.unwrap();
    let port = free_port();
    let mut testbed = TestBed::prepare("");
    let uid = rustix::process::geteuid().as_raw();
    let shared = format!(
        "mesh:\n  trust_domain: shop.example\n  socket: api.sock\n  services:\n    payments: {}\n  \
         workloads:\n    orders: {{ uid: {uid} }}\n    honest: {{ uid: {uid} }}\n    payments: {{ uid: {uid} }}\n    \
         gateway: {{ uid: {uid} }}\npolicies: shop.cedar\n",
        at(port)
    );
    std::fs::write(testbed.path("mesh.yaml"), shared).unwrap();
    std::fs::write(testbed.path("shop.cedar"), "permit (principal, action, resource);").unwrap();
    testbed.configure(&format!(
        "  - {{ address: 127.0.0.1:0, tls: {{ mesh: true }} }}\ninclude: mesh.yaml\n\
         services: {{ long: [ \"http://{upstream}\" ] }}\n\
         routes:\n  - {{ name: long, match: /**, to: long, authenticate: mtls }}\n  \
         - {{ name: through, match: /through/**, to: payments, authenticate: none, allow: anyone }}\n"
    ));
    let (code, out, err) = testbed.bastide(&["init"]);
    assert_eq!(code, 0, "{out}{err}");
    testbed.start_gateway().await;
    let mut run = Command::new(BASTIDE);
    run.args(["run", "--service", "payments", "--listen", &format!("127.0.0.1:{port}")])
        .args(["--to", &upstream.port().to_string(), "--listener-uid", &uid.to_string(), "--"])
        .args(program)
        .current_dir(testbed.folder.path())
        .stdout(Stdio::null())
        .stderr(match log {
            Some(log) => Stdio::from(log),
            None => std::fs::File::create(testbed.path("payments.log")).unwrap().into(),
        });
    let payments = Process::spawn(&mut run);
    drop(run);
    let endpoints = [testbed.address(2), SocketAddr::from(([127, 0, 0, 1], port))];
    until("the service", async || TcpStream::connect(endpoints[1]).await.ok()).await;
    Scene { testbed, payments, endpoints }
}

impl Scene {
    async fn context(&self) -> X509Context {
        let client = Client::connect(&self.testbed.path("api.sock")).await.unwrap();
        client.x509().await.unwrap().next().await.unwrap().unwrap()
    }

    /// Revokes or lifts by the administration of the running process.
    fn call(&self, method: &str, path: &str, body: Option<&Value>) -> u16 {
        let admin = AdminClient::Running(socket(&self.testbed.path("state")));
        admin.call(method, path, body).unwrap().status
    }

    /// The gateway's audit log.
    fn audit(&self) -> String {
        let files = std::fs::read_dir(self.testbed.path("state/audit")).into_iter().flatten();
        files.filter_map(|entry| Some(read(&entry.ok()?.path()))).collect()
    }

    fn say(&self) -> String {
        format!("{}\n{}", self.testbed.log(), read(&self.testbed.path("payments.log")))
    }
}

fn named<'c>(context: &'c X509Context, name: &str) -> Option<&'c X509Identity> {
    context.identities.iter().find(|identity| identity.hint == name)
}

fn serial(identity: &X509Identity) -> String {
    let rules = CertificateRules::of_trust_domain("shop.example");
    let now = bastide::process::clock::SystemClock::start();
    keys::identify(&identity.chain[0], &rules, model::Clock::now(&now)).unwrap().serial
}

/// As this identity, with a memory for tickets.
fn client(context: &X509Context, name: &str) -> TlsConnector {
    TlsConnector::from(Arc::new(client_config(context, name)))
}

pub(crate) fn client_config(context: &X509Context, name: &str) -> ClientConfig {
    let identity = named(context, name).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new(&context.anchors, None, &provider).unwrap();
    let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.to_vec()));
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)
        .unwrap()
}

type Stream = TlsStream<TcpStream>;

async fn connect(client: &TlsConnector, endpoint: SocketAddr) -> std::io::Result<Stream> {
    let stream = TcpStream::connect(endpoint).await?;
    client.connect(ServerName::try_from("payments").unwrap(), stream).await
}

/// Begins an answer that never ends.
async fn begin(client: &TlsConnector, endpoint: SocketAddr) -> std::io::Result<Stream> {
    begin_with(client, endpoint, "").await
}

/// The same for the end user of this token.
async fn begin_for(client: &TlsConnector, endpoint: SocketAddr, token: &str) -> std::io::Result<Stream> {
    begin_with(client, endpoint, &format!("x-bastide-user: {token}\r\n")).await
}

async fn begin_with(client: &TlsConnector, endpoint: SocketAddr, fields: &str) -> std::io::Result<Stream> {
    let mut stream = connect(client, endpoint).await?;
    stream.write_all(format!("GET /long HTTP/1.1\r\nhost: payments\r\n{fields}\r\n").as_bytes()).await?;
    let mut seen = Vec::new();
    while !seen.windows(5).any(|window| window == b"hello") {
        let read = timeout(PATIENCE, stream.read_buf(&mut seen)).await?;
        if read? == 0 || seen.starts_with(b"HTTP/1.1 4") {
            return Err(std::io::Error::other(String::from_utf8_lossy(&seen).into_owned()));
        }
    }
    Ok(stream)
}

/// When it has ended.
fn end_of(mut stream: Stream) -> JoinHandle<Instant> {
    tokio::spawn(async move {
        let mut buffer = [0; 1024];
        let ended = async { while stream.read(&mut buffer).await.unwrap_or(0) > 0 {} };
        timeout(PATIENCE, ended).await.expect("the connection goes on");
        Instant::now()
    })
}

async fn is_open(stream: &mut Stream) -> bool {
    timeout(Duration::from_millis(300), stream.read(&mut [0; 64])).await.is_err()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stolen_certificate_is_revoked_and_its_connections_end() {
    let scene = scene().await;
    let context = scene.context().await;
    let (stolen, honest) = (client(&context, "orders"), client(&context, "honest"));
    let (mut victims, mut kept) = (Vec::new(), Vec::new());
    for (place, endpoint) in scene.endpoints.into_iter().enumerate() {
        victims.push(end_of(
            begin(&stolen, endpoint).await.unwrap_or_else(|error| panic!("{place} {error} {}", scene.say())),
        ));
        // A session that is resumed while its certificate counts.
        let resumed = begin(&stolen, endpoint).await.unwrap();
        assert_eq!(resumed.get_ref().1.handshake_kind(), Some(HandshakeKind::Resumed));
        victims.push(end_of(resumed));
        victims.push(end_of(connect(&stolen, endpoint).await.unwrap()));
        kept.push(begin(&honest, endpoint).await.unwrap());
    }
    let number = serial(named(&context, "orders").unwrap());
    let began = Instant::now();
    assert_eq!(scene.call("POST", "/v1/revocations", Some(&json!({ "certificate": number }))), 201);
    let mut longest = Duration::ZERO;
    for victim in victims {
        longest = longest.max(victim.await.unwrap() - began);
    }
    println!("from the revocation to the end of the last connection: {longest:?}");
    for endpoint in scene.endpoints {
        // TLS 1.3: the client has shaken hands before it is refused.
        assert!(begin(&stolen, endpoint).await.is_err(), "a session of before is resumed");
        assert!(begin(&client(&context, "orders"), endpoint).await.is_err(), "a new one is opened");
    }
    for stream in &mut kept {
        assert!(is_open(stream).await, "an honest one was cut: {}", scene.say());
    }
    // The workload itself is not revoked: it has another certificate already.
    let next = scene.context().await;
    for endpoint in scene.endpoints {
        begin(&client(&next, "orders"), endpoint).await.unwrap();
    }
    // Who did it, and to whom, is in the audit log.
    until("the event", async || {
        let log = scene.audit();
        log.contains("of spiffe://shop.example/orders").then(|| assert!(log.contains(&number)))
    })
    .await;
}

/// Nobody has to mend a file first: what is revoked counts while keys and lists cannot be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_waits_for_no_file_that_cannot_be_read() {
    let scene = scene().await;
    let refused = async |count: u8| {
        let told = format!("bastide_files_refused {count}\n");
        until(&told, async || {
            let page = scene.testbed.admin("/metrics").await.body;
            String::from_utf8_lossy(&page).contains(&told).then_some(())
        })
        .await;
    };
    let files = ["state/api-keys.json", "state/revocations.json"].map(|name| scene.testbed.path(name));
    for file in &files {
        std::fs::write(file, "half a file").unwrap();
    }
    for told in
        ["API keys were read again, but of these what was before stays", "the revocation list is refused"]
    {
        until(told, async || scene.testbed.log().contains(told).then_some(())).await;
    }
    let context = scene.context().await;
    let (stolen, honest) = (client(&context, "orders"), client(&context, "honest"));
    let endpoint = scene.endpoints[0];
    let victim = end_of(begin(&stolen, endpoint).await.unwrap());
    let mut kept = begin(&honest, endpoint).await.unwrap();
    let revoked = json!({ "identity": "spiffe://shop.example/orders" });
    assert_eq!(scene.call("POST", "/v1/revocations", Some(&revoked)), 201);
    victim.await.unwrap();
    assert!(begin(&stolen, endpoint).await.is_err(), "a revoked one is let in: {}", scene.say());
    assert!(is_open(&mut kept).await, "an honest one was cut: {}", scene.say());
    refused(2).await;
    // What is there again is taken, without a word from anybody.
    for file in &files {
        std::fs::remove_file(file).unwrap();
    }
    refused(0).await;
    assert!(begin(&stolen, endpoint).await.is_err(), "a revoked one is let in: {}", scene.say());
    begin(&honest, endpoint).await.unwrap();
}

/// Whoever reads the log may stand still: the program waits, and nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_nobody_reads_holds_up_neither_calls_nor_revocations_nor_the_end() {
    let (unread, log) = std::io::pipe().unwrap();
    let mut scene = scene_of(|port| format!("127.0.0.1:{port}"), &["yes"], Some(log)).await;
    // There is no room for another line.
    let mut before = 0;
    until("the pipe to be full", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let waiting = rustix::io::ioctl_fionread(&unread).unwrap();
        (waiting == std::mem::replace(&mut before, waiting) && waiting > 60_000).then_some(())
    })
    .await;
    let endpoint = scene.endpoints[1];
    for _ in 0..20 {
        // The core has something to say of each.
        let mut stranger = TcpStream::connect(endpoint).await.unwrap();
        let _ = stranger.write_all(b"GET / HTTP/1.1\r\nhost: payments\r\n\r\n").await;
        let ended = timeout(PATIENCE, stranger.read_to_end(&mut Vec::new())).await;
        let _ = ended.expect("a stranger is not answered");
    }
    let context = scene.context().await;
    let (stolen, honest) = (client(&context, "orders"), client(&context, "honest"));
    let victim = end_of(begin(&stolen, endpoint).await.unwrap());
    let mut kept = begin(&honest, endpoint).await.unwrap();
    let revoked = json!({ "identity": "spiffe://shop.example/orders" });
    assert_eq!(scene.call("POST", "/v1/revocations", Some(&revoked)), 201);
    victim.await.unwrap();
    assert!(is_open(&mut kept).await, "an honest one was cut");
    drop(kept);
    scene.payments.signal(rustix::process::Signal::TERM);
    let status = scene.payments.ended().await;
    assert_eq!(status.code(), Some(128 + 15), "{status}");
    drop(unread);
}

/// A service that calls for somebody does so no longer than the token about them says, and not by
/// the word of a gateway that is revoked. The gateway's own calls go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_for_a_user_ends_with_the_token_and_with_its_signer() {
    const AUDIENCE: &str = "spiffe://shop.example";
    let scene = scene().await;
    let endpoint = scene.endpoints[1];
    let context = scene.context().await;
    let gateway = named(&context, "gateway").unwrap();
    let [orders, itself] = ["orders", "gateway"].map(|name| client(&context, name));
    let clock = bastide::process::clock::SystemClock::start();
    let now = || model::Clock::now(&clock);
    // Issued within what clocks may differ by, and good for 90 s from then.
    let good = token(gateway, AUDIENCE, now().plus(Duration::from_secs(25)));
    let mut for_itself = begin(&orders, endpoint).await.unwrap();
    let mut for_another = begin_for(&orders, endpoint, &good).await.unwrap();
    let (ending, mut of_gateway, ends) = until("calls by a token that ends soon", async || {
        // Of its 60 s and the 30 s of tolerance, 8 s are left.
        let ending = token(gateway, AUDIENCE, now().minus(Duration::from_secs(82)));
        let of_gateway = begin_for(&itself, endpoint, &ending).await.ok()?;
        let ends = begin_for(&orders, endpoint, &ending).await.ok()?;
        Some((ending, of_gateway, ends))
    })
    .await;
    end_of(ends).await.unwrap();
    assert!(begin_for(&orders, endpoint, &ending).await.is_err(), "it has ended: {}", scene.say());
    for stream in [&mut for_itself, &mut for_another, &mut of_gateway] {
        assert!(is_open(stream).await, "one whose proof is good was cut: {}", scene.say());
    }
    let number = serial(gateway);
    assert_eq!(scene.call("POST", "/v1/revocations", Some(&json!({ "certificate": number }))), 201);
    end_of(for_another).await.unwrap();
    end_of(of_gateway).await.unwrap();
    assert!(is_open(&mut for_itself).await, "one for nobody was cut: {}", scene.say());
}

/// What a service that is revoked is answering is not heard to its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_to_a_revoked_service_ends() {
    is_not_heard_to_its_end(&scene().await).await;
}

/// Nor where the registry has none of it any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_under_way_to_a_revoked_service_of_the_registry_ends() {
    is_not_heard_to_its_end(&scene_at(|_| "registry".to_owned()).await).await;
}

async fn is_not_heard_to_its_end(scene: &Scene) {
    // Until the gateway knows where it is, that is an answer too.
    let mut call = until("the call", async || {
        let mut call = TcpStream::connect(scene.testbed.address(1)).await.unwrap();
        call.write_all(b"GET /through/long HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"hello\r\n") {
            let read = timeout(PATIENCE, call.read_buf(&mut seen)).await.expect("an answer begins").unwrap();
            assert!(read > 0, "{}\n{}", String::from_utf8_lossy(&seen), scene.say());
            if seen.starts_with(b"HTTP/1.1 503") {
                return None;
            }
        }
        Some(call)
    })
    .await;
    let revoked = json!({ "identity": "spiffe://shop.example/payments" });
    assert_eq!(scene.call("POST", "/v1/revocations", Some(&revoked)), 201);
    let rest = timeout(PATIENCE, call.read_to_end(&mut Vec::new())).await;
    rest.expect("the call goes on").ok();
    until("the reason", async || {
        let log = scene.audit();
        log.contains("the upstream's certificate is not accepted any more").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_workload_has_nothing_until_it_is_lifted() {
    let scene = scene().await;
    let context = scene.context().await;
    let orders = client(&context, "orders");
    let mut victims = Vec::new();
    for endpoint in scene.endpoints {
        victims.push(end_of(begin(&orders, endpoint).await.unwrap()));
    }
    let began = Instant::now();
    let (code, out, err) =
        scene.testbed.bastide(&["mesh", "revoke", "--identity", "spiffe://shop.example/orders"]);
    assert_eq!((code, out.as_str(), err.as_str()), (0, "revoked: spiffe://shop.example/orders\n", ""));
    for victim in victims {
        println!("from the command to the end: {:?}", victim.await.unwrap() - began);
    }
    assert!(named(&scene.context().await, "orders").is_none());
    let (_, status, _) = scene.testbed.bastide(&["mesh", "status", "--output", "json"]);
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!(status["revoked"]["identities"], json!(["spiffe://shop.example/orders"]));

    let name = ["--identity", "spiffe://shop.example/orders"];
    assert_eq!(scene.testbed.bastide(&["mesh", "lift", name[0], name[1]]).0, 0);
    assert_eq!(scene.testbed.bastide(&["mesh", "lift", name[0], name[1]]).0, 1, "there is nothing to lift");
    let lifted = scene.context().await;
    for endpoint in scene.endpoints {
        until("the new certificate to be taken", async || {
            begin(&client(&lifted, "orders"), endpoint).await.ok()
        })
        .await;
        assert!(begin(&orders, endpoint).await.is_err(), "one of before");
    }
    // Whoever may have meant somebody else is told so, and it is revoked all the same.
    for (id, says) in [
        ("spiffe://shop.example/ordrs", "no workload is registered as spiffe://shop.example/ordrs"),
        ("spiffe://shop.example/ordrs", "(did you mean \"spiffe://shop.example/orders\"?)"),
        ("spiffe://shpo.example/orders", "shpo.example, which is no trust domain that is trusted here"),
    ] {
        let (code, out, err) = scene.testbed.bastide(&["mesh", "revoke", "--identity", id]);
        assert_eq!((code, out), (0, format!("revoked: {id}\n")), "{err}");
        assert!(err.contains(says) && err.lines().count() == 1, "{err}");
        let arguments = ["mesh", "revoke", "--identity", id, "--output", "json"];
        let (_, out, _) = scene.testbed.bastide(&arguments);
        let told: Value = serde_json::from_str(&out).unwrap();
        assert_eq!(told["revoked"]["identity"], id);
        assert!(told["warning"].as_str().unwrap().contains(says), "{told}");
        assert_eq!(scene.testbed.bastide(&["mesh", "lift", "--identity", id]).0, 0);
    }
    // What is no serial number, unknown, or not one thing.
    for (body, status) in [
        (json!({ "certificate": "no number" }), 422),
        (json!({ "certificate": "4fab" }), 422),
        (json!({ "identity": "orders" }), 422),
        (json!({ "identity": "spiffe://shop.example/orders", "certificate": "4fab" }), 422),
        (json!({ "identity": "spiffe://shop.example/orders", "expires_in": 5 }), 422),
    ] {
        assert_eq!(scene.call("POST", "/v1/revocations", Some(&body)), status, "{body}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_revoked_authority_signed_is_counted_as_valid_no_more() {
    let scene = scene().await;
    scene.context().await;
    let status = || -> Value {
        let (code, out, err) = scene.testbed.bastide(&["mesh", "status", "--output", "json"]);
        assert_eq!(code, 0, "{err}");
        serde_json::from_str(&out).unwrap()
    };
    let issuing = |status: &Value, state: &str| {
        let mut all = status["authorities"].as_array().unwrap().iter();
        let found = all.find(|one| one["kind"] == "issuing" && one["state"] == state);
        found.map(|one| (one["id"].as_str().unwrap().to_owned(), one["certificates"].as_u64().unwrap()))
    };
    let before = status();
    assert_eq!(before["valid"], before["certificates"]);
    let (leaked, _) = issuing(&before, "active").unwrap();
    let run = |arguments: &[&str]| {
        let (code, out, err) = scene.testbed.bastide(&[&["mesh"], arguments].concat());
        assert_eq!(code, 0, "{arguments:?}: {out}{err}");
    };
    run(&["prepare"]);
    let (next, _) = issuing(&status(), "prepared").unwrap();
    run(&["activate", &next]);
    run(&["taint", &leaked]);
    run(&["revoke", &leaked]);
    let after = status();
    let (id, signed) = issuing(&after, "revoked").unwrap();
    assert!(id == leaked && signed > 0, "{after}");
    let total = after["certificates"].as_u64().unwrap();
    assert_eq!(after["valid"].as_u64().unwrap(), total - signed, "{after}");
    // Nothing of that name is a "no", of authorities as of workloads.
    for arguments in [["taint", "zzz"], ["activate", "zzz"], ["revoke", "zzz"]] {
        let (code, out, err) = scene.testbed.bastide(&[&["mesh"][..], &arguments].concat());
        assert!(code == 1 && err.contains("no authority's id begins with \"zzz\""), "{out}{err}");
    }
}
