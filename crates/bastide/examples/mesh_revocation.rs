//! How long what is revoked in the mesh goes on: a control plane, eight services behind `bastide run`, and 5,000
//! connections of mutual TLS to them, two of five with an answer that never ends, the others kept open after one that
//! has ended. First the certificate of a fifth of them is revoked by its serial number, then the workload of
//! all others by its SPIFFE ID. Measured from before the call of the administration to the end of the connection as
//! its client sees it: what the control plane writes down, how it reaches each proxy, and the cut.
//!
//! `cargo xtask bench mesh-revocation`, or with a binary:
//! `cargo run --release -p bastide --example mesh_revocation -- target/release/bastide`

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark reads the clock, prints, and fails by its exit code"
)]

#[path = "support/endless.rs"]
mod endless;
#[path = "support/ends.rs"]
mod ends;

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bastide::admin::client::{AdminClient, socket};
use bastide::process::clock::SystemClock;
use endless::endless;
use ends::Ends;
use keys::CertificateRules;
use mesh::verify::Verifier;
use mesh::workload_api::{Client, X509Context, X509Identity};
use model::Clock as _;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustls::ClientConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const CONNECTIONS: usize = 5000;
const SERVICES: usize = 8;
/// One of so many shows the certificate that is revoked.
const STOLEN: usize = 5;
/// Two of so many have an answer under way: fewer than a proxy's connections to its program.
const UNDER_WAY: usize = 5;
/// Handshakes at the same time.
const AT_ONCE: usize = 32;
/// How long anything may take before the measurement.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process that ends with this.
struct Running(Child);

impl Running {
    fn start(binary: &Path, folder: &Path, arguments: &[&str]) -> std::io::Result<Self> {
        let mut command = Command::new(binary);
        command.args(arguments).current_dir(folder).env("BASTIDE_LOG", "warn");
        command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().map(Self)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let told = Pid::from_raw(self.0.id().cast_signed()).map(|pid| kill_process(pid, Signal::TERM));
        if told.is_some() {
            let _ = self.0.wait();
        }
    }
}

/// Control plane and services; the services end first.
struct Mesh {
    services: Vec<(SocketAddr, Running)>,
    _control: Running,
    folder: tempfile::TempDir,
}

impl Mesh {
    async fn start(binary: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let upstream = endless().await?;
        let uid = rustix::process::geteuid().as_raw().to_string();
        let ports = (0..SERVICES).map(|_| free_port()).collect::<std::io::Result<Vec<_>>>()?;
        configure(folder.path(), &uid, &ports)?;
        let made = Command::new(binary).arg("init").current_dir(folder.path()).output()?;
        ensure!(made.status.success(), "init: {}", String::from_utf8_lossy(&made.stderr));
        let control = Running::start(binary, folder.path(), &["serve"])?;
        until("the control plane", async || folder.path().join("api.sock").exists().then_some(())).await?;
        let mut services = Vec::new();
        for (number, address) in ports.into_iter().enumerate() {
            let (name, listen, to) = (service(number), address.to_string(), upstream.port().to_string());
            let arguments = ["run", "--service", &name, "--listen", &listen, "--to", &to];
            let program = ["--listener-uid", &uid, "--", "sleep", "1000000"];
            let arguments: Vec<&str> = arguments.into_iter().chain(program).collect();
            services.push((address, Running::start(binary, folder.path(), &arguments)?));
        }
        for (address, _) in &services {
            until("a service", async || TcpStream::connect(address).await.ok()).await?;
        }
        Ok(Self { services, _control: control, folder })
    }

    /// All that this user is registered for.
    async fn identities(&self) -> anyhow::Result<X509Context> {
        let client = Client::connect(&self.folder.path().join("api.sock")).await?;
        client.x509().await?.next().await.context("no identities")?.context("no identities")
    }

    fn revoke(&self, what: &Value) -> anyhow::Result<()> {
        let admin = AdminClient::Running(socket(&self.folder.path().join("state")));
        let answer = admin.call("POST", "/v1/revocations", Some(what))?;
        ensure!(answer.status == 201, "{}: {}", answer.status, answer.body);
        Ok(())
    }
}

fn service(number: usize) -> String {
    format!("service-{number}")
}

fn free_port() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

fn configure(folder: &Path, uid: &str, ports: &[SocketAddr]) -> std::io::Result<()> {
    let (mut services, mut workloads) = (String::new(), String::new());
    for (number, address) in ports.iter().enumerate() {
        services += &format!("    {}: {address}\n", service(number));
        workloads += &format!("    {}: {{ uid: {uid} }}\n", service(number));
    }
    let mesh = format!(
        "mesh:\n  trust_domain: town.example\n  socket: api.sock\n  services:\n{services}  workloads:\n    \
         stolen: {{ uid: {uid} }}\n    honest: {{ uid: {uid} }}\n{workloads}\
         policies:\n  inline: |\n    permit (principal, action, resource);\n"
    );
    std::fs::write(folder.join("mesh.yaml"), mesh)?;
    let control = "include: mesh.yaml\nstate: ./state\nadmin: { address: 127.0.0.1:0 }\nlisten: [ 127.0.0.1:0 ]\nroutes: []\n";
    std::fs::write(folder.join("bastide.yaml"), control)
}

/// Asks until there is something.
async fn until<T>(what: &str, ask: impl AsyncFn() -> Option<T>) -> anyhow::Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return Ok(found);
        }
        ensure!(began.elapsed() < PATIENCE, "{what} is not there after {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn named<'c>(context: &'c X509Context, name: &str) -> anyhow::Result<&'c X509Identity> {
    context
        .identities
        .iter()
        .find(|identity| identity.hint == name)
        .with_context(|| format!("no identity {name}"))
}

fn connector(context: &X509Context, name: &str) -> anyhow::Result<TlsConnector> {
    let identity = named(context, name)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = Verifier::new(&context.anchors, None, &provider)?;
    let chain = identity.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(identity.key.to_vec()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key)?;
    Ok(TlsConnector::from(Arc::new(config)))
}

type Stream = TlsStream<TcpStream>;

/// Opens a connection with one answer, that is still under way or has ended.
async fn open(client: TlsConnector, from: IpAddr, to: SocketAddr, under_way: bool) -> anyhow::Result<Stream> {
    let tcp = TcpSocket::new_v4()?;
    tcp.bind(SocketAddr::new(from, 0))?;
    let mut stream = client.connect(ServerName::try_from("service")?, tcp.connect(to).await?).await?;
    let (method, last) = if under_way { ("GET", &b"hello\r\n"[..]) } else { ("HEAD", &b"\r\n\r\n"[..]) };
    stream.write_all(format!("{method} /long HTTP/1.1\r\nhost: service\r\n\r\n").as_bytes()).await?;
    let mut seen = Vec::new();
    while !seen.ends_with(last) {
        ensure!(stream.read_buf(&mut seen).await? > 0, "{}", String::from_utf8_lossy(&seen));
    }
    Ok(stream)
}

/// Until its other end has closed it.
async fn closed(mut stream: Stream) {
    has_closed(&mut stream).await;
}

async fn has_closed(stream: &mut Stream) {
    while stream.read(&mut [0; 1024]).await.unwrap_or(0) > 0 {}
}

async fn run(binary: PathBuf) -> anyhow::Result<bool> {
    let mesh = Mesh::start(&binary).await?;
    let context = mesh.identities().await?;
    let clients = [connector(&context, "stolen")?, connector(&context, "honest")?];
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut opening = JoinSet::new();
    for number in 0..CONNECTIONS {
        let is_stolen = number % STOLEN == 0;
        let [stolen, honest] = &clients;
        let client = if is_stolen { stolen.clone() } else { honest.clone() };
        let (to, _) = mesh.services.get(number % SERVICES).context("a service")?;
        let (to, under_way) = (*to, number / SERVICES % UNDER_WAY < 2);
        let from = IpAddr::from([127, 0, 1, u8::try_from(number % 200)? + 1]);
        let gate = Arc::clone(&gate);
        opening.spawn(async move {
            let _turn = gate.acquire_owned().await;
            (is_stolen, open(client, from, to, under_way).await)
        });
    }
    let (mut stolen, mut honest) = (Vec::new(), Vec::new());
    while let Some(opened) = opening.join_next().await {
        let (is_stolen, stream) = opened?;
        if is_stolen { stolen.push(stream?) } else { honest.push(stream?) }
    }
    println!("{} connections to {SERVICES} services are open", stolen.len() + honest.len());
    let rules = CertificateRules::of_trust_domain("town.example");
    let certificate = named(&context, "stolen")?.chain.first().context("no certificate")?;
    let serial = keys::identify(certificate, &rules, SystemClock::start().now())?.serial;
    let mut began = Ends::watch(stolen, closed);
    mesh.revoke(&json!({ "certificate": serial }))?;
    let mut well = began.say("a certificate is revoked").await;
    let mut kept = Vec::new();
    for mut stream in honest {
        let look = tokio::time::timeout(Duration::from_millis(1), has_closed(&mut stream));
        if look.await.is_err() { kept.push(stream) } else { well = false }
    }
    println!("{} others are still open", kept.len());
    began = Ends::watch(kept, closed);
    mesh.revoke(&json!({ "identity": "spiffe://town.example/honest" }))?;
    well &= began.say("a workload is revoked").await;
    Ok(well)
}

fn main() -> anyhow::Result<ExitCode> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let binary = std::env::args_os().nth(1).unwrap_or_else(|| "target/release/bastide".into());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let well = runtime.block_on(run(std::fs::canonicalize(binary)?))?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
