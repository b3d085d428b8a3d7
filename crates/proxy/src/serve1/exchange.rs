//! One request and its answer on an HTTP/1 connection.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};

use super::Connection;
use crate::admit::IdentityHeaders;
use crate::deadline::earlier;
use crate::exchange::{BodyError, Exchange, Frame};
use crate::head::{Additions, Framing, RequestHead, ResponseHead, Version};
use crate::http1::body::Decoder;
use crate::http1::encode::{self, Client};
use crate::http1::response::switched_to;
use crate::limits::Limits;
use crate::proxy_protocol::Origin;

/// So much of a request's body that nobody wanted is read to keep the connection, in
/// bytes; with more to come it is closed.
const UNWANTED_BYTES_MAX: u64 = 64 * 1024;
/// So much of the next requests is read while one is answered, in bytes.
const PIPELINED_BYTES_MAX: usize = 16 * 1024;

/// What becomes of the connection.
pub(super) enum Closing {
    /// Another request may come.
    Keep,
    /// Ended politely.
    Linger,
    /// Dropped: the client must see that something is missing.
    Cut,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// No head yet.
    None,
    /// A body of this framing, with so many bytes left when it is `Length`.
    Body(Framing),
    Ended,
    Aborted,
}

pub(super) struct Exchange1<'c> {
    /// The ends of the client's connection.
    pub(super) origin: Option<Origin>,
    connection: &'c mut Connection,
    identity: &'c IdentityHeaders,
    body: Decoder,
    framing: Framing,
    method: Method,
    version: Version,
    accepts_trailers: bool,
    expects_continue: bool,
    keep_alive: bool,
    tunnel: bool,
    ends_by_close: bool,
    severed: bool,
    answer: Answer,
    bytes_out: u64,
    idle: Duration,
    read_until: u64,
    write_until: u64,
    total: u64,
    written_before: u64,
}

impl<'c> Exchange1<'c> {
    /// `head` is `None` for a refused one; the connection ends after its answer.
    pub(super) fn new(
        connection: &'c mut Connection,
        head: Option<&RequestHead>,
        limits: &Limits,
        identity: &'c IdentityHeaders,
    ) -> Self {
        let framing = head.map_or(Framing::None, |head| head.framing);
        let total = connection.watch.ticker().moment(limits.request_ms_max);
        connection.watch.set(total);
        let more = connection.served < limits.requests_per_connection_max;
        Self {
            origin: None,
            body: Decoder::new(framing, limits),
            framing,
            method: head.map_or(Method::GET, |head| head.method.clone()),
            version: head.map_or(Version::Http11, |head| head.version),
            accepts_trailers: head.is_some_and(|head| head.accepts_trailers),
            expects_continue: head.is_some_and(|head| head.expects_continue),
            keep_alive: more && head.is_some_and(|head| head.keep_alive),
            tunnel: false,
            ends_by_close: false,
            severed: false,
            answer: Answer::None,
            bytes_out: 0,
            idle: limits.body_idle_ms_max,
            read_until: 0,
            write_until: 0,
            total,
            written_before: 0,
            connection,
            identity,
        }
    }

    /// Whether the next deadline has passed. Called when there is nothing to do.
    fn poll_late(&mut self, cx: &Context<'_>) -> Poll<()> {
        let next = earlier(self.total, earlier(self.read_until, self.write_until));
        self.connection.watch.set(next);
        self.connection.watch.poll(cx)
    }

    /// Says which time was over.
    fn count_late(&self) {
        let all = self.connection.watch.ticker().now_ms() >= self.total;
        self.connection.hits.count(if all { "request_ms_max" } else { "body_idle_ms_max" });
    }

    /// Whether what is left of the request's body can be read away.
    fn is_rest_small(&self) -> bool {
        match self.framing {
            _ if self.body.ended() => true,
            // It waits for our word, and will perhaps not send it at all.
            _ if self.expects_continue => false,
            Framing::Length(length) => length.saturating_sub(self.body.bytes_read()) <= UNWANTED_BYTES_MAX,
            _ => false,
        }
    }

    fn output(&mut self) -> &mut Vec<u8> {
        self.connection.wire.output()
    }

    /// Writes what is left and decides what becomes of the connection.
    pub(super) async fn finish(mut self) -> io::Result<Closing> {
        if self.answer != Answer::Ended {
            if self.answer != Answer::None {
                // What came before the break is the client's; then it must see the break.
                // In a tunnel nothing bounds that wait, and who was severed has no claim.
                let waits = !self.tunnel && !self.severed;
                let _ = std::future::poll_fn(|cx| match self.poll_flush(cx) {
                    Poll::Pending if !waits => Poll::Ready(Ok(())),
                    other => other,
                })
                .await;
            }
            return Ok(Closing::Cut);
        }
        if !self.connection.wire.is_flushed() {
            std::future::poll_fn(|cx| self.poll_flush(cx)).await?;
        }
        if self.tunnel {
            return Ok(Closing::Linger);
        }
        if self.keep_alive && !self.body.ended() {
            self.body.set_limit(self.body.bytes_read() + UNWANTED_BYTES_MAX);
            self.keep_alive = std::future::poll_fn(|cx| self.poll_drain(cx)).await;
        }
        Ok(if self.keep_alive { Closing::Keep } else { Closing::Linger })
    }

    /// Reads the rest of a body that nobody wants; false when that cannot be done.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        while !self.body.ended() {
            if ready!(self.poll_request(cx)).is_err() {
                return Poll::Ready(false);
            }
        }
        Poll::Ready(true)
    }

    fn end(&mut self, trailers: Option<&crate::head::Fields>) -> io::Result<()> {
        match self.answer {
            Answer::Body(Framing::Chunked) => match trailers {
                Some(fields) if self.accepts_trailers => encode::trailers(self.output(), fields),
                _ => self.output().extend_from_slice(encode::LAST_CHUNK),
            },
            Answer::Body(Framing::Length(1..)) => {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "fewer bytes than the head promised",
                ));
            }
            Answer::None | Answer::Aborted => return Err(io::ErrorKind::InvalidInput.into()),
            Answer::Body(_) | Answer::Ended => {}
        }
        self.answer = Answer::Ended;
        Ok(())
    }
}

/// A client that reads until the connection closes would take an orderly end for the end of the
/// body; a reset says that it is not. With a length or chunks the end alone says so. Here, because
/// a drain that runs out of time drops the exchange wherever it is.
impl Drop for Exchange1<'_> {
    fn drop(&mut self) {
        let is_whole = self.answer == Answer::Ended && self.connection.wire.is_flushed();
        if self.ends_by_close && !is_whole {
            self.connection.wire.link().end_by_reset();
        }
    }
}

impl Exchange for Exchange1<'_> {
    fn origin(&self) -> Option<Origin> {
        self.origin
    }

    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, BodyError>> {
        if self.expects_continue {
            self.expects_continue = false;
            if self.answer == Answer::None {
                self.output().extend_from_slice(encode::CONTINUE);
            }
        }
        loop {
            match self.body.decode(&mut self.connection.wire.input) {
                Ok(Some(Frame::Trailers(mut fields))) => {
                    self.identity.strip(&mut fields);
                    return Poll::Ready(Ok(Frame::Trailers(fields)));
                }
                Ok(Some(frame)) => return Poll::Ready(Ok(frame)),
                Ok(None) => {}
                Err(error) => {
                    self.keep_alive = false;
                    return Poll::Ready(Err(error));
                }
            }
            if !self.connection.wire.is_flushed() {
                // `100 Continue`, or the tunnel's other direction.
                let _ = self.connection.wire.poll_flush(cx)?;
            }
            match self.connection.wire.poll_fill(cx)? {
                Poll::Ready(0) => {
                    self.keep_alive = false;
                    return Poll::Ready(self.body.end_of_input());
                }
                Poll::Ready(_) => self.read_until = 0,
                Poll::Pending => break,
            }
        }
        if self.tunnel {
            return Poll::Pending;
        }
        if self.read_until == 0 {
            self.read_until = self.connection.watch.ticker().moment(self.idle);
        }
        ready!(self.poll_late(cx));
        self.keep_alive = false;
        self.count_late();
        Poll::Ready(Err(BodyError::Timeout))
    }

    fn limit_request(&mut self, bytes_max: u64) {
        self.body.set_limit(bytes_max);
    }

    fn until_ms(&self) -> u64 {
        self.total
    }

    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let wire = &mut self.connection.wire;
        while wire.input.len() < PIPELINED_BYTES_MAX {
            match ready!(wire.poll_fill(cx)) {
                Ok(0) => return Poll::Ready(io::ErrorKind::ConnectionAborted.into()),
                Ok(_) => {}
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Pending
    }

    fn bytes_in(&self) -> u64 {
        self.body.bytes_read()
    }

    fn bytes_out(&self) -> u64 {
        self.bytes_out
    }

    fn send_interim(&mut self, head: &ResponseHead) {
        // HTTP/1.0 has none (RFC 9110 §15.2): its clients would take one for the answer.
        if self.answer == Answer::None && self.version == Version::Http11 {
            encode::interim(self.output(), head);
        }
    }

    fn send_head(&mut self, head: &ResponseHead, additions: &Additions) -> io::Result<()> {
        if self.answer != Answer::None {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.tunnel = head.status == StatusCode::SWITCHING_PROTOCOLS;
        self.keep_alive &=
            !self.tunnel && !self.connection.core_listener.is_draining() && self.is_rest_small();
        let upgrade: Option<Bytes> = if self.tunnel { switched_to(head) } else { None };
        let client = Client {
            version: self.version,
            method: &self.method,
            keep_alive: self.keep_alive,
            upgrade: upgrade.as_deref(),
        };
        let framing = encode::response(self.connection.wire.output(), head, Some(additions), &client);
        self.answer = match framing {
            _ if self.tunnel => Answer::Body(Framing::Close),
            Framing::None | Framing::Length(0) => Answer::Ended,
            other => Answer::Body(other),
        };
        self.ends_by_close = self.tunnel || framing == Framing::Close;
        self.keep_alive &= !self.ends_by_close;
        if self.tunnel {
            self.body = Decoder::new(Framing::Close, &Limits::default());
            self.body.set_limit(u64::MAX);
            self.total = 0;
        }
        Ok(())
    }

    fn head_sent(&self) -> bool {
        self.answer != Answer::None
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.connection.wire.has_room() { Poll::Ready(Ok(())) } else { self.poll_flush(cx) }
    }

    fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        let data = match frame {
            Frame::Data(data) => data,
            Frame::End => return self.end(None),
            Frame::Trailers(fields) => return self.end(Some(&fields)),
        };
        let Answer::Body(framing) = self.answer else {
            // Nothing follows the head of an answer to HEAD.
            return if self.answer == Answer::Ended {
                Ok(())
            } else {
                Err(io::ErrorKind::InvalidInput.into())
            };
        };
        let length = data.len() as u64;
        self.bytes_out += length;
        match framing {
            Framing::Length(left) => {
                let left = left.checked_sub(length).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::InvalidData, "more bytes than the head promised")
                })?;
                self.answer = Answer::Body(Framing::Length(left));
                self.connection.wire.push(data);
            }
            Framing::Chunked if !data.is_empty() => {
                encode::chunk_start(self.output(), data.len());
                self.connection.wire.push(data);
                self.output().extend_from_slice(encode::CHUNK_END);
            }
            _ => self.connection.wire.push(data),
        }
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.connection.wire.poll_flush(cx) {
            Poll::Ready(result) => {
                self.write_until = 0;
                return Poll::Ready(result);
            }
            Poll::Pending => {}
        }
        let written = self.connection.wire.bytes_written;
        if self.write_until == 0 || written != self.written_before {
            self.written_before = written;
            self.write_until = self.connection.watch.ticker().moment(self.idle);
        }
        if self.tunnel {
            return Poll::Pending;
        }
        ready!(self.poll_late(cx));
        self.count_late();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn abort(&mut self) {
        self.keep_alive = false;
        self.answer = Answer::Aborted;
    }

    fn sever(&mut self) {
        self.severed = true;
        self.abort();
    }
}
