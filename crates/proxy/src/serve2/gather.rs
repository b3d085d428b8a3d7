//! Gathers what `h2` writes: it flushes after each DATA frame, and here all frames that
//! are ready at the same time leave in one TLS record and one system call.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::link::Link;

/// So much is gathered before it is written without being asked, in bytes: what fits a
/// TLS record (RFC 8446 §5.1).
const GATHERED_BYTES_MAX: usize = 16 * 1024;
/// Larger pieces are not copied; they are written behind what was gathered, in bytes.
const COPY_BYTES_MAX: usize = 4 * 1024;

/// A link whose writes wait until [`Gathering::poll_send`], or until there are many.
#[derive(Debug)]
pub(super) struct Gathering {
    link: Link,
    gathered: Vec<u8>,
    written: usize,
    /// Off, every flush writes.
    patient: bool,
}

/// The two who share a link: `h2`, which writes frames, and the connection, which knows
/// when there are no more for now.
pub(super) type Shared = Rc<RefCell<Gathering>>;

impl Gathering {
    pub(super) fn new(link: Link) -> Self {
        Self { link, gathered: Vec::new(), written: 0, patient: false }
    }

    /// From now on nothing leaves before [`Gathering::poll_send`] says so. Whoever turns
    /// this on calls that whenever `h2` has nothing to do.
    pub(super) fn be_patient(&mut self) {
        self.patient = true;
    }

    /// Writes all that was gathered.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.link).poll_flush(cx)
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_read(cx, buf)
    }

    pub(super) fn poll_write(
        &mut self,
        cx: &mut Context<'_>,
        pieces: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total: usize = pieces.iter().map(|piece| piece.len()).sum();
        if total > COPY_BYTES_MAX {
            ready!(self.poll_drain(cx))?;
            return Pin::new(&mut self.link).poll_write_vectored(cx, pieces);
        }
        if self.gathered.len() + total > GATHERED_BYTES_MAX {
            ready!(self.poll_drain(cx))?;
        }
        for piece in pieces {
            self.gathered.extend_from_slice(piece);
        }
        Poll::Ready(Ok(total))
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.patient { Poll::Ready(Ok(())) } else { self.poll_send(cx) }
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.link).poll_shutdown(cx)
    }

    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.gathered.get(self.written..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.link).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        self.gathered.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Gives memory back that a quiet connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.gathered.is_empty() {
            self.gathered = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// A gathering link, and its peer.
    async fn pair() -> (Gathering, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        (Gathering::new(Link::Plain(ours)), theirs)
    }

    async fn write(gathering: &mut Gathering, pieces: &[&[u8]]) -> usize {
        let pieces: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
        std::future::poll_fn(|cx| gathering.poll_write(cx, &pieces)).await.unwrap()
    }

    async fn flush(gathering: &mut Gathering) {
        std::future::poll_fn(|cx| gathering.poll_flush(cx)).await.unwrap();
    }

    async fn send(gathering: &mut Gathering) {
        std::future::poll_fn(|cx| gathering.poll_send(cx)).await.unwrap();
    }

    /// What has arrived, by the first read: loopback delivers a write before it returns.
    async fn arrived(peer: &TcpStream) -> Vec<u8> {
        let mut room = vec![0; 1 << 20];
        match peer.try_read(&mut room) {
            Ok(count) => room.truncate(count),
            Err(_) => room.clear(),
        }
        tokio::task::yield_now().await;
        room
    }

    #[tokio::test(flavor = "current_thread")]
    async fn frames_leave_together_when_the_connection_says_so() {
        let (mut gathering, peer) = pair().await;
        peer.writable().await.unwrap();
        gathering.be_patient();
        for frame in [&b"head"[..], b"data", b"more"] {
            assert_eq!(write(&mut gathering, &[frame, b"."]).await, frame.len() + 1);
            flush(&mut gathering).await;
        }
        assert_eq!(arrived(&peer).await, b"", "a flush alone sends nothing");
        send(&mut gathering).await;
        peer.readable().await.unwrap();
        assert_eq!(arrived(&peer).await, b"head.data.more.");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn before_that_every_flush_sends() {
        let (mut gathering, peer) = pair().await;
        write(&mut gathering, &[b"settings"]).await;
        flush(&mut gathering).await;
        peer.readable().await.unwrap();
        assert_eq!(arrived(&peer).await, b"settings");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_gathered_has_a_limit() {
        for (past, left) in [(0, false), (1, true)] {
            let (mut gathering, peer) = pair().await;
            gathering.be_patient();
            for _ in 0..GATHERED_BYTES_MAX / COPY_BYTES_MAX {
                write(&mut gathering, &[&[b'x'; COPY_BYTES_MAX]]).await;
            }
            write(&mut gathering, &[&b"y"[..past]]).await;
            if left {
                peer.readable().await.unwrap();
            }
            assert_eq!(!arrived(&peer).await.is_empty(), left, "{past} past the limit");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn large_pieces_come_behind_what_was_gathered() {
        let (mut gathering, mut peer) = pair().await;
        gathering.be_patient();
        write(&mut gathering, &[b"small"]).await;
        let large = vec![b'l'; COPY_BYTES_MAX + 1];
        assert_eq!(write(&mut gathering, &[&large]).await, large.len());
        write(&mut gathering, &[b"end"]).await;
        std::future::poll_fn(|cx| gathering.poll_shutdown(cx)).await.unwrap();
        let mut all = Vec::new();
        peer.read_to_end(&mut all).await.unwrap();
        assert_eq!(all, [b"small", &large[..], b"end"].concat());
    }
}
