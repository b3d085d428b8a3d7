//! One request's connection to an upstream, whatever protocol it speaks.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use super::connection1::Connection1;
use super::connection2::Stream2;
use super::in_process::CallConnection;
use super::peer::UpstreamPeer;
use super::pool::Pool;
use crate::admit::Refusal;
use crate::exchange::{BodyError, Frame};
use crate::head::{Fields, ResponseHead};
use crate::http1::encode::UpstreamRequest;
use crate::http1::response::Asked;
use crate::limits::Limits;

/// What went wrong with an upstream's connection.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamFault {
    /// It closed the connection without a byte of an answer.
    #[error("the upstream closed the connection without an answer")]
    Closed,
    /// It refused this request alone, and has not looked at it (RFC 9113 §8.7).
    #[error("the upstream refused the stream")]
    Refused,
    /// Its connection takes no more requests, and it has not looked at this one (RFC 9113 §6.8).
    #[error("the upstream's connection takes no more requests")]
    GoneAway,
    /// Nothing was sent: HTTP/2, which it speaks, has no words for the request.
    #[error("the request cannot be written in HTTP/2; is its target longer than 65534 bytes?")]
    Unwritable,
    /// The connection broke.
    #[error("connection to the upstream lost: {0}")]
    Io(io::Error),
    /// Its head breaks the rules.
    #[error("the upstream's response is malformed: {0}")]
    Malformed(Refusal),
    /// Its body breaks the rules, or is incomplete.
    #[error("the upstream's response: {0}")]
    Body(BodyError),
    /// More interim responses than allowed.
    #[error("the upstream sent too many interim responses")]
    InterimFlood,
}

/// A connection that carries one request. Boxed, because it moves from step to step.
#[derive(Debug)]
pub(crate) enum Connection {
    One(Box<Connection1>),
    Two(Box<Stream2>),
    /// None: the service is in this process.
    Call(Box<CallConnection>),
}

impl Connection {
    /// Whether it carried requests before: the upstream may have closed it unnoticed.
    pub(crate) fn was_used(&self) -> bool {
        match self {
            Self::One(connection) => connection.used > 0,
            Self::Two(_) => true,
            Self::Call(_) => false,
        }
    }

    /// Whether it carries requests beside others, and was opened before a moment, in microseconds of
    /// the core's clock.
    pub(crate) fn is_older_than(&self, moment_us: f64) -> bool {
        matches!(self, Self::Two(stream) if stream.opened_us() < moment_us)
    }

    /// What the upstream has proved, where that is judged again.
    pub(crate) fn peer(&self) -> Option<&UpstreamPeer> {
        match self {
            Self::One(connection) => connection.peer.as_ref(),
            Self::Two(stream) => stream.peer(),
            Self::Call(_) => None,
        }
    }

    pub(crate) fn is_http2(&self) -> bool {
        matches!(self, Self::Two(_))
    }

    pub(crate) fn send_head(&mut self, request: &UpstreamRequest<'_>) -> Result<(), UpstreamFault> {
        match self {
            Self::One(connection) => {
                connection.send_head(request);
                Ok(())
            }
            Self::Two(stream) => stream.send_head(request),
            Self::Call(call) => call.send_head(request),
        }
    }

    /// Ready when a piece of the request's body may be sent.
    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::One(connection) if connection.has_room() => Poll::Ready(Ok(())),
            Self::One(connection) => connection.poll_flush(cx),
            Self::Two(stream) => stream.poll_ready(cx),
            Self::Call(call) => call.poll_ready(cx),
        }
    }

    pub(crate) fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        match self {
            Self::One(connection) => {
                connection.send_frame(frame);
                Ok(())
            }
            Self::Two(stream) => stream.send_frame(frame),
            Self::Call(call) => {
                call.send_frame(frame);
                Ok(())
            }
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::One(connection) => connection.poll_flush(cx),
            Self::Two(stream) => stream.poll_flush(cx),
            Self::Call(call) => call.poll_flush(cx),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::One(connection) => connection.poll_shutdown(cx),
            Self::Two(_) | Self::Call(_) => Poll::Ready(Ok(())),
        }
    }

    /// The response's head. Interim ones (1xx but 101) that come before it are given to `interim`.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        asked: Asked<'_>,
        limits: &Limits,
        interim: &mut dyn FnMut(ResponseHead),
    ) -> Poll<Result<ResponseHead, UpstreamFault>> {
        match self {
            Self::One(connection) => connection.poll_head(cx, asked, limits, interim),
            Self::Two(stream) => stream.poll_head(cx, asked.method, limits, interim),
            Self::Call(call) => call.poll_head(cx, asked.method),
        }
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
    ) -> Poll<Result<Frame, UpstreamFault>> {
        match self {
            Self::One(connection) => connection.poll_frame(cx),
            Self::Two(stream) => stream.poll_frame(cx, limits),
            Self::Call(call) => call.poll_frame(cx),
        }
    }

    /// The client takes no more for now. What streams of one connection have got then costs none of
    /// them more than its bytes.
    pub(crate) fn hold(&mut self, cx: &mut Context<'_>) {
        match self {
            Self::One(_) | Self::Call(_) => {}
            Self::Two(stream) => stream.hold(cx),
        }
    }

    /// Gives it back: a clean HTTP/1 connection goes to the pool, everything else is
    /// closed or reset.
    pub(crate) fn finish(self, pool: &Rc<Pool>, idle_until_ms: u64) {
        if let Self::One(mut connection) = self
            && connection.is_reusable()
        {
            connection.rest(idle_until_ms);
            pool.put(connection);
        }
    }

    /// The response's head has gone on: its list's memory is used for the next one.
    pub(crate) fn recycle(&mut self, fields: Fields) {
        if let Self::One(connection) = self {
            connection.recycle(fields);
        }
    }

    /// Ends a tunnel with a reset: its server must not take what came so far for the whole.
    pub(crate) fn sever(&self) {
        if let Self::One(connection) = self {
            connection.sever();
        }
    }

    /// The upstream may have refused it because it takes less streams at once than it was sent before
    /// it had said so: the next connection begins with what it says by now.
    pub(crate) fn learn_streams_max(&self) {
        if let Self::Two(stream) = self {
            stream.learn_streams_max();
        }
    }

    /// It does not answer, or is about to close: no new requests for it.
    pub(crate) fn abandon(self) {
        if let Self::Two(stream) = &self {
            stream.abandon_session();
        }
    }
}
