//! One request and its answer, as the forwarder and the steps see it: whatever
//! protocol the client speaks.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;

use crate::head::{Fields, ResponseHead};

/// A piece of a body.
#[derive(Debug)]
pub enum Frame {
    /// Some bytes, never empty.
    Data(Bytes),
    /// Trailer fields (RFC 9110 §6.5). The body is over.
    Trailers(Fields),
    /// The body is over.
    End,
}

/// Why a body could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Malformed chunk, premature end, more data than `Content-Length`.
    #[error("malformed body: {0}")]
    Malformed(&'static str),
    /// Over the body limit.
    #[error("body over the limit of {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: u64,
    },
    /// The peer was silent for too long.
    #[error("no body data within the time limit")]
    Timeout,
    /// The connection or the stream broke.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
}

/// One exchange with a client. Sending only buffers; `poll_ready` is the back-pressure
/// and `poll_flush` moves the bytes.
pub trait Exchange {
    /// The next piece of the request's body. After `End` or `Trailers` it gives `End`.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>>;

    /// Bytes of request body read so far.
    fn bytes_in(&self) -> u64;

    /// Bytes of response body accepted so far.
    fn bytes_out(&self) -> u64;

    /// Sends `100 Continue` when the client waits for it and has not had it yet.
    fn send_continue(&mut self) -> io::Result<()>;

    /// Sends the response head. `Framing` decides how the body is delimited;
    /// `Framing::None` ends the response here. At most once.
    fn send_head(&mut self, head: &ResponseHead) -> io::Result<()>;

    /// Whether a head has been sent.
    fn head_sent(&self) -> bool;

    /// Ready when another frame may be sent.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sends a piece of the response's body; `End` and `Trailers` end it.
    fn send_frame(&mut self, frame: Frame) -> io::Result<()>;

    /// Moves everything that was sent to the peer.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Gives the exchange up after a head was sent: the client must see an
    /// incomplete message (RST_STREAM, or the connection closed without an end).
    fn abort(&mut self);
}
