//! An opaque connection as an exchange: its answer is that it is let through, or that it
//! ends.

use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;

use crate::exchange::{BodyError, Exchange, Frame};
use crate::head::{Additions, ResponseHead};
use crate::link::Wire;
use crate::proxy_protocol::Origin;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not judged yet.
    Waiting,
    /// Bytes go both ways.
    Open,
    /// The other side has ended; this one may still send.
    Ended,
    /// It was not let through: what is answered is dropped.
    Refused,
    /// Given up: the client must see that something is missing.
    Aborted,
}

pub(super) struct OpaqueExchange {
    wire: Wire,
    origin: Origin,
    state: State,
    /// Whether the client was told that the other side has ended.
    told: bool,
    bytes_in: u64,
    bytes_out: u64,
}

impl OpaqueExchange {
    pub(super) fn new(wire: Wire, origin: Origin) -> Self {
        Self { wire, origin, state: State::Waiting, told: false, bytes_in: 0, bytes_out: 0 }
    }

    /// Ends the connection: politely when it came to its own end or was never let through.
    pub(super) async fn finish(mut self) -> io::Result<()> {
        if matches!(self.state, State::Ended | State::Refused | State::Waiting) {
            let _ = std::future::poll_fn(|cx| self.wire.poll_shutdown(cx)).await;
            self.told = true;
        }
        Ok(())
    }
}

/// An orderly end would look like the end of what was sent. Here, because a drain that runs out of
/// time drops the exchange wherever it is.
impl Drop for OpaqueExchange {
    fn drop(&mut self) {
        let is_whole = match self.state {
            State::Waiting | State::Refused => true,
            State::Ended => self.told,
            State::Open | State::Aborted => false,
        };
        if !is_whole {
            self.wire.link().end_by_reset();
        }
    }
}

impl Exchange for OpaqueExchange {
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        if self.wire.input.is_empty() && ready!(self.wire.poll_fill(cx))? == 0 {
            return Poll::Ready(Ok(Frame::End));
        }
        let data = self.wire.input.split().freeze();
        self.bytes_in += data.len() as u64;
        Poll::Ready(Ok(Frame::Data(data)))
    }

    fn limit_request(&mut self, _: u64) {}

    fn origin(&self) -> Option<Origin> {
        Some(self.origin)
    }

    /// A connection may last.
    fn until_ms(&self) -> u64 {
        0
    }

    /// A client that has ended its side may still wait for the other's.
    fn poll_gone(&mut self, _: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }

    fn bytes_in(&self) -> u64 {
        self.bytes_in
    }

    fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    fn send_head(&mut self, head: &ResponseHead, _: &Additions) -> io::Result<()> {
        if self.state != State::Waiting {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.state = if head.status.is_success() { State::Open } else { State::Refused };
        Ok(())
    }

    fn head_sent(&self) -> bool {
        self.state != State::Waiting
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.wire.has_room() { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        match (self.state, frame) {
            (State::Refused, _) => {}
            (State::Open, Frame::Data(data)) => {
                self.bytes_out += data.len() as u64;
                self.wire.push(data);
            }
            (State::Open, Frame::End | Frame::Trailers(_)) => self.state = State::Ended,
            (State::Waiting | State::Ended | State::Aborted, _) => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.wire.poll_flush(cx))?;
        if self.state == State::Ended && !self.told {
            ready!(self.wire.poll_shutdown(cx))?;
            self.told = true;
        }
        Poll::Ready(Ok(()))
    }

    fn abort(&mut self) {
        self.state = State::Aborted;
    }

    fn sever(&mut self) {
        self.abort();
    }

    /// There is nobody to read a text of ours, whatever it says.
    fn respond(&mut self, _: http::StatusCode, _: &Additions, _: Bytes) -> io::Result<()> {
        if self.state != State::Waiting {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.state = State::Refused;
        Ok(())
    }
}
