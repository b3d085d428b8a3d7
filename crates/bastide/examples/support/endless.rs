//! An upstream that begins an answer, or a tunnel, and never ends it: what is cut by a revocation
//! alone.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Where it listens; on this runtime, until that ends.
///
/// # Errors
/// No address is to be had.
pub(crate) async fn endless() -> std::io::Result<SocketAddr> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|window| window == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                let answer: &[u8] = if head.windows(9).any(|window| window == b"websocket") {
                    b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello"
                } else {
                    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
                };
                let _ = stream.write_all(answer).await;
                while stream.read(&mut [0; 64]).await.unwrap_or(0) > 0 {}
            });
        }
    });
    Ok(address)
}
