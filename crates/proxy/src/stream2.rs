//! The two directions of one HTTP/2 stream's body, alike for clients and upstreams:
//! flow control is the back-pressure.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use h2::{Reason, RecvStream, SendStream};
use http::HeaderMap;

/// No more is taken while so many bytes wait for the peer's window. Small pieces wait
/// for the next one, so that data and the end of the stream leave in one frame.
const PENDING_BYTES_MAX: usize = 16 * 1024;

/// So many bytes of memory may frames with little data cost that nobody has read. The library
/// charges 256 − n for each one of n bytes, and ends the connection, with all its streams, when
/// they are used up: a window full of frames of 64 bytes fits.
pub(crate) const fn frame_budget(connection_window: u32) -> usize {
    3 * connection_window as usize
}

/// Sends one body. Little waits for the peer's window.
#[derive(Debug)]
pub(crate) struct Sender {
    stream: SendStream<Bytes>,
    pending: Bytes,
    trailers: Option<HeaderMap>,
    ending: bool,
    ended: bool,
}

impl Sender {
    pub(crate) fn new(stream: SendStream<Bytes>, ended: bool) -> Self {
        Self { stream, pending: Bytes::new(), trailers: None, ending: ended, ended }
    }

    /// Whether another piece may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.len() < PENDING_BYTES_MAX
    }

    /// Bytes that wait.
    pub(crate) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Ready when another piece may be sent.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.has_room() { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    /// Queues a piece.
    pub(crate) fn data(&mut self, piece: Bytes) -> io::Result<()> {
        if self.ending {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let capacity = self.stream.capacity();
        if capacity > 0 && !self.pending.is_empty() {
            let now = self.pending.split_to(capacity.min(self.pending.len()));
            self.stream.send_data(now, false).map_err(broken)?;
        }
        self.pending = if self.pending.is_empty() {
            piece
        } else {
            // The window is full: what waits is short.
            Bytes::from([&self.pending[..], &piece[..]].concat())
        };
        self.stream.reserve_capacity(self.pending.len());
        Ok(())
    }

    /// Ends the body.
    pub(crate) fn end(&mut self, trailers: Option<HeaderMap>) {
        self.trailers = trailers.filter(|trailers| !trailers.is_empty());
        self.ending = true;
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.ended
    }

    /// Hands everything that was queued to the connection.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.pending.is_empty() {
            let mut capacity = self.stream.capacity();
            if capacity == 0 {
                capacity = match ready!(self.stream.poll_capacity(cx)) {
                    Some(capacity) => capacity.map_err(broken)?,
                    None => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                };
            }
            let piece = self.pending.split_to(capacity.min(self.pending.len()));
            let last = self.pending.is_empty() && self.ending && self.trailers.is_none();
            self.stream.send_data(piece, last).map_err(broken)?;
            self.ended = last;
        }
        if self.ending && !self.ended {
            self.ended = true;
            match self.trailers.take() {
                Some(trailers) => self.stream.send_trailers(trailers).map_err(broken)?,
                None => self.stream.send_data(Bytes::new(), true).map_err(broken)?,
            }
        }
        // Nothing more to do here, but a reset by the peer must still be seen.
        if !self.ended
            && let Poll::Ready(reset) = self.stream.poll_reset(cx)
        {
            return Poll::Ready(Err(match reset {
                Ok(reason) => io::Error::new(io::ErrorKind::ConnectionReset, reason.to_string()),
                Err(error) => broken(error),
            }));
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when the peer has reset the stream or the connection is gone.
    pub(crate) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Ready(match ready!(self.stream.poll_reset(cx)) {
            Ok(reason) => io::Error::new(io::ErrorKind::ConnectionReset, reason.to_string()),
            Err(error) => broken(error),
        })
    }

    /// Ends the stream so that the peer sees an incomplete message.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}

/// Longest piece of what was held, bytes.
const HELD_PIECE_BYTES_MAX: usize = 16 * 1024;

/// Receives one body.
#[derive(Debug)]
pub(crate) struct Receiver {
    stream: RecvStream,
    /// What came and nobody has taken yet; the peer's window is as much smaller.
    held: BytesMut,
    /// How the stream ended behind that.
    broken: Option<io::Error>,
    data_over: bool,
    over: bool,
}

/// A piece of a received body.
pub(crate) enum Received {
    Data(Bytes),
    Trailers(HeaderMap),
    End,
}

impl Receiver {
    pub(crate) fn new(stream: RecvStream) -> Self {
        let over = stream.is_end_stream();
        Self { stream, held: BytesMut::new(), broken: None, data_over: over, over }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over || (self.held.is_empty() && self.stream.is_end_stream())
    }

    /// Keeps what has come while nobody takes it: frames with little data then cost no more than
    /// their bytes, of which there is at most a window.
    pub(crate) fn hold(&mut self, cx: &mut Context<'_>) {
        while !self.data_over && self.broken.is_none() {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(piece))) => self.held.extend_from_slice(&piece),
                Poll::Ready(Some(Err(error))) => self.broken = Some(broken(error)),
                Poll::Ready(None) => self.data_over = true,
                Poll::Pending => return,
            }
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Received>> {
        if self.over {
            return Poll::Ready(Ok(Received::End));
        }
        if !self.held.is_empty() {
            let piece = self.held.split_to(self.held.len().min(HELD_PIECE_BYTES_MAX)).freeze();
            self.stream.flow_control().release_capacity(piece.len()).map_err(broken)?;
            return Poll::Ready(Ok(Received::Data(piece)));
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Err(error));
        }
        while !self.data_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(piece)) => {
                    // Taken over: whoever sends it on has its own bound.
                    self.stream.flow_control().release_capacity(piece.len()).map_err(broken)?;
                    if piece.has_remaining() {
                        return Poll::Ready(Ok(Received::Data(piece)));
                    }
                }
                Some(Err(error)) => return Poll::Ready(Err(broken(error))),
                None => self.data_over = true,
            }
        }
        let trailers = ready!(self.stream.poll_trailers(cx)).map_err(broken)?;
        self.over = true;
        Poll::Ready(Ok(trailers.map_or(Received::End, Received::Trailers)))
    }
}

/// An `h2` error as an I/O error: the peer reset the stream, or the connection broke.
pub(crate) fn broken(error: h2::Error) -> io::Error {
    if error.is_io() {
        error.into_io().unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())
    } else if error.is_reset() {
        io::Error::new(io::ErrorKind::ConnectionReset, error)
    } else {
        io::Error::new(io::ErrorKind::InvalidData, error)
    }
}
