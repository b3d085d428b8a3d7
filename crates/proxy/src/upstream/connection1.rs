//! One HTTP/1.1 connection to an upstream: one request at a time, its response read
//! as strictly as a client's request.

use std::io;
use std::task::{Context, Poll, ready};

use super::connection::UpstreamFault;
use super::peer::UpstreamPeer;
use super::pool::Slot;
use crate::admit::{Class, Refusal};
use crate::exchange::Frame;
use crate::head::{Fields, Framing, ResponseHead};
use crate::http1::body::Decoder;
use crate::http1::encode::{self, UpstreamRequest};
use crate::http1::response::{Asked, Reader};
use crate::limits::Limits;
use crate::link::Wire;
use crate::proxy_protocol::Origin;

/// A connection, idle or with one open request.
#[derive(Debug)]
pub(crate) struct Connection1 {
    wire: Wire,
    reader: Reader,
    /// How the request's body is written.
    request: Framing,
    request_ended: bool,
    body: Option<Decoder>,
    tunnel: bool,
    keep_alive: bool,
    interim: u32,
    /// Whose it is, when it began with a PROXY protocol header.
    pub(crate) origin: Option<Origin>,
    /// What it has proved.
    pub(crate) peer: Option<UpstreamPeer>,
    /// Requests before this one.
    pub(crate) used: u64,
    /// Not used again after this moment.
    idle_until_ms: u64,
    _slot: Slot,
}

impl Connection1 {
    pub(crate) fn new(wire: Wire, slot: Slot, origin: Option<Origin>) -> Self {
        Self {
            wire,
            reader: Reader::new(),
            request: Framing::None,
            request_ended: true,
            body: None,
            tunnel: false,
            keep_alive: true,
            interim: 0,
            origin,
            peer: None,
            used: 0,
            idle_until_ms: 0,
            _slot: slot,
        }
    }

    /// A connection that is a tunnel from its first byte on.
    pub(crate) fn tunnel(wire: Wire, slot: Slot, limits: &Limits) -> Self {
        let mut body = Decoder::new(Framing::Close, limits);
        body.set_limit(u64::MAX);
        Self { body: Some(body), tunnel: true, keep_alive: false, ..Self::new(wire, slot, None) }
    }

    /// Whether an idle connection may carry another request: it is open, and the
    /// upstream has sent nothing that nobody asked for. Such bytes would be read as the
    /// answer to the next client's request.
    pub(crate) fn is_usable(&mut self, now_ms: u64) -> bool {
        now_ms < self.idle_until_ms && self.wire.is_quiet()
    }

    /// Whether the response ended cleanly and the connection may carry another request.
    pub(crate) fn is_reusable(&self) -> bool {
        self.keep_alive
            && self.request_ended
            && self.wire.is_flushed()
            && !self.tunnel
            && !self.wire.ended()
            && self.wire.input.is_empty()
            && self.body.as_ref().is_some_and(Decoder::ended)
    }

    /// Readies it for the pool.
    pub(crate) fn rest(&mut self, idle_until_ms: u64) {
        self.used += 1;
        self.idle_until_ms = idle_until_ms;
        self.body = None;
        self.wire.shrink();
    }

    /// Uses a head's memory for the next one.
    pub(crate) fn recycle(&mut self, fields: Fields) {
        self.reader.recycle(fields);
    }

    /// Queues a request head.
    pub(crate) fn send_head(&mut self, request: &UpstreamRequest<'_>) {
        self.interim = 0;
        self.request = request.framing;
        self.request_ended = request.framing == Framing::None && !request.upgrade;
        encode::request(self.wire.output(), request);
    }

    pub(crate) fn has_room(&self) -> bool {
        self.wire.has_room()
    }

    /// Queues a piece of the request's body, or of a tunnel.
    pub(crate) fn send_frame(&mut self, frame: Frame) {
        let chunked = self.request == Framing::Chunked && !self.tunnel;
        match frame {
            Frame::Data(data) if chunked => {
                encode::chunk_start(self.wire.output(), data.len());
                self.wire.push(data);
                self.wire.output().extend_from_slice(encode::CHUNK_END);
            }
            Frame::Data(data) => self.wire.push(data),
            Frame::Trailers(fields) if chunked => {
                encode::trailers(self.wire.output(), &fields);
                self.request_ended = true;
            }
            Frame::End | Frame::Trailers(_) => {
                if chunked {
                    self.wire.output().extend_from_slice(encode::LAST_CHUNK);
                }
                self.request_ended = true;
            }
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_flush(cx)
    }

    /// Ends our side of a tunnel.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wire.poll_shutdown(cx)
    }

    /// When it is dropped its peer sees a reset, not an end.
    pub(crate) fn sever(&self) {
        self.wire.link().end_by_reset();
    }

    /// The response's head. Interim ones before it are counted, and given to `interim`.
    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        asked: Asked<'_>,
        limits: &Limits,
        interim: &mut dyn FnMut(ResponseHead),
    ) -> Poll<Result<ResponseHead, UpstreamFault>> {
        loop {
            match self.reader.read(&mut self.wire.input, limits, asked) {
                Ok(Some(answer)) => {
                    let status = answer.head.status;
                    if status.is_informational() && status != http::StatusCode::SWITCHING_PROTOCOLS {
                        self.interim += 1;
                        if self.interim > limits.interim_responses_max {
                            return Poll::Ready(Err(UpstreamFault::InterimFlood));
                        }
                        interim(answer.head);
                        continue;
                    }
                    self.tunnel = status == http::StatusCode::SWITCHING_PROTOCOLS;
                    self.keep_alive = answer.keep_alive;
                    let framing = if self.tunnel { Framing::Close } else { answer.head.framing };
                    let mut body = Decoder::new(framing, limits);
                    body.set_limit(u64::MAX);
                    self.body = Some(body);
                    return Poll::Ready(Ok(answer.head));
                }
                Ok(None) => {}
                Err(refusal) => return Poll::Ready(Err(UpstreamFault::Malformed(refusal))),
            }
            if ready!(self.wire.poll_fill(cx)).map_err(UpstreamFault::Io)? == 0 {
                let fault = if self.wire.input.is_empty() && self.interim == 0 {
                    UpstreamFault::Closed
                } else {
                    UpstreamFault::Malformed(Refusal::new(Class::BadResponseHead))
                };
                return Poll::Ready(Err(fault));
            }
        }
    }

    /// The next piece of the response's body, or of a tunnel.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, UpstreamFault>> {
        let Some(body) = &mut self.body else { return Poll::Ready(Ok(Frame::End)) };
        loop {
            if let Some(frame) = body.decode(&mut self.wire.input).map_err(UpstreamFault::Body)? {
                return Poll::Ready(Ok(frame));
            }
            if ready!(self.wire.poll_fill(cx)).map_err(UpstreamFault::Io)? == 0 {
                return Poll::Ready(body.end_of_input().map_err(UpstreamFault::Body));
            }
        }
    }
}
