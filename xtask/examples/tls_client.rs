//! Makes TLS connections to `localhost` for the gateway benchmark. A program of its own,
//! so that xtask itself needs no cryptography.
//!
//! Usage: `tls_client handshakes SECONDS PORT AUTHORITY` makes one connection after the
//! other, each with a full TLS 1.3 handshake (X25519, no session resumed) and one
//! request, and prints `completed N`. `tls_client hold COUNT PORT AUTHORITY` opens so many
//! connections, sends one request on each, prints `open COUNT` and keeps them until its
//! standard input ends.

use anyhow::{Context, Result, bail};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Connections that are being made at the same time.
const THREADS: u32 = 16;
/// How long one connection may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// A head is not longer than this, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |what: &str| arguments.next().with_context(|| format!("expected {what}"));
    let mode = next("handshakes or hold")?;
    let count: u32 = next("SECONDS or COUNT")?.parse()?;
    let address = SocketAddr::from(([127, 0, 0, 1], next("PORT")?.parse()?));
    let config = config(&next("AUTHORITY")?)?;
    match mode.as_str() {
        "handshakes" => handshakes(&config, address, Duration::from_secs(count.into())),
        "hold" => hold(&config, address, count),
        other => bail!("expected handshakes or hold, found {other}"),
    }
}

/// The one line that the benchmark reads.
fn say(line: &str) -> Result<()> {
    let mut out = std::io::stdout();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}

fn config(authority: &str) -> Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(authority)?)?;
    // One key exchange that every proxy has, so that all do the same work.
    let mut provider = aws_lc_rs::default_provider();
    provider.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn open(config: &Arc<ClientConfig>, address: SocketAddr) -> Result<Stream> {
    let socket = TcpStream::connect(address).context("connecting")?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let connection = ClientConnection::new(Arc::clone(config), ServerName::try_from("localhost")?)?;
    Ok(StreamOwned::new(connection, socket))
}

/// One request and its whole answer, which must be a success.
fn ask(stream: &mut Stream, connection: &str) -> Result<()> {
    write!(stream, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n")?;
    stream.flush()?;
    let mut answer = Vec::new();
    let mut room = [0; 4096];
    let end = |answer: &[u8]| answer.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
    let head = loop {
        if let Some(end) = end(&answer) {
            break end;
        }
        let count = stream.read(&mut room).context("reading the head")?;
        if count == 0 || answer.len() > HEAD_BYTES_MAX {
            bail!("no whole head came: {:?}", String::from_utf8_lossy(&answer));
        }
        answer.extend_from_slice(room.get(..count).unwrap_or_default());
    };
    let text = String::from_utf8_lossy(answer.get(..head).unwrap_or_default()).to_ascii_lowercase();
    if !text.starts_with("http/1.1 200 ") {
        bail!("expected status 200, found {text:?}");
    }
    let length: usize = text
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .context("no content-length")?
        .parse()?;
    let mut left = (head + length).saturating_sub(answer.len());
    while left > 0 {
        let count = stream.read(&mut room).context("reading the body")?;
        if count == 0 {
            bail!("the body ended {left} bytes early");
        }
        left = left.saturating_sub(count);
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "measures for so long")]
fn handshakes(config: &Arc<ClientConfig>, address: SocketAddr, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    let one = || -> Result<u64> {
        let mut completed = 0;
        while Instant::now() < end {
            let mut stream = open(config, address)?;
            ask(&mut stream, "close")?;
            if stream.conn.handshake_kind() != Some(rustls::HandshakeKind::Full) {
                bail!("a handshake was not a full one: {:?}", stream.conn.handshake_kind());
            }
            stream.conn.send_close_notify();
            // It may be gone already: the answer is complete.
            let _ = stream.flush();
            completed += 1;
        }
        Ok(completed)
    };
    let completed: Result<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        threads.into_iter().map(|thread| thread.join().map_err(|_| anyhow::anyhow!("a thread failed"))?).sum()
    });
    say(&format!("completed {}", completed?))
}

fn hold(config: &Arc<ClientConfig>, address: SocketAddr, count: u32) -> Result<()> {
    let mut held = Vec::new();
    for _ in 0..count {
        let mut stream = open(config, address)?;
        ask(&mut stream, "keep-alive")?;
        held.push(stream);
    }
    say(&format!("open {}", held.len()))?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}
