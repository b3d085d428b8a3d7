//! What both sides of gRPC connections need: the client's channel, the bounds of a server, and a leash for its
//! connections.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::transport::Server;
use tower::service_fn;

/// How often a connection that may be cut unseen is asked whether it is there, and how long the
/// answer may take.
const PING: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(5));

/// Largest header list that a listener takes, bytes.
const HEADERS_BYTES_MAX: u32 = 8 * 1024;
/// What a listener holds of a connection without anybody having read it, bytes (RFC 9113 §6.9.2: no less can
/// be said).
const WINDOW_BYTES: u32 = 65_535;

/// A server whose connections have at most so many calls at once and end when nothing comes back to a ping.
pub(crate) fn server(streams_max: u32, ping_every: Duration) -> Server {
    Server::builder()
        .max_concurrent_streams(streams_max)
        .http2_max_header_list_size(HEADERS_BYTES_MAX)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .http2_keepalive_interval(Some(ping_every))
}

/// One connection, gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Channel {
    sender: hyper::client::conn::http2::SendRequest<Body>,
    connection: JoinHandle<()>,
    answer_bytes_max: usize,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl Channel {
    /// Speaks HTTP/2 on this stream.
    ///
    /// # Errors
    /// The other side does not.
    pub(crate) async fn open(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        answer_bytes_max: usize,
    ) -> std::io::Result<Self> {
        let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.map_err(std::io::Error::other)?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "mesh: a connection ended");
            }
        });
        Ok(Self { sender, connection, answer_bytes_max })
    }

    /// Calls on it.
    pub(crate) fn grpc(
        &self,
    ) -> Grpc<impl GrpcService<Body, ResponseBody = hyper::body::Incoming, Future: Send> + use<>> {
        let sender = self.sender.clone();
        let service = service_fn(move |request: http::Request<Body>| {
            let mut sender = sender.clone();
            async move { sender.send_request(request).await }
        });
        let origin = http::Uri::from_static("http://localhost");
        Grpc::with_origin(service, origin).max_decoding_message_size(self.answer_bytes_max)
    }
}

/// A stream that ends with whoever holds the other end of its leash: tasks that serve it end then.
/// Beside it is kept who is at its other end, and what is free again when it has ended.
pub(crate) struct Leashed<S, K> {
    stream: S,
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    pub(crate) kept: K,
}

impl<S, K> Leashed<S, K> {
    /// On the leash of whoever keeps the sender; and it ends when `over` says so.
    pub(crate) fn until(
        over: impl Future<Output = ()> + Send + 'static,
        stream: S,
        leash: &watch::Sender<()>,
        kept: K,
    ) -> Self {
        let mut leash = leash.subscribe();
        let end = Box::pin(async move {
            tokio::select! {
                () = async { while leash.changed().await.is_ok() {} } => {}
                () = over => {}
            }
        });
        Self { stream, end, is_over: false, kept }
    }

    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.is_over = self.is_over || self.end.as_mut().poll(context).is_ready();
        self.is_over
    }
}

impl<S: AsyncRead + Unpin, K: Unpin> AsyncRead for Leashed<S, K> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.is_over(context) {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            false => Pin::new(&mut self.stream).poll_read(context, buffer),
        }
    }
}

impl<S: AsyncWrite + Unpin, K: Unpin> AsyncWrite for Leashed<S, K> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        // Whoever reads nothing keeps what is served to them from reading.
        match self.is_over(context) {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into())),
            false => Pin::new(&mut self.stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_in_time_also_for_whoever_does_not_read() {
        const TIME: Duration = Duration::from_secs(10);
        let leash = watch::Sender::new(());
        for is_written in [true, false] {
            let (ours, _theirs) = tokio::io::duplex(8);
            let mut stream = Leashed::until(tokio::time::sleep(TIME), ours, &leash, ());
            let began = tokio::time::Instant::now();
            let ended = match is_written {
                true => stream.write_all(&[7; 9]).await.unwrap_err(),
                false => stream.read_u8().await.unwrap_err(),
            };
            assert_eq!((ended.kind(), began.elapsed()), (io::ErrorKind::ConnectionAborted, TIME));
            // Whoever asks again is told again.
            assert!(stream.read_u8().await.is_err() && stream.write_all(&[7]).await.is_err());
        }
    }
}
