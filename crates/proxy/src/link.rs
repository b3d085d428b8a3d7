//! A byte stream between us and one peer, cleartext or TLS, with what was read and
//! what waits to be written. Buffers are used again from request to request; a quiet
//! connection gives them back.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::io::poll_read_buf;

/// A socket with or without TLS. One type, so that everything above is compiled once.
#[derive(Debug)]
pub(crate) enum Link {
    /// Cleartext TCP.
    Plain(TcpStream),
    /// TLS, we are the server.
    TlsServer(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    /// TLS, we are the client.
    TlsClient(Box<tokio_rustls::client::TlsStream<TcpStream>>),
}

impl Link {
    /// The socket below.
    pub(crate) fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
            Self::TlsServer(stream) => stream.get_ref().0,
            Self::TlsClient(stream) => stream.get_ref().0,
        }
    }

    /// When it is dropped its peer sees a reset: one that reads until the end would take an
    /// orderly one for the end of what was sent.
    pub(crate) fn end_by_reset(&self) {
        let _ = socket2::SockRef::from(self.socket()).set_linger(Some(Duration::ZERO));
    }
}

macro_rules! on_each {
    ($link:expr, $stream:ident => $call:expr) => {
        match $link {
            Link::Plain($stream) => $call,
            Link::TlsServer($stream) => {
                let $stream = $stream.as_mut();
                $call
            }
            Link::TlsClient($stream) => {
                let $stream = $stream.as_mut();
                $call
            }
        }
    };
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        on_each!(self.get_mut(), stream => Pin::new(stream).poll_read(cx, buf))
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        on_each!(self.get_mut(), stream => Pin::new(stream).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        on_each!(self.get_mut(), stream => Pin::new(stream).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self.get_mut(), stream => Pin::new(stream).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on_each!(self.get_mut(), stream => Pin::new(stream).poll_shutdown(cx))
    }
}

/// Room for one read at first; a peer that fills it gets [`READ_BYTES_MAX`].
const READ_BYTES: usize = 8 * 1024;
/// Room for one read from a peer that sends much.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Pieces up to this size are copied behind the head, so that both leave in one write.
const COPY_BYTES_MAX: usize = 4 * 1024;
/// No more is taken while so much waits to be written.
pub(crate) const WRITE_BYTES_MAX: usize = 64 * 1024;

/// A [`Link`] with its buffers.
#[derive(Debug)]
pub(crate) struct Wire {
    link: Link,
    /// What was read and not yet consumed.
    pub(crate) input: BytesMut,
    read_bytes: usize,
    /// To be written: first `output`, then `tail`, then `after`.
    output: Vec<u8>,
    written: usize,
    tail: Bytes,
    after: Vec<u8>,
    ended: bool,
    /// Bytes written since the beginning.
    pub(crate) bytes_written: u64,
}

impl Wire {
    /// Wraps a link.
    pub(crate) fn new(link: Link) -> Self {
        Self {
            link,
            input: BytesMut::new(),
            read_bytes: READ_BYTES,
            output: Vec::new(),
            written: 0,
            tail: Bytes::new(),
            after: Vec::new(),
            ended: false,
            bytes_written: 0,
        }
    }

    /// The link.
    pub(crate) fn link(&self) -> &Link {
        &self.link
    }

    /// Gives the link back with what was read beyond its last message.
    pub(crate) fn into_parts(self) -> (Link, BytesMut) {
        (self.link, self.input)
    }

    /// Whether the peer has ended its side.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    /// Reads once and appends to `input`. 0 means that the peer has ended its side.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Ok(0));
        }
        // Takes the same memory again once all that was cut from it is gone; with nothing in it from
        // its beginning, so that a connection with little to say touches little of it.
        let begins_again = self.input.is_empty() && self.input.try_reclaim(self.read_bytes);
        if !begins_again && self.input.capacity() - self.input.len() < self.read_bytes / 2 {
            self.input.reserve(self.read_bytes);
        }
        let count = ready!(poll_read_buf(Pin::new(&mut self.link), cx, &mut self.input))?;
        if count == 0 {
            self.ended = true;
        } else if count >= self.read_bytes / 2 {
            self.read_bytes = READ_BYTES_MAX;
        }
        Poll::Ready(Ok(count))
    }

    /// Whether the peer has neither sent anything nor ended its side since everything was read.
    /// Without an event on the socket this makes no system call; and it wakes nobody later.
    pub(crate) fn is_quiet(&mut self) -> bool {
        if !self.input.is_empty() || self.ended {
            return false;
        }
        if let Link::Plain(socket) = &self.link {
            let found = socket.try_read(&mut [0]);
            return found.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        }
        self.poll_fill(&mut Context::from_waker(Waker::noop())).is_pending()
    }

    /// Gives memory back that a quiet connection does not need.
    pub(crate) fn shrink(&mut self) {
        if self.input.is_empty() && self.read_bytes > READ_BYTES {
            self.input = BytesMut::new();
            self.read_bytes = READ_BYTES;
        }
        if self.output.is_empty() && self.output.capacity() > WRITE_BYTES_MAX {
            self.output = Vec::new();
        }
    }

    /// Gives all memory back that holds nothing.
    pub(crate) fn rest(&mut self) {
        if self.input.is_empty() {
            self.input = BytesMut::new();
            self.read_bytes = READ_BYTES;
        }
        if self.output.is_empty() {
            self.output = Vec::new();
        }
        if self.after.is_empty() {
            self.after = Vec::new();
        }
    }

    /// Whether more may be queued.
    pub(crate) fn has_room(&self) -> bool {
        self.tail.is_empty() && self.output.len() < WRITE_BYTES_MAX
    }

    /// Whether nothing waits to be written.
    pub(crate) fn is_flushed(&self) -> bool {
        self.output.is_empty() && self.tail.is_empty() && self.after.is_empty()
    }

    /// Where heads and chunk lines are written. What is appended comes after
    /// everything queued so far.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        if self.tail.is_empty() { &mut self.output } else { &mut self.after }
    }

    /// Queues a piece of a body: copied when small, by reference when not.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.len() <= COPY_BYTES_MAX || !self.tail.is_empty() {
            self.output().extend_from_slice(&piece);
        } else {
            self.tail = piece;
        }
    }

    /// Writes what is queued.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_flushed() {
            let first = self.output.get(self.written..).unwrap_or_default();
            let count = if self.tail.is_empty() {
                ready!(Pin::new(&mut self.link).poll_write(cx, first))?
            } else {
                let parts = [IoSlice::new(first), IoSlice::new(&self.tail), IoSlice::new(&self.after)];
                let parts = if first.is_empty() { parts.get(1..).unwrap_or_default() } else { &parts[..] };
                ready!(Pin::new(&mut self.link).poll_write_vectored(cx, parts))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes_written += count as u64;
            self.advance(count);
        }
        match &mut self.link {
            Link::Plain(_) => Poll::Ready(Ok(())),
            link => Pin::new(link).poll_flush(cx),
        }
    }

    fn advance(&mut self, mut count: usize) {
        use bytes::Buf;
        let step = count.min(self.output.len() - self.written);
        self.written += step;
        count -= step;
        if self.written < self.output.len() {
            return;
        }
        self.output.clear();
        self.written = 0;
        let step = count.min(self.tail.len());
        self.tail.advance(step);
        count -= step;
        if self.tail.is_empty() {
            self.tail = Bytes::new();
            std::mem::swap(&mut self.output, &mut self.after);
            self.written = count;
            if self.written >= self.output.len() {
                self.output.clear();
                self.written = 0;
            }
        }
    }

    /// Ends our side.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wire over a socket, and the other end of it.
    async fn joined() -> (Wire, TcpStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Wire::new(Link::Plain(listener.accept().await.unwrap().0)), theirs)
    }

    /// What an unused connection to an upstream must be, or the next request would read it.
    #[tokio::test(flavor = "current_thread")]
    async fn a_wire_is_quiet_until_the_peer_sends_or_ends() {
        use tokio::io::AsyncWriteExt;
        let heard = async |wire: &Wire| wire.link.socket().readable().await.unwrap();
        let (mut wire, mut theirs) = joined().await;
        assert!(wire.is_quiet());
        theirs.write_all(b"asked for").await.unwrap();
        std::future::poll_fn(|cx| wire.poll_fill(cx)).await.unwrap();
        assert!(!wire.is_quiet(), "with what was not consumed");
        wire.input.clear();
        assert!(wire.is_quiet() && wire.is_quiet());
        theirs.write_all(b"x").await.unwrap();
        heard(&wire).await;
        assert!(!wire.is_quiet());
        let (mut wire, theirs) = joined().await;
        drop(theirs);
        heard(&wire).await;
        assert!(!wire.is_quiet());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_comes_when_all_was_taken_is_read_where_the_first_bytes_were() {
        use tokio::io::AsyncWriteExt;
        let (mut wire, mut theirs) = joined().await;
        let mut places = Vec::new();
        for _ in 0..3 {
            theirs.write_all(b"a request").await.unwrap();
            std::future::poll_fn(|cx| wire.poll_fill(cx)).await.unwrap();
            places.push(wire.input.as_ptr());
            assert_eq!(wire.input.split().freeze(), b"a request"[..]);
        }
        assert!(places.iter().all(|place| *place == places[0]), "{places:?}");
        // What somebody still holds stays as it is.
        let mut held = Vec::new();
        for text in [&b"one"[..], b"two"] {
            theirs.write_all(text).await.unwrap();
            std::future::poll_fn(|cx| wire.poll_fill(cx)).await.unwrap();
            held.push(wire.input.split().freeze());
        }
        assert_eq!(held, [&b"one"[..], b"two"]);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_wire_at_rest_holds_no_buffer_and_loses_nothing() {
        let (mut wire, mut theirs) = joined().await;
        tokio::io::AsyncWriteExt::write_all(&mut theirs, b"half a head").await.unwrap();
        std::future::poll_fn(|cx| wire.poll_fill(cx)).await.unwrap();
        wire.output().extend_from_slice(b"not yet sent");
        wire.rest();
        assert_eq!((&wire.input[..], wire.is_flushed()), (&b"half a head"[..], false));
        wire.input.clear();
        std::future::poll_fn(|cx| wire.poll_flush(cx)).await.unwrap();
        wire.rest();
        assert_eq!((wire.input.capacity(), wire.output.capacity()), (0, 0));
    }
}
