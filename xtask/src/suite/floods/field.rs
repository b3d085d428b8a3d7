//! The field of one attack: a gateway that was just started, its upstream, and an issuer
//! whose keys are fetched over HTTP.

use super::Options;
use crate::bench::usage;
use crate::suite::servers::Server;
use anyhow::Result;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A key set with one key (RFC 7517 §A.1); nothing of the attacks is signed with it.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"one","alg":"ES256","use":"sig","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;

/// A realm whose client needs no secret, and the route to it.
const REALM: (&str, &str) = (
    "realms:
  floods:
    issuer: http://localhost/id
    clients: { web: { redirect_uris: [ https://app.floods/cb ], scopes: [ openid ], trusted: true } }
",
    "  - { name: id, match: /id/**, to: identity, authenticate: none, allow: anyone }
",
);

/// Everything that stands while one attack runs.
pub(super) struct Field {
    server: Server,
    /// The interpreter that has PyPI's h2.
    pub(super) python: Option<PathBuf>,
    pub(super) folder: PathBuf,
    pub(super) seconds: u32,
    pub(super) keys: u64,
    pub(super) logins: u64,
    /// Requests that reached the upstream and begin so.
    pub(super) bombs: Arc<AtomicU64>,
    /// Times that the issuer's keys were fetched.
    pub(super) fetches: Arc<AtomicU64>,
}

impl Field {
    pub(super) fn start(
        binary: &Path,
        folder: &Path,
        python: Option<PathBuf>,
        options: &Options,
        realm: bool,
    ) -> Result<Self> {
        let Options { seconds, keys, logins, .. } = *options;
        let (bombs, fetches) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
        let upstream = answering("ok", "GET /bomb", &bombs)?;
        let issuer = answering(KEYS, "GET /keys", &fetches)?;
        let (realms, route) = if realm { REALM } else { ("", "") };
        let rest = format!(
            "{realms}workers: 2
listen:
  - address: 127.0.0.1:0
    trusted_proxies: [ 127.0.0.5 ]
services:
  one: [ http://{upstream} ]
authentication:
  issuers:
    - issuer: https://id.example.org
      audience: [ floods ]
      jwks: http://{issuer}/keys
      allow_private_addresses: true
audit: {{ keep: 2 }}
limits:
  header_read_ms_max: 2s
  body_idle_ms_max: 2s
  request_ms_max: 4s
routes:
  - {{ name: open, match: /open/**, to: one, authenticate: none, allow: anyone }}
  - {{ name: bomb, match: /bomb/**, to: one, authenticate: none, allow: anyone }}
  - {{ name: tokens, match: /tokens/**, to: one, authenticate: jwt, allow: authenticated }}
  - name: limited
    match: /limited/**
    to: one
    authenticate: jwt
    allow: authenticated
    limit: 100/minute per address
{route}"
        );
        let home = folder.join("bastide");
        let server = if realm {
            Server::bastide_with_store(binary, &home, &rest)?
        } else {
            Server::bastide(binary, &home, &rest)?
        };
        Ok(Self { server, python, folder: folder.to_owned(), seconds, keys, logins, bombs, fetches })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address
    }

    pub(super) fn time(&self) -> Duration {
        Duration::from_secs(self.seconds.into())
    }

    /// The most memory that the gateway has held, KiB.
    pub(super) fn memory_kib_most(&self) -> Result<u64> {
        usage::resident_kib_most(self.server.process())
    }

    /// Processor time of the gateway.
    pub(super) fn cpu(&self) -> Result<Duration> {
        usage::cpu(self.server.process())
    }
}

/// A server that answers everything with `body` and counts requests that begin with
/// `counted`. Its threads end with the process.
fn answering(body: &'static str, counted: &'static str, count: &Arc<AtomicU64>) -> Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let count = Arc::clone(count);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let count = Arc::clone(&count);
            // An error is the connection's end.
            std::thread::spawn(move || drop(answer(stream, body, counted, &count)));
        }
    });
    Ok(address)
}

fn answer(mut stream: TcpStream, body: &str, counted: &str, count: &AtomicU64) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (mut seen, mut piece) = (Vec::new(), [0; 64 * 1024]);
    loop {
        let end = seen.windows(4).position(|window| window == b"\r\n\r\n");
        let Some(end) = end else {
            let got = stream.read(&mut piece)?;
            if got == 0 {
                return Ok(());
            }
            seen.extend_from_slice(piece.get(..got).unwrap_or_default());
            continue;
        };
        let head = String::from_utf8_lossy(seen.get(..end).unwrap_or_default()).to_ascii_lowercase();
        if head.starts_with(&counted.to_ascii_lowercase()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let length: usize = length.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        let chunked = head.contains("transfer-encoding: chunked");
        while !chunked && seen.len() < end + 4 + length || chunked && !seen.ends_with(b"0\r\n\r\n") {
            let got = stream.read(&mut piece)?;
            if got == 0 {
                return Ok(());
            }
            seen.extend_from_slice(piece.get(..got).unwrap_or_default());
        }
        let taken = if chunked { seen.len() } else { end + 4 + length };
        drop(seen.drain(..taken));
        stream.write_all(answer.as_bytes())?;
    }
}
