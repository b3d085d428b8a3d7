//! Plain HTTP on a port that speaks TLS: whoever mistyped the scheme is told so, in place of a TLS alert
//! that no HTTP client can read.
//!
//! What it must never do: look at more of the request than its first byte, or serve it.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// RFC 9457. There is no request that could have an id.
const ANSWER: &str = "HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\
    content-length: 106\r\ncache-control: no-store\r\nconnection: close\r\n\r\n\
    {\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"this port speaks HTTPS: use https://\"}\n";
/// Most bytes that are read after the answer, so that closing does not take it back (RFC 9112 §9.6).
const LEFT_BYTES_MAX: usize = 64 * 1024;
/// How long the client may take to close.
const LEFT_WITHIN: Duration = Duration::from_secs(1);

/// Whether the first byte is that of an HTTP method: the first of a TLS record is a control character
/// (RFC 8446 §5.1). Nothing is taken from the socket.
///
/// # Errors
/// What the system said.
pub(crate) async fn begins(socket: &TcpStream) -> io::Result<bool> {
    let mut first = [0];
    socket.peek(&mut first).await?;
    Ok(first[0].is_ascii_uppercase())
}

/// Says that TLS is spoken here, and closes.
pub(crate) async fn refuse(mut socket: TcpStream) -> io::Error {
    let told = async {
        socket.write_all(ANSWER.as_bytes()).await?;
        socket.shutdown().await?;
        let mut left = LEFT_BYTES_MAX;
        let mut buffer = [0; 1024];
        while left > 0 {
            match socket.read(&mut buffer).await? {
                0 => break,
                read => left = left.saturating_sub(read),
            }
        }
        io::Result::Ok(())
    };
    // It is over, whatever the client does.
    let _ = tokio::time::timeout(LEFT_WITHIN, told).await;
    io::Error::new(io::ErrorKind::InvalidData, "plain HTTP where TLS is spoken")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_length_that_it_says() {
        let (head, body) = ANSWER.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{}", body.len());
    }
}
