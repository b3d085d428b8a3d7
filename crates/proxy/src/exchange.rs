//! One request and its answer, as the forwarder and the steps see it: whatever
//! protocol the client speaks.

use std::io;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::StatusCode;
use model::ClientNetwork;

use crate::head::{Additions, Fields, Framing, ResponseHead};
use crate::proxy_protocol::Origin;

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
    /// As much is held of other bodies as may be.
    #[error("no room to hold it: {limit}")]
    NoRoom {
        /// The limit.
        limit: &'static str,
    },
    /// The connection or the stream broke.
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
}

/// One exchange with a client. Sending only buffers; `poll_ready` is the back-pressure
/// and `poll_flush` moves the bytes.
///
/// After a head with status 101 the exchange is a tunnel: request frames are the
/// client's raw bytes, response frames go to it as they are.
pub trait Exchange {
    /// The next piece of the request's body. After `End` or `Trailers` it gives `End`.
    ///
    /// A client that waits for `100 Continue` gets it at the first call, so whoever
    /// wants to refuse without reading the body just does not call this (RFC 9110
    /// §10.1.1).
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>>;

    /// Sets the most bytes of request body that [`Exchange::poll_request`] gives; one
    /// past it is [`BodyError::TooLarge`]. Trailers do not count.
    fn limit_request(&mut self, bytes_max: u64);

    /// The two ends of the client's connection; `None` where there is none.
    fn origin(&self) -> Option<Origin>;

    /// Whose exchange it is, where clients are counted; `None` where that is nobody's.
    fn network(&self) -> Option<ClientNetwork> {
        self.origin().map(|origin| ClientNetwork::of(origin.source.ip()))
    }

    /// When the whole exchange has to be over (`request_ms_max`), as a moment of the core's ticker;
    /// 0: never. Says nothing of what the exchange becomes when it is a tunnel.
    fn until_ms(&self) -> u64;

    /// Ready when the client has gone away while its answer is awaited.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error>;

    /// Bytes of request body read so far.
    fn bytes_in(&self) -> u64;

    /// Bytes of response body accepted so far.
    fn bytes_out(&self) -> u64;

    /// Sends an interim head (1xx but 100 and 101), where the client's protocol has them and no other
    /// head was sent. It may be lost: nobody may rely on one.
    fn send_interim(&mut self, _head: &ResponseHead) {}

    /// Sends the response head with `additions` behind its own fields. `head.framing`
    /// decides how the body is delimited; [`Framing::None`] ends the response here. At
    /// most once.
    ///
    /// # Errors
    /// A head was already sent, or the stream has broken.
    fn send_head(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()>;

    /// Whether a head has been sent.
    fn head_sent(&self) -> bool;

    /// Ready when another frame may be sent.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Sends a piece of the response's body; `End` and `Trailers` end it.
    ///
    /// # Errors
    /// More bytes than the head promised, or the stream has broken.
    fn send_frame(&mut self, frame: Frame) -> io::Result<()>;

    /// Moves everything that was sent to the peer.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Gives the exchange up: after a head was sent the client must see an incomplete
    /// message (RST_STREAM, or the connection closed without an end); before that it
    /// sees the connection end.
    fn abort(&mut self);

    /// Gives the exchange up at once, although the client may not have read what was
    /// sent: it has lost the right to it. No default: a layer that forgot it would let a
    /// cut wait for the client.
    fn sever(&mut self);

    /// Queues a whole answer of our own. It leaves when the handler returns.
    ///
    /// # Errors
    /// A head was already sent, or the stream has broken.
    fn respond(&mut self, status: StatusCode, additions: &Additions, body: Bytes) -> io::Result<()> {
        // 204 and 304 have no body and 204 no Content-Length (RFC 9110 §8.6).
        let bodiless = status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
        let framing = if bodiless { Framing::None } else { Framing::Length(body.len() as u64) };
        self.send_head(&ResponseHead { status, fields: Fields::default(), framing }, additions)?;
        if bodiless {
            return Ok(());
        }
        if !body.is_empty() {
            self.send_frame(Frame::Data(body))?;
        }
        self.send_frame(Frame::End)
    }
}
