//! HTTP/2 to upstreams: one session per connection, one stream per request.

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::client::{self, ResponseFuture, SendRequest};
use http::Method;

use super::connection::UpstreamFault;
use super::dial::DialError;
use super::filtered::Filtered;
use super::peer::UpstreamPeer;
use super::pool::{Pool, Slot};
use crate::exchange::{BodyError, Frame};
use crate::head::{Framing, ResponseHead};
use crate::http1::encode::UpstreamRequest;
use crate::http2::head::{Unwritable, response_from_h2, to_h2_request, trailers_from_h2, trailers_to_h2};
use crate::limits::Limits;
use crate::link::Link;
use crate::proxy_protocol::Origin;
use crate::stream2::{Received, Receiver, Sender, frame_budget};

/// A stream's receive window in bytes: what an upstream may send before the client has taken
/// it.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Streams on one connection before another one is opened.
const STREAMS_MAX: u32 = 100;
/// A connection's receive window in bytes, and so the most that we hold of its bodies: 12.5 MiB.
/// It has room for all streams at once: the clients that share a connection are strangers to each
/// other, and those who do not read must stop nobody else's answer.
const CONNECTION_WINDOW: u32 = STREAMS_MAX * STREAM_WINDOW;

/// One connection.
#[derive(Debug)]
pub(crate) struct Session2 {
    /// Whose it is, when it began with a PROXY protocol header.
    pub(crate) origin: Option<Origin>,
    /// What the other end has proved.
    peer: Option<UpstreamPeer>,
    /// When, in microseconds of the core's clock.
    opened_us: f64,
    send: SendRequest<Bytes>,
    state: Rc<State>,
}

#[derive(Debug)]
struct State {
    streams: Cell<u32>,
    over: Cell<bool>,
    idle_until_ms: Cell<u64>,
}

impl Session2 {
    pub(crate) async fn start(
        link: Link,
        slot: Slot,
        limits: &Limits,
        pool: &Pool,
        origin: Option<Origin>,
        peer: Option<UpstreamPeer>,
    ) -> Result<Self, DialError> {
        let (send, connection) = client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .data_frame_budget(frame_budget(CONNECTION_WINDOW))
            .initial_max_send_streams(pool.streams_max.get().max(1))
            .max_header_list_size(limits.http2_header_list_bytes_max)
            .handshake(Filtered::new(link))
            .await
            .map_err(|error| DialError::Http2(error.to_string()))?;
        let state = Rc::new(State {
            streams: Cell::new(0),
            over: Cell::new(false),
            idle_until_ms: Cell::new(pool.session_idle_until_ms()),
        });
        let watched = Rc::clone(&state);
        // Per connection, not per request: it moves the frames of all streams.
        tokio::task::spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "HTTP/2 connection to an upstream ended");
            }
            watched.over.set(true);
            drop(slot);
        });
        Ok(Self { origin, peer, opened_us: pool.ticker.read_now_us(), send, state })
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.over.get()
    }

    pub(crate) fn is_unused(&self) -> bool {
        self.state.streams.get() == 0
    }

    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.is_unused() && self.state.idle_until_ms.get() < now_ms
    }

    pub(crate) fn has_room(&self) -> bool {
        let allowed = u32::try_from(self.send.current_max_send_streams()).unwrap_or(u32::MAX);
        self.state.streams.get() < allowed.min(STREAMS_MAX)
    }
}

/// One request on a session.
#[derive(Debug)]
pub(crate) struct Stream2 {
    pool: Rc<Pool>,
    session: Rc<Session2>,
    response: Option<ResponseFuture>,
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    interim: u32,
}

impl Stream2 {
    pub(crate) fn open(pool: &Rc<Pool>, session: &Rc<Session2>) -> Self {
        session.state.streams.set(session.state.streams.get() + 1);
        Self {
            pool: Rc::clone(pool),
            session: Rc::clone(session),
            response: None,
            sender: None,
            receiver: None,
            interim: 0,
        }
    }

    /// When its session was opened, in microseconds of the core's clock.
    pub(crate) fn opened_us(&self) -> f64 {
        self.session.opened_us
    }

    /// What the other end has proved.
    pub(crate) fn peer(&self) -> Option<&UpstreamPeer> {
        self.session.peer.as_ref()
    }

    pub(crate) fn send_head(&mut self, request: &UpstreamRequest<'_>) -> Result<(), UpstreamFault> {
        let https = self.pool.tls.is_some();
        let built = to_h2_request(request, https).map_err(|Unwritable| UpstreamFault::Unwritable)?;
        let ended = request.framing == Framing::None;
        let (response, stream) = self.session.send.clone().send_request(built, ended).map_err(fault)?;
        self.response = Some(response);
        self.sender = Some(Sender::new(stream, ended));
        Ok(())
    }

    pub(crate) fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.as_mut().map_or(Poll::Ready(Ok(())), |sender| sender.poll_ready(cx))
    }

    pub(crate) fn send_frame(&mut self, frame: Frame) -> io::Result<()> {
        let Some(sender) = &mut self.sender else { return Ok(()) };
        match frame {
            Frame::Data(data) => sender.data(data)?,
            Frame::End => sender.end(None),
            Frame::Trailers(fields) => {
                let trailers = trailers_to_h2(&fields)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
                sender.end(Some(trailers));
            }
        }
        Ok(())
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.as_mut().map_or(Poll::Ready(Ok(())), |sender| sender.poll_flush(cx))
    }

    pub(crate) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        method: &Method,
        limits: &Limits,
        interim: &mut dyn FnMut(ResponseHead),
    ) -> Poll<Result<ResponseHead, UpstreamFault>> {
        let Some(response) = &mut self.response else { return Poll::Ready(Err(UpstreamFault::Closed)) };
        while let Poll::Ready(Some(told)) = response.poll_informational(cx) {
            let (parts, ()) = told.map_err(fault)?.into_parts();
            self.interim += 1;
            if self.interim > limits.interim_responses_max {
                return Poll::Ready(Err(UpstreamFault::InterimFlood));
            }
            // As one to a GET: it has no body, and no length speaks of another's.
            let head = response_from_h2(&parts, false, &Method::GET, Vec::new());
            interim(head.map_err(UpstreamFault::Malformed)?);
        }
        let (parts, body) = ready!(std::pin::Pin::new(response).poll(cx)).map_err(fault)?.into_parts();
        let ended = body.is_end_stream();
        let head = response_from_h2(&parts, ended, method, Vec::new()).map_err(UpstreamFault::Malformed)?;
        self.receiver = Some(Receiver::new(body));
        self.response = None;
        Poll::Ready(Ok(head))
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        limits: &Limits,
    ) -> Poll<Result<Frame, UpstreamFault>> {
        let Some(receiver) = &mut self.receiver else { return Poll::Ready(Ok(Frame::End)) };
        Poll::Ready(match ready!(receiver.poll(cx)) {
            Ok(Received::Data(data)) => Ok(Frame::Data(data)),
            Ok(Received::End) => Ok(Frame::End),
            Ok(Received::Trailers(trailers)) => match trailers_from_h2(&trailers, limits) {
                Ok(fields) if fields.is_empty() => Ok(Frame::End),
                Ok(fields) => Ok(Frame::Trailers(fields)),
                Err(class) => Err(UpstreamFault::Body(BodyError::Malformed(class.name()))),
            },
            Err(error) => Err(UpstreamFault::Io(error)),
        })
    }

    pub(crate) fn learn_streams_max(&self) {
        self.pool.streams_max.set(self.session.send.current_max_send_streams());
    }

    /// Keeps what has come of the response's body while the client takes no more.
    pub(crate) fn hold(&mut self, cx: &mut Context<'_>) {
        if let Some(receiver) = &mut self.receiver {
            receiver.hold(cx);
        }
    }

    /// It did not answer in time: new requests should not wait on the same connection.
    pub(crate) fn abandon_session(&self) {
        self.pool.abandon(&self.session);
    }
}

impl Drop for Stream2 {
    fn drop(&mut self) {
        if let Some(sender) = &mut self.sender
            && (!sender.is_ended() || !self.receiver.as_ref().is_some_and(Receiver::is_over))
        {
            sender.reset(h2::Reason::CANCEL);
        }
        let state = &self.session.state;
        state.streams.set(state.streams.get() - 1);
        state.idle_until_ms.set(self.pool.session_idle_until_ms());
        self.pool.stream_ended(&self.session);
    }
}

/// Says whether the upstream may have worked on the request: a stream that it refused
/// or never saw may be sent again (RFC 9113 §8.7).
fn fault(error: h2::Error) -> UpstreamFault {
    match error.reason() {
        _ if error.is_go_away() && error.is_remote() => UpstreamFault::GoneAway,
        Some(h2::Reason::REFUSED_STREAM) => UpstreamFault::Refused,
        _ => UpstreamFault::Io(crate::stream2::broken(error)),
    }
}
