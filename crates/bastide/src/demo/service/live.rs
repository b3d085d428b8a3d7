//! What happens in the shop, as a WebSocket (RFC 6455): says hello and stays.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// RFC 6455 §1.3.
const MAGIC: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Longest head that is read, bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let seen = Arc::new(AtomicU64::new(0));
    loop {
        let (stream, _) = listener.accept().await?;
        let seen = Arc::clone(&seen);
        // Whoever goes away takes only their own connection with them.
        tokio::spawn(async move { drop(answer(stream, &seen).await) });
    }
}

async fn answer(mut stream: TcpStream, seen: &AtomicU64) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if head.len() > HEAD_BYTES_MAX || stream.read_buf(&mut head).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    if head.starts_with("GET /_shop/seen ") {
        let body = json!({ "service": "live", "requests": seen.load(Ordering::Relaxed) }).to_string();
        return say(&mut stream, "200 OK", &body).await;
    }
    seen.fetch_add(1, Ordering::Relaxed);
    let field = |name: &str| {
        head.lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(found, _)| found.eq_ignore_ascii_case(name))
    };
    let Some((_, key)) = field("sec-websocket-key") else {
        return say(&mut stream, "426 Upgrade Required", "{\"error\":\"a WebSocket\"}").await;
    };
    let accept = format!("{}{MAGIC}", key.trim());
    let accept = STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, accept.as_bytes()));
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n"
    );
    stream.write_all(answer.as_bytes()).await?;
    // One unmasked text frame.
    stream.write_all(b"\x81\x05hello").await?;
    let mut rest = [0; 256];
    while stream.read(&mut rest).await? > 0 {}
    Ok(())
}

async fn say(stream: &mut TcpStream, status: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await
}
