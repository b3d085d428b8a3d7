//! How long what is revoked goes on: 5,000 TLS connections, each with an open tunnel, a
//! long answer over HTTP/1.1 or a stream of HTTP/2 under a token of its own. First a session that a fifth of them belongs
//! to is revoked, then a policy forbids all others. Measured from before the change is
//! written to the end of the connection as its client sees it.
//!
//! `cargo xtask bench revocation`, or with a binary:
//! `cargo run --release -p bastide --example revocation -- target/release/bastide`

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::indexing_slicing,
    reason = "a benchmark reads the clock, prints, and fails by panicking"
)]

#[path = "support/endless.rs"]
mod endless;
#[path = "support/ends.rs"]
mod ends;

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bastide::demo::client::http1::Connection;
use bastide::demo::client::{Endpoint, Request, Trust, http2};
use bastide::process::clock::SystemClock;
use endless::endless;
use ends::Ends;
use keys::{Algorithm, LocalSigner, Revocation, RevocationFile, SystemRandom, publish, sign_token};
use model::Clock;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

const CONNECTIONS: usize = 5000;
/// One of so many belongs to the session that is revoked.
const DOOMED: usize = 5;
/// Handshakes at the same time.
const AT_ONCE: usize = 32;

fn configuration(upstream: SocketAddr, effect: &str) -> String {
    format!(
        "state: ./state\nadmin: {{ address: 127.0.0.1:0 }}\nlisten:\n  - address: 127.0.0.1:0\n    tls: {{ local: true }}\n\
         limits: {{ connections_per_address_max: 10000, request_ms_max: 600000 }}\n\
         authentication:\n  audience: town\n  issuers:\n    - issuer: https://id.test\n      jwks_file: jwks.json\n\
         services:\n  long:\n    endpoints: [ http://{upstream} ]\n    connections_per_core_max: 10000\n    \
         timeouts: {{ idle: 600s }}\n\
         routes:\n  - name: long\n    match: /**\n    to: long\n    authenticate: jwt\n    upgrades: [ websocket ]\n\
         policies:\n  inline: |\n    {effect} (principal, action, resource);\n"
    )
}

fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let beside = path.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, path)
}

/// How an exchange is made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Tunnel,
    Http1,
    Http2,
}

impl Manner {
    /// Of ten exchanges one is a long answer and four are streams.
    fn of(number: usize) -> Self {
        match number % 10 {
            3 => Self::Http1,
            1 | 4 | 6 | 9 => Self::Http2,
            _ => Self::Tunnel,
        }
    }
}

/// An exchange that was begun and does not end by itself.
enum Exchange {
    Http1(Connection),
    /// The connection is held: a stream that ends must not be taken for its end.
    Http2(http2::Connection, http2::Begun),
}

impl Exchange {
    /// Whether it has ended within this time.
    async fn ends(self, within: Duration) -> Result<(), Self> {
        match self {
            Self::Http1(mut connection) => {
                if connection.leftovers(within).await.1 {
                    Ok(())
                } else {
                    Err(Self::Http1(connection))
                }
            }
            Self::Http2(connection, mut begun) => match tokio::time::timeout(within, begun.piece()).await {
                Ok(Err(_) | Ok(None)) => Ok(()),
                Ok(Ok(Some(_))) | Err(_) => Err(Self::Http2(connection, begun)),
            },
        }
    }
}

/// Opens one exchange and waits for its first bytes.
async fn open(endpoint: &Endpoint, token: &str, manner: Manner) -> std::io::Result<Exchange> {
    if manner == Manner::Http2 {
        let connection = http2::Connection::open(endpoint).await?;
        let mut begun = connection.begin(&Request::new("GET", "localhost", "/long").bearer(token)).await?;
        return match begun.piece().await? {
            Some(_) => Ok(Exchange::Http2(connection, begun)),
            None => Err(std::io::Error::other(format!("the answer ended with {}", begun.status()))),
        };
    }
    let tunnel = manner == Manner::Tunnel;
    let mut connection = Connection::open(endpoint).await?;
    let upgrade = if tunnel { "connection: upgrade\r\nupgrade: websocket\r\n" } else { "" };
    let head =
        format!("GET /long HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n{upgrade}\r\n");
    connection.send(head.as_bytes()).await?;
    let mut seen = Vec::new();
    while !seen.windows(5).any(|window| window == b"hello") {
        let (more, closed) = connection.leftovers(Duration::from_millis(20)).await;
        seen.extend(more);
        if closed {
            return Err(std::io::Error::other(String::from_utf8_lossy(&seen).into_owned()));
        }
    }
    Ok(Exchange::Http1(connection))
}

/// Until it has ended; one that stays is waited for without end.
async fn ended(mut exchange: Exchange) {
    while let Err(open) = exchange.ends(Duration::from_secs(60)).await {
        exchange = open;
    }
}

async fn run(binary: &Path) -> anyhow::Result<bool> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name);
    let upstream = endless().await?;
    let signer = LocalSigner::generate(Algorithm::EdDsa, &SystemRandom::new())?.0;
    std::fs::write(path("jwks.json"), publish(&[&signer]))?;
    write(&path("bastide.yaml"), &configuration(upstream, "permit"))?;
    let mut gateway = Command::new(std::fs::canonicalize(binary)?)
        .args(["serve", "--config", "bastide.yaml", "--leash"])
        .current_dir(folder.path())
        .env("BASTIDE_LOG", "warn")
        .stdin(Stdio::piped())
        .spawn()?;
    let ready: Value = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        anyhow::ensure!(gateway.try_wait()?.is_none(), "the gateway did not start");
        let text = std::fs::read_to_string(path("state/ready.json")).unwrap_or_default();
        if let Ok(ready) = serde_json::from_str(&text) {
            break ready;
        }
    };
    let address: SocketAddr = ready["listen"][0].as_str().unwrap_or_default().parse()?;
    let authority = std::fs::read(path("state/ca/ca.pem"))?;
    let trust = Trust::new("localhost", &authority, None)?;
    let now = SystemClock::start().now().unix_seconds();
    let gate = Arc::new(Semaphore::new(AT_ONCE));
    let mut opening = JoinSet::new();
    for number in 0..CONNECTIONS {
        let session = if number % DOOMED == 0 { "doomed".to_owned() } else { format!("s{number}") };
        let claims = json!({
            "iss": "https://id.test", "aud": "town", "sub": format!("u{}", number % 100), "client_id": "shop",
            "jti": format!("t{number}"), "sid": session, "iat": now, "exp": now + 3600,
        });
        let claims = claims.as_object().cloned().unwrap_or_default();
        let token = sign_token(&signer, "at+jwt", &claims)?;
        let from = IpAddr::from([127, 0, 1, u8::try_from(number % 200)? + 1]);
        let endpoint = Endpoint { address, tls: Some(trust.clone()), from: Some(from) };
        let gate = Arc::clone(&gate);
        opening.spawn(async move {
            let _turn = gate.acquire_owned().await;
            (number, open(&endpoint, &token, Manner::of(number / DOOMED)).await)
        });
    }
    let (mut doomed, mut others) = (Vec::new(), Vec::new());
    while let Some(opened) = opening.join_next().await {
        let (number, connection) = opened?;
        if number % DOOMED == 0 { doomed.push(connection?) } else { others.push(connection?) }
    }
    println!("{} connections are open", doomed.len() + others.len());
    let list = RevocationFile::new(&path("state/revocations.json"), Arc::new(SystemRandom::new()));
    let entry = Revocation { session: Some("doomed".to_owned()), ..Revocation::default() };
    let began = Ends::watch(doomed, ended);
    list.add(&[entry], SystemClock::start().now())?;
    let mut well = began.say("a session is revoked").await;
    let mut honest = Vec::new();
    for exchange in others {
        match exchange.ends(Duration::from_micros(1)).await {
            Ok(()) => well = false,
            Err(exchange) => honest.push(exchange),
        }
    }
    println!("{} others are still open", honest.len());
    let began = Ends::watch(honest, ended);
    write(&path("bastide.yaml"), &configuration(upstream, "forbid"))?;
    well &= began.say("a policy forbids everybody").await;
    drop(gateway.stdin.take());
    gateway.wait()?;
    Ok(well)
}

fn main() -> anyhow::Result<ExitCode> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })?;
    let binary = std::env::args_os().nth(1).unwrap_or_else(|| "target/release/bastide".into());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let well = runtime.block_on(run(Path::new(&binary)))?;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
